// Keys that the terminal does not keep for itself, and the row of keys for screens without a keyboard.
const SEQUENCES = { esc: "\x1b", tab: "\t", enter: "\r" };
const ARROWS = { up: "A", down: "B", right: "C", left: "D" };

function control(character) {
  const code = character.toUpperCase().charCodeAt(0);
  return code >= 64 && code < 96 ? String.fromCharCode(code & 31) : character;
}

function copy(screen) {
  const text = screen.term.getSelection();
  if (!text) return;
  if (navigator.clipboard) navigator.clipboard.writeText(text);
  else document.execCommand("copy"); // plain HTTP: xterm answers the event with its selection
}

// Ctrl+Shift+Enter leaves, Ctrl+Shift+F finds, Ctrl+Shift+C copies; everything else belongs to the program.
export function initShortcuts(screen, { leave, find }) {
  const actions = { Enter: leave, KeyF: find, KeyC: () => copy(screen) };
  screen.term.attachCustomKeyEventHandler((event) => {
    const action = event.ctrlKey && event.shiftKey && !event.altKey && !event.metaKey && actions[event.code];
    if (!action) return true;
    event.preventDefault();
    event.stopPropagation();
    if (event.type === "keydown") action();
    return false;
  });
}

export function initKeyRow(row, screen) {
  const ctrl = row.querySelector('[data-terminal-key="ctrl"]');
  const held = () => ctrl?.getAttribute("aria-pressed") === "true";
  const hold = (on) => ctrl?.setAttribute("aria-pressed", String(on));

  screen.transform = (text) => {
    if (!held() || text.length !== 1) return text;
    hold(false);
    return control(text);
  };

  row.addEventListener("pointerdown", (event) => event.preventDefault()); // the terminal keeps focus and its keyboard
  row.addEventListener("click", (event) => {
    const key = event.target.closest("[data-terminal-key]")?.dataset.terminalKey;
    if (!key) return;
    if (key === "ctrl") hold(!held());
    else if (ARROWS[key]) {
      const prefix = held() ? "\x1b[1;5" : screen.term.modes.applicationCursorKeysMode ? "\x1bO" : "\x1b[";
      hold(false);
      screen.term.input(prefix + ARROWS[key]);
    } else screen.term.input(SEQUENCES[key]);
    if (event.pointerType) screen.term.focus();
  });
}
