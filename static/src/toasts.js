// Messages of the last action: closed by hand, and by themselves when they are good news.
import { once } from "./once.js";

const SECONDS = 8;

export function initToasts(root) {
  root.querySelectorAll("[data-toast]").forEach((toast) => {
    if (!once(toast, "toast")) return;
    const close = toast.querySelector("[data-dismiss]");
    close.hidden = false;
    close.addEventListener("click", () => toast.remove());
    if (toast.dataset.toast === "brief") setTimeout(() => toast.remove(), SECONDS * 1000);
  });
}
