// data-opens="id" shows a <dialog>; where it stands on a link, the link is the way without script.
import { once } from "./once.js";

export function initDialogs(root) {
  root.querySelectorAll("[data-opens]").forEach((opener) => {
    const dialog = document.getElementById(opener.dataset.opens);
    if (!dialog || !once(opener, "opens")) return;
    opener.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      dialog.showModal();
    });
  });
  root.querySelectorAll("dialog [data-closes]").forEach((closer) => {
    if (!once(closer, "closes")) return;
    closer.addEventListener("click", (event) => {
      event.preventDefault();
      closer.closest("dialog").close();
    });
  });
  root.querySelectorAll("dialog.dlg").forEach((dialog) => {
    if (!once(dialog, "scrim")) return;
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the backdrop
    });
  });
}
