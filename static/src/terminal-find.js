// Searching in the terminal's text.
export function initFind(bar, screen) {
  const field = bar.querySelector("input");
  const search = (backwards, incremental = false) => {
    if (!field.value) {
      screen.search.clearDecorations();
      return;
    }
    const found = backwards ? screen.search.findPrevious(field.value) : screen.search.findNext(field.value, { incremental });
    field.setAttribute("aria-invalid", String(!found));
    bar.querySelector("[data-terminal-found]").textContent = found ? "" : "Not found";
  };
  const close = () => {
    bar.hidden = true;
    screen.search.clearDecorations();
    screen.term.focus();
  };

  field.addEventListener("input", () => search(false, true));
  bar.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && event.target === field) search(event.shiftKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  bar.querySelector("[data-terminal-previous]").addEventListener("click", () => search(true));
  bar.querySelector("[data-terminal-next]").addEventListener("click", () => search(false));
  bar.querySelector("[data-terminal-find-close]").addEventListener("click", close);

  return () => {
    bar.hidden = false;
    field.focus();
    field.select();
  };
}
