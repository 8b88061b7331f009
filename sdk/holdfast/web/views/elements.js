// Changes of the page in place, so that text can be selected and the focus stays. Everything is inserted as text.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const SVG = "http://www.w3.org/2000/svg";
export const BELL = "M12 22a2.2 2.2 0 0 0 2.2-2.2H9.8A2.2 2.2 0 0 0 12 22Zm7-5.5V11c0-3.3-1.8-6-4.9-6.7V3.5a2.1 2.1 0 0 0-4.2 0v.8C6.8 5 5 7.7 5 11v5.5l-1.9 1.9v.9h17.8v-.9Z";

export function drawing(path, size) {
  const [svg, shape] = [document.createElementNS(SVG, "svg"), document.createElementNS(SVG, "path")];
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/** Sets the text of an element that has no others in it. A text that stays the same keeps its selection. */
export function setText(node, text) {
  const child = node.firstChild;
  if (child && child.nodeType === Node.TEXT_NODE) {
    if (child.data !== text) child.data = text;
  } else if (text) {
    node.append(text);
  }
}

export function setAttribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

export const focusOf = (node) => node.getRootNode().activeElement;
