// A dashboard: numbers, filter, buttons for all that is shown, tables, and the details of one process.

import { Card } from "./card.js";
import { element, focusOf, setAttribute, setText, show } from "./elements.js";
import { GLYPHS, LABELS, SUCCESSORS, VERBS } from "./parts.js";
import { FileRow, ProcessRow, UploadRow } from "./rows.js";
import { Table } from "./table.js";
import { duration } from "./times.js";

const ROWS = [ProcessRow, UploadRow, FileRow];

export class Dashboard {
  constructor(send, content) {
    this.send = send;
    this.content = content;
    this.url = element("b", {});
    this.state = element("span", { class: "hf-badge hf-waiting" }, "reconnecting");
    this.pace = element("span", {});
    this.counts = element("span", { class: "hf-counts" });
    this.tally = element("span", {});
    const status = element("div", { role: "status", class: "hf-status" }, this.url, " ", this.state, " ", this.pace, " ", this.counts, " ", this.tally);
    this.filter = element("input", { type: "search", placeholder: "part of a name or a note", class: "hf-input" });
    this.filter.addEventListener("input", () => this.later());
    const tools = element("div", { class: "hf-tools" }, element("label", {}, "Filter ", this.filter));
    this.bulk = new Map();
    if (content.parts.includes("processes")) {
      this.choice = element("select", { class: "hf-input" });
      for (const [label, value] of content.states) this.choice.append(element("option", { value }, label));
      this.choice.addEventListener("change", () => send({ state: this.choice.value }));
      tools.append(element("label", {}, "State ", this.choice));
      for (const verb of VERBS) tools.append(this.bulkButton(verb));
    }
    this.error = element("div", { role: "alert", class: "hf-alert hf-is-bad" });
    this.waiting = element("div", { role: "alert", class: "hf-alert hf-is-waiting" });
    this.element = element("div", { class: "hf-panel" }, status, tools, this.error, this.waiting);
    this.tables = new Map();
    for (const Row of ROWS) {
      if (!content.parts.includes(Row.label)) continue;
      const table = new Table(Row, this);
      this.tables.set(Row.label, table);
      this.element.append(table.element);
    }
  }

  bulkButton(verb) {
    const glyph = element("span", { "aria-hidden": "true", class: "hf-glyph" }, GLYPHS[verb]);
    const text = element("span", {});
    const title = `${LABELS[verb]} all that the filter shows`;
    const button = element("button", { type: "button", class: `hf-button hf-${verb}`, title }, glyph, text);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") this.send({ bulk: verb });
    });
    this.bulk.set(verb, { button, text });
    return button;
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send({ filter: this.filter.value }), 150);
  }

  toggle(id) {
    this.send({ details: this.content.detail?.id === id ? "" : id });
  }

  /** A row goes, and the details below it. */
  leave(row) {
    row.detail?.remove();
    if (row.detail) this.detail = null;
  }

  set(content, times) {
    this.content = content;
    setText(this.url, content.url);
    show(this.state, content.offline);
    setCounts(this.counts, content.counts ?? [], (state) => this.send({ state }));
    setText(this.tally, content.tally ?? "");
    const focused = focusOf(this.element);
    if (focused !== this.filter && this.filter.value !== content.query) this.filter.value = content.query;
    if (this.choice && focused !== this.choice) this.choice.value = content.state;
    for (const [verb, { button, text }] of this.bulk) {
      const { text: label, count } = content.bulk[verb];
      setText(text, label);
      setAttribute(button, "aria-disabled", count ? null : "true");
    }
    const lost = [...this.bulk].find(([, each]) => each.button === focused && each.button.getAttribute("aria-disabled"));
    if (lost) {
      const next = SUCCESSORS[lost[0]].find((verb) => verb !== "cancel" && content.bulk[verb].count);
      if (next) this.bulk.get(next).button.focus({ preventScroll: true });
    }
    setText(this.error, content.error);
    show(this.error, content.error !== "");
    setText(this.waiting, content.waiting);
    show(this.waiting, content.waiting !== "");
    this.setDetail(content.detail, times);
    for (const [part, table] of this.tables) table.set(content[part], content.sort[part]);
    this.tick(times);
  }

  setDetail(detail, times) {
    const rows = this.tables.get("processes")?.rows;
    const row = detail && rows?.get(detail.id);
    if (this.detail && this.detail.row !== row) {
      this.detail.row.detail.remove();
      this.detail.row.detail = undefined;
      setAttribute(this.detail.row.name, "aria-expanded", "false");
      this.detail = null;
    }
    if (!row) return;
    if (!this.detail) {
      const card = new Card((message) => this.send({ ...message, id: row.id }));
      const cell = element("td", { colspan: ProcessRow.columns.length }, card.element);
      row.detail = element("tr", { class: "hf-detail" }, cell);
      row.element.after(row.detail);
      setAttribute(row.name, "aria-expanded", "true");
      this.detail = { row, card };
    }
    this.detail.card.set(detail.card, times);
  }

  tick(times) {
    const { offline, since } = this.content;
    const silent = times.silent ? `no message from the kernel for ${duration(times.silent)}` : "";
    const unreachable = offline && since !== undefined ? `server unreachable for ${duration(times.now - since)}` : "";
    setText(this.pace, silent || unreachable);
    for (const table of this.tables.values()) table.tick(times);
    this.detail?.card.tick(times);
  }
}

/** The number of processes in each state. A click chooses the state. */
function setCounts(box, counts, choose) {
  const kept = new Map([...box.children].map((child) => [child.dataset.state, child]));
  let place = box.firstChild;
  for (const [state, tone, count] of counts) {
    let badge = kept.get(state);
    kept.delete(state);
    if (badge === undefined) {
      badge = element("button", { type: "button", class: `hf-badge hf-${tone}`, "data-state": state, title: `Show only ${state}` });
      badge.addEventListener("click", () => choose(state));
    }
    if (badge === place) place = place.nextSibling;
    else box.insertBefore(badge, place);
    setText(badge, `${count} ${state}`);
  }
  for (const badge of kept.values()) badge.remove();
}

