// A log that is read at its end stays at its end; one that was scrolled up stays where it is.
import { once } from "./once.js";

const following = new WeakMap();

export function initLogs(root) {
  root.querySelectorAll("[data-log]").forEach((log) => {
    if (once(log, "log")) {
      following.set(log, true);
      log.addEventListener("scroll", () => {
        following.set(log, log.scrollHeight - log.scrollTop - log.clientHeight < 24);
      });
    }
    if (following.get(log)) log.scrollTop = log.scrollHeight;
  });
}
