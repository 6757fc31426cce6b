// Whether `element` meets the module called `name` for the first time: parts are initialised again after each swap.
const seen = new WeakMap();

export function once(element, name) {
  const names = seen.get(element) ?? new Set();
  if (names.has(name)) return false;
  names.add(name);
  seen.set(element, names);
  return true;
}
