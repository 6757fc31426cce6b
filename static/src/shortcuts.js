// Single keys outside of fields: data-key="l" on a link or button, J and K in lists, ? for all keys.
import { current, move } from "./rows.js";

const TYPING = "input:not([type=checkbox]), textarea, select, [contenteditable], .xterm, dialog[open]";

function press(element) {
  if (!element || element.disabled) return false;
  element.click();
  return true;
}

function handle(key) {
  if (key === "j") return move(1) ?? true;
  if (key === "k") return move(-1) ?? true;
  if (key === "?") return press(document.querySelector("[data-opens=keys]"));
  const pattern = `[data-key="${CSS.escape(key)}"]`;
  return press(current()?.querySelector(pattern)) || press(document.querySelector(`${pattern}:not([data-row] *)`));
}

export function initShortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.target.closest?.(TYPING) || document.querySelector("dialog[open]")) return;
    if (handle(event.key.toLowerCase())) event.preventDefault();
  });
}
