// Numbers and elements, as the views of the page show them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Returns a number of bytes: 950 B, 14.1 kB, 31.1 MB. */
export function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  const text = bytes >= 99.95 || unit === 0 ? bytes.toFixed(0) : bytes.toFixed(1).replace(".0", "");
  return `${text} ${UNITS[unit]}`;
}

/** Returns a number of seconds: 40 s, 12 min, 3.5 h. */
export function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  if (seconds < 6000) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1).replace(".0", "")} h`;
}

/** Returns a new element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Sets the text of an element if it differs, so that a selection of it stays. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
