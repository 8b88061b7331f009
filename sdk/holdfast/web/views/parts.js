// What cards and rows are made of: buttons, bar, log, curve.

import { element, setAttribute, setText, show, SVG } from "./elements.js";

export const VERBS = ["pause", "resume", "cancel"];
export const LABELS = { pause: "Pause", resume: "Resume", cancel: "Cancel" };
export const GLYPHS = { pause: "❚❚", resume: "▶", cancel: "✕" };
export const SUCCESSORS = { pause: ["resume", "cancel"], resume: ["pause", "cancel"], cancel: ["resume", "pause"] };

/** Buttons for verbs. What is not legal now can't be pressed, but keeps the focus until its successor can. */
export class Buttons {
  constructor(act, { small = false } = {}) {
    this.element = element("span", { class: "hf-buttons" });
    this.legal = new Set();
    this.buttons = new Map();
    for (const verb of VERBS) {
      const glyph = element("span", { "aria-hidden": "true", class: "hf-glyph" }, GLYPHS[verb]);
      const button = element("button", { type: "button", class: `hf-button hf-${verb}` }, glyph);
      if (!small) button.append(LABELS[verb]);
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        if (this.legal.has(verb)) act(verb);
      });
      this.buttons.set(verb, button);
      this.element.append(button);
    }
    this.small = small;
  }

  set(verbs, title) {
    this.legal = new Set(verbs);
    const root = this.element.getRootNode();
    for (const [verb, button] of this.buttons) {
      setAttribute(button, "aria-disabled", this.legal.has(verb) ? null : "true");
      setAttribute(button, "title", `${LABELS[verb]} ${title}`);
      if (this.small) setAttribute(button, "aria-label", `${LABELS[verb]} ${title}`);
    }
    for (const [verb, button] of this.buttons) {
      if (root.activeElement !== button || this.legal.has(verb)) continue;
      const next = SUCCESSORS[verb].find((each) => this.legal.has(each));
      if (next && next !== "cancel") this.buttons.get(next).focus({ preventScroll: true });
    }
  }
}

export class Bar {
  constructor() {
    this.fill = element("div", { class: "hf-fill" });
    this.element = element("div", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, class: "hf-bar" }, this.fill);
  }

  set(fraction, tone, label, value) {
    setAttribute(this.element, "aria-label", label);
    setAttribute(this.element, "aria-valuenow", fraction === undefined ? null : (100 * fraction).toFixed(0));
    setAttribute(this.element, "aria-valuetext", value);
    const width = `${(100 * (fraction ?? 0)).toFixed(2)}%`;
    if (this.fill.style.width !== width) this.fill.style.width = width;
    setAttribute(this.fill, "class", `hf-fill hf-${tone}`);
  }
}

/** Lines by their numbers. New ones are added below; those that stay are not touched. */
export class Lines {
  constructor() {
    this.element = element("pre", { "aria-label": "log", tabindex: 0, class: "hf-log" });
    this.lines = new Map();
  }

  set(lines) {
    const box = this.element;
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    for (const [number, line] of this.lines) {
      if (number in lines) continue;
      line.remove();
      this.lines.delete(number);
    }
    let place = box.firstChild;
    for (const [number, text] of Object.entries(lines)) {
      let line = this.lines.get(number);
      if (line === undefined) {
        line = element("div", {});
        this.lines.set(number, line);
        box.insertBefore(line, place);
      } else {
        place = line.nextSibling;
      }
      setText(line, text);
    }
    show(box, this.lines.size > 0);
    if (atEnd) box.scrollTop = box.scrollHeight;
  }
}

export class Curve {
  constructor() {
    this.element = document.createElementNS(SVG, "svg");
    for (const [name, value] of [["width", 60], ["height", 16], ["viewBox", "0 0 60 16"], ["aria-hidden", "true"]]) {
      this.element.setAttribute(name, value);
    }
    this.line = document.createElementNS(SVG, "polyline");
    this.element.append(this.line);
  }

  set(values, tone) {
    const step = values && values.length > 1 ? 60 / (values.length - 1) : 0;
    const points = step ? values.map((value, index) => `${(index * step).toFixed(0)},${15 - value}`).join(" ") : "";
    setAttribute(this.line, "points", points);
    setAttribute(this.line, "class", `hf-line hf-${tone}-line`);
  }
}
