// A table whose rows change in place.

import { element, focusOf, setAttribute, setText, show } from "./elements.js";

/** A table whose rows are patched by their keys and moved only if they must. */
export class Table {
  constructor(Row, panel) {
    this.Row = Row;
    this.panel = panel;
    this.rows = new Map();
    this.heads = new Map();
    const line = element("tr", {});
    for (const [column, label] of Row.columns) {
      if (!label) {
        line.append(element("td", {}));
      } else if (!column) {
        line.append(element("th", { scope: "col" }, label));
      } else {
        const button = element("button", { type: "button", class: "hf-sort" }, label);
        const cell = element("th", { scope: "col" }, button);
        button.addEventListener("click", () => this.sort(column));
        this.heads.set(column, cell);
        line.append(cell);
      }
    }
    this.body = element("tbody", {});
    this.table = element("table", { class: "hf-table", "aria-label": Row.label }, element("thead", {}, line), this.body);
    this.empty = element("small", { class: "hf-dim" }, Row.empty);
    this.more = element("small", { class: "hf-dim" });
    this.element = element("div", { class: "hf-scroll" }, this.table, this.empty, this.more);
  }

  /** Ascending, descending, as usual. */
  sort(column) {
    const [current, reverse] = this.panel.content.sort[this.Row.label] ?? ["", false];
    const next = current !== column ? [column, false] : reverse ? ["", false] : [column, true];
    this.panel.send({ sort: [this.Row.label, ...next] });
  }

  set(table, sorted) {
    for (const [column, cell] of this.heads) {
      const order = sorted?.[0] === column ? (sorted[1] ? "descending" : "ascending") : null;
      setAttribute(cell, "aria-sort", order);
    }
    for (const [key, row] of this.rows) {
      if (Object.hasOwn(table.rows, key)) continue;
      this.panel.leave(row);
      row.element.remove();
      this.rows.delete(key);
    }
    for (const key of table.order) {
      let row = this.rows.get(key);
      if (row === undefined) {
        row = new this.Row(key, this.panel);
        this.rows.set(key, row);
        this.body.append(row.element);
      }
      row.set(table.rows[key]);
    }
    this.arrange(table.order);
    show(this.table, table.order.length > 0);
    show(this.empty, table.order.length === 0);
    setText(this.more, table.more ? `and ${table.more.toLocaleString()} more: narrow the filter` : "");
  }

  /** Puts the rows in order, unless text in them is selected: moving a row would end that. */
  arrange(order) {
    const selection = getSelection();
    if (selection && !selection.isCollapsed && selection.rangeCount && selection.getRangeAt(0).intersectsNode(this.body)) return;
    const focused = focusOf(this.body);
    let place = this.body.firstChild;
    for (const key of order) {
      const row = this.rows.get(key);
      for (const node of row.detail ? [row.element, row.detail] : [row.element]) {
        if (node === place) place = place.nextSibling;
        else this.body.insertBefore(node, place);
      }
    }
    if (focused && this.body.contains(focused) && focusOf(this.body) !== focused) focused.focus({ preventScroll: true });
  }

  tick(times) {
    for (const row of this.rows.values()) row.tick(times);
  }
}
