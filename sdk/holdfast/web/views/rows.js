// Rows of the tables of a dashboard. `columns` has the key by which the kernel sorts, and the label.

import { element, setAttribute, setText } from "./elements.js";
import { Bar, Buttons, Curve } from "./parts.js";
import { pace } from "./times.js";

export class ProcessRow {
  static label = "processes";
  static empty = "no process matches";
  static columns = [["state", "State"], ["name", "Process"], ["progress", "Progress"], ["", ""], ["", ""], ["speed", "Rate"], ["note", "Note"], ["", ""]];

  constructor(id, panel) {
    this.id = id;
    this.panel = panel;
    this.badge = element("span", { class: "hf-badge" });
    this.name = element("span", { role: "button", tabindex: 0, class: "hf-name", "aria-expanded": "false" }, id); // selectable
    this.name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      panel.toggle(id);
    });
    this.kind = element("small", { class: "hf-dim" });
    this.bar = new Bar();
    this.percent = element("td", { class: "hf-number" });
    this.curve = new Curve();
    this.speed = element("td", { class: "hf-number hf-speed" });
    this.note = element("td", { class: "hf-wide" });
    this.buttons = new Buttons((verb) => panel.send({ verb, id }), { small: true });
    this.element = element(
      "tr",
      {},
      element("td", {}, this.badge),
      element("th", { scope: "row" }, this.name, " ", this.kind),
      element("td", { class: "hf-bar-cell" }, this.bar.element),
      this.percent,
      element("td", {}, this.curve.element),
      this.speed,
      this.note,
      element("td", { class: "hf-actions" }, this.buttons.element),
    );
    this.element.addEventListener("click", () => {
      if (getSelection().isCollapsed) panel.toggle(id);
    });
  }

  set(row) {
    this.row = row;
    setText(this.badge, row.state);
    setAttribute(this.badge, "class", `hf-badge hf-${row.tone}`);
    setText(this.kind, row.kind);
    const percent = row.at === undefined ? "" : `${(100 * row.at).toFixed(0)}%`;
    this.bar.set(row.at, row.tone, `${row.kind} ${this.id}`, percent || row.state);
    setText(this.percent, percent);
    this.curve.set(row.curve, row.tone);
    setText(this.note, row.note);
    this.buttons.set(row.verbs, this.id);
  }

  tick(times) {
    setText(this.speed, this.panel.content.offline ? "" : pace(this.row, times));
  }
}

export class UploadRow {
  static label = "uploads";
  static empty = "no upload is going on";
  static columns = [["name", "Upload"], ["progress", "Progress"], ["", ""], ["", ""], ["speed", "Rate"], ["size", "Size"]];

  constructor(id, panel) {
    this.panel = panel;
    this.name = element("th", { scope: "row" });
    this.bar = new Bar();
    this.percent = element("td", { class: "hf-number" });
    this.curve = new Curve();
    this.speed = element("td", { class: "hf-number hf-speed" });
    this.size = element("td", { class: "hf-wide" });
    const [bar, curve] = [element("td", { class: "hf-bar-cell" }, this.bar.element), element("td", {}, this.curve.element)];
    this.element = element("tr", {}, this.name, bar, this.percent, curve, this.speed, this.size);
  }

  set(row) {
    this.row = row;
    const percent = row.at === undefined ? "" : `${(100 * row.at).toFixed(0)}%`;
    setText(this.name, row.name);
    this.bar.set(row.at, "busy", `upload of ${row.name}`, percent);
    setText(this.percent, percent);
    this.curve.set(row.curve, "busy");
    setText(this.size, row.size);
  }

  tick(times) {
    setText(this.speed, this.panel.content.offline ? "" : pace(this.row, times));
  }
}

export class FileRow {
  static label = "files";
  static empty = "no file matches";
  static columns = [["name", "File"], ["size", "Size"], ["modified", "Modified"], ["", "SHA-256"]];

  constructor(id) {
    this.size = element("td", { class: "hf-number" });
    this.modified = element("td", {});
    this.digest = element("td", { class: "hf-wide" });
    this.element = element("tr", {}, element("th", { scope: "row" }, id), this.size, this.modified, this.digest);
  }

  set(row) {
    setText(this.size, row.size);
    setText(this.modified, row.modified);
    setText(this.digest, row.digest ?? "");
  }

  tick() {}
}
