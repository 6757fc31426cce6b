// Wires every [data-terminal]: screen, connection, keys, what the foot says. Loaded by the agent's page only.
import { Connection } from "./terminal-connection.js";
import { initFind } from "./terminal-find.js";
import { initKeyRow, initShortcuts } from "./terminal-keys.js";
import { Screen } from "./terminal-screen.js";

const STATES = {
  connecting: () => "Connecting",
  connected: () => "Connected",
  waiting: () => "Waiting for the agent",
  reconnecting: ({ reason }) => `${reason ? `Refused: ${reason}. ` : ""}Reconnecting`,
  ended: ({ reason }) => `Ended${reason ? `: ${reason}` : ""}`,
};

// For extensions, assistive scripts and tests: what each terminal of the page shows.
const terminals = (window.jackinTerminals = window.jackinTerminals ?? []);

function address(root, screen) {
  const url = new URL(root.dataset.url, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("rows", screen.rows);
  url.searchParams.set("columns", screen.columns);
  return url.href;
}

function statusOf(root) {
  const line = root.querySelector("[data-terminal-status]");
  const seconds = root.querySelector("[data-terminal-seconds]");
  const again = root.querySelector("[data-terminal-again]");
  return (status) => {
    root.dataset.state = status.state;
    const words = STATES[status.state](status);
    if (line && line.textContent !== words) line.textContent = words; // spoken when it changes, not each second
    if (seconds) seconds.textContent = status.seconds ? `in ${status.seconds} s` : "";
    if (again) again.hidden = status.state !== "reconnecting";
  };
}

function connect(root, screen) {
  const show = statusOf(root);
  const viewers = root.querySelector("[data-terminal-viewers]");
  const connection = new Connection({
    url: () => address(root, screen),
    page: location.pathname,
    handlers: {
      status: show,
      ready: (replay) => screen.restart(replay),
      bytes: (bytes, shown) => screen.write(bytes, shown),
      viewers: (count, answers) => {
        screen.answers = answers;
        if (viewers) viewers.textContent = count > 1 ? `${count} windows` : "";
      },
    },
  });
  root.querySelector("[data-terminal-again]")?.addEventListener("click", () => connection.retryNow());
  return connection;
}

function initFullScreen(root, screen) {
  const button = root.querySelector("[data-terminal-full]");
  if (!button || !document.fullscreenEnabled) {
    button?.remove();
    return;
  }
  button.addEventListener("click", () => {
    if (document.fullscreenElement === root) document.exitFullscreen();
    else root.requestFullscreen().then(() => screen.term.focus());
  });
  root.addEventListener("fullscreenchange", () => {
    button.setAttribute("aria-pressed", String(document.fullscreenElement === root));
  });
}

function initReader(root, screen) {
  const button = root.querySelector("[data-terminal-reader]");
  if (!button) return;
  const show = () => button.setAttribute("aria-pressed", String(screen.readerMode));
  button.addEventListener("click", () => {
    screen.readerMode = !screen.readerMode;
    show();
  });
  show();
}

function initOne(root) {
  const place = root.querySelector("[data-terminal-screen]");
  const size = root.querySelector("[data-terminal-size]");
  let connection = null;
  const screen = new Screen(place, {
    label: root.dataset.label ?? "Terminal",
    onInput: (bytes) => connection?.type(bytes),
    onSize: (rows, columns) => {
      if (size) size.textContent = `${columns} × ${rows}`;
      connection?.resize(rows, columns);
    },
  });
  const bar = root.querySelector("[data-terminal-find]");
  const find = bar ? initFind(bar, screen) : () => {};
  root.querySelector("[data-terminal-open-find]")?.addEventListener("click", find);
  const exit = root.querySelector("[data-terminal-exit]");
  initShortcuts(screen, { leave: () => (exit ? exit.focus() : screen.term.blur()), find });
  const keys = root.querySelector("[data-terminal-keys]");
  if (keys) initKeyRow(keys, screen);
  initFullScreen(root, screen);
  initReader(root, screen);
  connection = connect(root, screen);
  if (document.activeElement === document.body && matchMedia("(pointer: fine)").matches) screen.term.focus();
  const handle = { root, term: screen.term, text: () => screen.text(), state: () => root.dataset.state };
  terminals.push(handle);
  return { root, handle, close: () => { connection.close(); screen.dispose(); } };
}

const running = [];

// Starts the terminals in `root` that do not run yet, ends those whose element has left the page.
export function initTerminal(root) {
  for (const one of [...running]) {
    if (one.root.isConnected) continue;
    one.close();
    running.splice(running.indexOf(one), 1);
    terminals.splice(terminals.indexOf(one.handle), 1);
  }
  for (const element of root.querySelectorAll("[data-terminal]")) {
    if (!running.some((one) => one.root === element)) running.push(initOne(element));
  }
}

function start() {
  initTerminal(document);
  document.body.addEventListener("htmx:afterSettle", () => initTerminal(document));
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
