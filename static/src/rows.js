// J and K move through the rows of a list; the current row's data-key buttons answer to their keys.
const CURRENT = "is-current";

export function rows() {
  return [...document.querySelectorAll("[data-rows] [data-row]")];
}

export function current() {
  return document.querySelector(`[data-rows] .${CURRENT}`);
}

let place = null; // key of the current row: it survives an update of the list

export function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  mark(next);
  next.querySelector("a")?.focus();
  next.scrollIntoView({ block: "nearest" });
}

function mark(row) {
  place = row?.dataset.row ?? null;
  initRows();
}

export function initRows() {
  for (const row of rows()) row.classList.toggle(CURRENT, row.dataset.row === place);
}

document.addEventListener("focusin", (event) => {
  const row = event.target.closest("[data-rows] [data-row]");
  if (row && row.dataset.row !== place) mark(row);
});
