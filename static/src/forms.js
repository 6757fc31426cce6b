// Forms: sent once, Ctrl+Enter sends, the first field in error gets the focus.
import { once } from "./once.js";

function guard(form) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (sent) event.preventDefault();
    sent = true;
  });
  // the browser's back button shows the form again as it was left
  window.addEventListener("pageshow", () => {
    sent = false;
  });
}

function sendByKeys(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector("[data-main-submit]") ?? undefined);
  });
}

export function initForms(root) {
  root.querySelectorAll("form[method=post]").forEach((form) => {
    if (once(form, "guard")) guard(form);
  });
  root.querySelectorAll("form[data-send-by-keys]").forEach((form) => {
    if (once(form, "keys")) sendByKeys(form);
  });
  if (root === document) document.querySelector("[data-errors] a[href^='#']")?.focus();
}
