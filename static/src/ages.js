// <time data-age datetime="…"> counts on by itself, so that a poll only changes what really changed.
const UNITS = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
];

export function words(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [size, unit, part, partUnit] of UNITS) {
    if (whole >= size) return `${Math.floor(whole / size)} ${unit} ${Math.floor((whole % size) / part)} ${partUnit}`;
  }
  return whole >= 60 ? `${Math.floor(whole / 60)} min` : `${whole} s`;
}

// The server's clock counts, not this machine's: the page says when it was made.
const made = Date.parse(document.documentElement.dataset.now ?? "");
const skew = Number.isNaN(made) ? 0 : Date.now() - made;

function show(time) {
  const since = Date.parse(time.dateTime);
  const text = words((Date.now() - skew - since) / 1000);
  if (!Number.isNaN(since) && time.textContent !== text) time.textContent = text;
}

export function initAges(root) {
  root.querySelectorAll("time[data-age]").forEach(show);
}

setInterval(() => {
  if (document.visibilityState === "visible") initAges(document);
}, 1000);
