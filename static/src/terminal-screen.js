// The screen: xterm.js, its add-ons, its colours, and the rule who answers a program's questions.
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";

const SCROLLBACK = 5000;
const RESIZE_AFTER = 120; // ms without a further change of the window
const READER_KEY = "jackin-terminal-reader";
const RESET = new Uint8Array([0x18, 0x1b, 0x63]); // leave whatever sequence was cut off, then reset everything

function theme(element) {
  const style = getComputedStyle(element);
  const token = (name) => style.getPropertyValue(`--term-${name}`).trim();
  return {
    background: token("bg"),
    foreground: token("text"),
    cursor: token("green"),
    cursorAccent: token("bg"),
    selectionBackground: token("dim"),
    selectionForeground: token("bg"),
    black: token("edge"),
    red: token("red"),
    green: token("green"),
    yellow: token("amber"),
    cyan: token("cyan"),
    white: token("text"),
    brightBlack: token("dim"),
    brightRed: token("red"),
    brightGreen: token("green"),
    brightYellow: token("amber"),
    brightCyan: token("cyan"),
    brightWhite: token("bright"),
  };
}

function open(uri) {
  window.open(uri, "_blank", "noopener,noreferrer");
}

export class Screen {
  // `onInput` gets bytes to type, `onSize` rows and columns after the window settled.
  constructor(element, { label, onInput, onSize }) {
    this.answers = true;
    this.transform = (text) => text;
    this._replayToCome = 0; // bytes that will arrive
    this._replaying = 0; // bytes that will be parsed
    const fonts = getComputedStyle(element);
    this.term = new Terminal({
      allowProposedApi: true, // unicode11
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      fontFamily: fonts.fontFamily,
      fontSize: parseFloat(fonts.fontSize),
      lineHeight: 1.2,
      minimumContrastRatio: 4.5,
      macOptionIsMeta: true,
      screenReaderMode: localStorage.getItem(READER_KEY) === "on",
      scrollback: SCROLLBACK,
      theme: theme(element),
    });
    this._fit = new FitAddon();
    this.search = new SearchAddon();
    for (const addon of [this._fit, this.search, new Unicode11Addon(), new WebLinksAddon((_event, uri) => open(uri))]) {
      this.term.loadAddon(addon);
    }
    this.term.unicode.activeVersion = "11";
    this.term.open(element);
    this.term.textarea?.setAttribute("aria-label", label);
    this._answerOnce();
    this._readInput(onInput);
    this._watchSize(element, onSize);
  }

  get rows() { return this.term.rows; }
  get columns() { return this.term.cols; }

  // Show bytes; `shown` gets how many were parsed. The end of a replay is where old questions end and new ones begin.
  write(bytes, shown) {
    const replay = Math.min(this._replayToCome, bytes.length);
    this._replayToCome -= replay;
    if (replay) {
      this.term.write(bytes.subarray(0, replay), () => {
        this._replaying -= replay;
        shown(replay);
      });
    }
    const fresh = bytes.subarray(replay);
    if (fresh.length) this.term.write(fresh, () => shown(fresh.length));
  }

  // Forget everything; the next `replay` bytes are output from before.
  restart(replay) {
    this._replayToCome = replay;
    this.term.write(RESET, () => { this._replaying = replay; });
  }

  fit() {
    const size = this._fit.proposeDimensions();
    if (!size || !(size.cols >= 2) || !(size.rows >= 1)) return; // hidden: keep what it was
    if (size.cols !== this.term.cols || size.rows !== this.term.rows) {
      this.term.resize(Math.min(size.cols, 1000), Math.min(size.rows, 1000));
    }
  }

  get readerMode() { return this.term.options.screenReaderMode; }

  set readerMode(on) {
    this.term.options.screenReaderMode = on;
    localStorage.setItem(READER_KEY, on ? "on" : "off");
  }

  // Everything it holds as text, wrapped lines joined.
  text() {
    const buffer = this.term.buffer.active;
    const lines = [];
    for (let row = 0; row < buffer.length; row += 1) {
      const line = buffer.getLine(row);
      const text = line.translateToString(!buffer.getLine(row + 1)?.isWrapped);
      if (line.isWrapped && lines.length) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    return lines.join("\n").trimEnd();
  }

  // A program asks for cursor, colours, modes; xterm types the answer. Two windows would type it twice, and a replay would
  // answer questions of long ago: the shell would show them as garbage.
  _answerOnce() {
    const silent = () => !this.answers || this._replaying > 0;
    const parser = this.term.parser;
    for (const id of [
      { final: "c" }, { prefix: ">", final: "c" }, { final: "n" }, { prefix: "?", final: "n" },
      { intermediates: "$", final: "p" }, { prefix: "?", intermediates: "$", final: "p" },
    ]) parser.registerCsiHandler(id, silent);
    parser.registerDcsHandler({ intermediates: "$", final: "q" }, silent);
    for (const id of [4, 10, 11, 12]) parser.registerOscHandler(id, (data) => data.includes("?") && silent());
  }

  _readInput(onInput) {
    const encoder = new TextEncoder();
    this.term.onData((text) => onInput(encoder.encode(this.transform(text))));
    this.term.onBinary((text) => onInput(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  }

  _watchSize(element, onSize) {
    let timer = 0;
    let known = "";
    const settle = () => {
      this.fit();
      const size = `${this.rows} ${this.columns}`;
      if (size !== known) onSize(this.rows, this.columns);
      known = size;
    };
    settle();
    this._observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(settle, RESIZE_AFTER);
    });
    this._observer.observe(element);
    document.fonts?.ready.then(settle);
  }

  dispose() {
    this._observer.disconnect();
    this.term.dispose();
  }
}
