// What every page runs: htmx, then our modules, again on each part that htmx puts in.
import htmx from "htmx.org";
import { Idiomorph } from "idiomorph";

import { initAges } from "./ages.js";
import { initDialogs } from "./dialogs.js";
import { initInvitation } from "./invitation.js";
import { initForms } from "./forms.js";
import { initLive } from "./live.js";
import { initMounts } from "./mounts.js";
import { initOpLogs } from "./oplog.js";
import { initRows } from "./rows.js";
import { initShortcuts } from "./shortcuts.js";
import { initThemeButton } from "./theme-button.js";
import { initToasts } from "./toasts.js";

htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false;
htmx.config.selfRequestsOnly = true;
htmx.config.historyCacheSize = 0; // a page holds other people's secrets once somebody else logs in

// hx-swap="morph": change what differs, keep focus, selection and scroll position
htmx.defineExtension("morph", {
  isInlineSwap: (style) => style === "morph",
  handleSwap(style, target, fragment) {
    if (style !== "morph") return false;
    return Idiomorph.morph(target, fragment.children, { morphStyle: "innerHTML" });
  },
});

const PARTS = [
  initAges,
  initDialogs,
  initForms,
  initInvitation,
  initMounts,
  initOpLogs,
  initRows,
  initThemeButton,
  initToasts,
];

function init(root) {
  for (const part of PARTS) part(root);
}

function start() {
  init(document);
  initLive(htmx);
  initShortcuts();
  document.body.addEventListener("htmx:afterSettle", (event) => init(event.detail.target));
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
