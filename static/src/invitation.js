// The secret of an invitation stands behind the # of its address, which no server and no log ever sees.
import { once } from "./once.js";

export function initInvitation(root) {
  root.querySelectorAll("form[data-invitation]").forEach((form) => {
    const secret = window.location.hash.slice(1);
    if (!secret || !once(form, "invitation")) return;
    form.querySelector("[name=secret]").value = secret;
    window.history.replaceState(null, "", window.location.pathname);
    form.requestSubmit();
  });
}
