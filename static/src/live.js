// Parts marked data-live="seconds" ask for themselves while the page is seen; a lost connection is said, not hidden.
const lastAnswer = new WeakMap();
const nextAt = new WeakMap();

function due(part, now) {
  const pause = Number(part.dataset.live) * 1000;
  if (!nextAt.has(part)) nextAt.set(part, now + pause);
  if (now < nextAt.get(part)) return false;
  nextAt.set(part, now + pause);
  return true;
}

function offline(is) {
  const notice = document.querySelector("[data-offline]");
  if (notice) notice.hidden = !is;
}

export function initLive(htmx) {
  const tick = () => {
    if (document.visibilityState !== "visible") return;
    const now = Date.now();
    document.querySelectorAll("[data-live]").forEach((part) => {
      if (part.querySelector("[data-over]")) return; // what it shows has come to its end
      if (due(part, now)) htmx.trigger(part, "live");
    });
  };
  setInterval(tick, 500);
  document.addEventListener("visibilitychange", () => {
    document.querySelectorAll("[data-live]").forEach((part) => nextAt.set(part, 0));
    tick();
  });

  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (!target.matches("[data-live]")) return;
    if (lastAnswer.get(target) === xhr.responseText) event.detail.shouldSwap = false;
    lastAnswer.set(target, xhr.responseText);
  });
  document.body.addEventListener("htmx:sendError", () => offline(true));
  document.body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.xhr?.status) offline(event.detail.xhr.status >= 502);
  });
}
