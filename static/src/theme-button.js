// The theme button: as the system, light, dark. Kept in this browser only.
import { once } from "./once.js";

const ORDER = ["system", "light", "dark"];
const NAMES = { system: "as the system", light: "light", dark: "dark" };

const now = () => document.documentElement.dataset.theme ?? "system";

function show(button) {
  button.setAttribute("aria-label", `Theme: ${NAMES[now()]}`);
  button.title = `Theme: ${NAMES[now()]}`;
  button.querySelectorAll("[data-theme-icon]").forEach((icon) => {
    icon.hidden = icon.dataset.themeIcon !== now();
  });
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // storage is forbidden: the choice holds for this page
  }
}

export function initThemeButton(root) {
  root.querySelectorAll("[data-theme-button]").forEach((button) => {
    button.hidden = false;
    show(button);
    if (!once(button, "theme")) return;
    button.addEventListener("click", () => {
      choose(ORDER[(ORDER.indexOf(now()) + 1) % ORDER.length]);
      show(button);
    });
  });
}
