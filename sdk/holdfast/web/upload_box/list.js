// The elements of a box in one place of the page.

import { element, setText, size } from "../page/text.js";
import { chosen, dropped } from "./dropped.js";

const VERBS = ["pause", "resume", "replace", "rename", "cancel"];
const ON_REQUEST = ["replace", "rename"]; // buttons that are there only while they can be pressed
const MOST_ROWS = 200; // in the list; the summary counts all

const CLASS = { conflict: "failed", interrupted: "failed" };

/** Returns the first of many names. */
function someOf(names) {
  const rest = names.length - 3;
  return names.slice(0, 3).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

export class List {
  constructor(box, el) {
    this.box = box;
    this.rows = new Map();
    this.note = element("div", { className: "route" });
    this.note.setAttribute("role", "status");
    this.live = element("div", { className: "live" });
    this.live.setAttribute("role", "status");
    this.counts = element("span", { className: "counts" });
    this.clear = element("button", { type: "button", onclick: () => box.clearFinished() }, "Clear finished");
    this.summary = element("div", { className: "summary" }, this.counts, this.clear);
    this.list = element("ul");
    this.root = element("div", { className: "holdfast-upload" });
    this.root.append(this.#drop(), this.note, this.summary, this.list, this.live);
    el.append(this.root);
    this.update();
  }

  #drop() {
    const { box } = this;
    const files = this.#input("Choose files to upload", { multiple: true });
    const folder = this.#input("Choose a folder to upload", { webkitdirectory: true });
    const drop = element("div", { className: "drop" });
    drop.append("Drop files or folders here, or choose ", element("label", {}, "files", files), " or ");
    drop.append(element("label", {}, "a folder", folder));
    drop.ondragover = (event) => {
      event.preventDefault();
      drop.classList.add("over");
    };
    drop.ondragleave = () => drop.classList.remove("over");
    drop.ondrop = async (event) => {
      event.preventDefault();
      event.stopPropagation();
      drop.classList.remove("over");
      const { found, unreadable } = await dropped(event.dataTransfer);
      box.add(found);
      if (unreadable.length) setText(this.live, `The browser can't read ${someOf(unreadable)}. Check them, and drop them again.`);
    };
    return drop;
  }

  #input(label, properties) {
    const input = element("input", { type: "file", ...properties });
    input.setAttribute("aria-label", label);
    input.onchange = () => {
      this.box.add(chosen(input.files));
      input.value = "";
    };
    return input;
  }

  update() {
    const { box } = this;
    setText(this.note, box.note && `Files go through the kernel: ${box.note}`);
    const shown = this.#shown();
    for (const [one, row] of this.rows) {
      if (!shown.has(one)) {
        row.remove();
        this.rows.delete(one);
      }
    }
    for (const one of shown) {
      if (!this.rows.has(one)) {
        const row = one.file ? this.#row(one) : this.#pendingRow(one);
        this.rows.set(one, row);
        this.list.append(row);
      }
      this.rows.get(one).update();
    }
    this.#summarize(shown.size);
  }

  /** Returns what has a row. Of very many files these are the unfinished ones first. */
  #shown() {
    const all = [...this.box.entries, ...this.box.pending];
    if (all.length <= MOST_ROWS) return new Set(all);
    const rank = (one) => (one.isActive ? 0 : one.isFinished ? 3 : one.state === "waiting" ? 2 : 1);
    const first = new Set([...all].sort((a, b) => rank(a) - rank(b)).slice(0, MOST_ROWS));
    return new Set(all.filter((one) => first.has(one)));
  }

  #summarize(rows) {
    const { entries, pending } = this.box;
    const count = new Map();
    let sent = 0;
    let total = 0;
    for (const entry of entries) {
      count.set(entry.state, (count.get(entry.state) ?? 0) + 1);
      if (entry.state === "cancelled") continue;
      sent += entry.sent;
      total += entry.file.size;
    }
    const parts = [`${entries.length} files`, ...[...count].map(([state, number]) => `${number} ${state}`)];
    parts.push(`${size(sent)} of ${size(total)}`);
    if (rows < entries.length + pending.length) parts.push(`${rows} are listed`);
    setText(this.counts, entries.length > 1 ? parts.join(" · ") : "");
    this.clear.hidden = !entries.some((entry) => entry.isFinished);
    this.summary.hidden = this.clear.hidden && entries.length < 2;
  }

  #row(entry) {
    const bar = element("progress", { max: Math.max(entry.file.size, 1) });
    bar.setAttribute("aria-label", `upload of ${entry.path}`);
    const name = element("span", { className: "name" });
    const said = element("span", { className: "said" });
    const press = { rename: () => this.#askName(entry, row) };
    const buttons = VERBS.map((verb) => this.#button(verb, entry.path, press[verb] ?? (() => entry[verb]())));
    const row = element("li", {}, name, bar, ...buttons, said);
    let state = "";
    row.update = () => {
      setText(name, entry.path);
      bar.value = entry.state === "succeeded" ? bar.max : entry.sent;
      setText(said, entry.text);
      if (state === entry.state) return;
      if (state) setText(this.live, `${entry.path}: ${entry.state}`); // read aloud
      state = entry.state;
      row.className = `${state} ${CLASS[state] ?? ""}`;
      if (state !== "conflict") row.querySelector("form")?.remove();
      this.#enable(row, buttons, entry.verbs);
    };
    return row;
  }

  /** Enables the buttons of these verbs. The focus of one that is disabled goes to its successor. */
  #enable(row, buttons, verbs) {
    const active = row.getRootNode().activeElement;
    for (const button of buttons) {
      button.disabled = !verbs.includes(button.verb);
      button.hidden = button.disabled && ON_REQUEST.includes(button.verb);
    }
    if (buttons.includes(active) && active.disabled) (buttons.find((one) => !one.disabled) ?? this.clear).focus();
  }

  /** Asks for another name of a file, in its row. */
  #askName(entry, row) {
    if (row.querySelector("form")) return;
    const input = element("input", { type: "text", value: entry.otherPath, required: true });
    input.setAttribute("aria-label", `New name of ${entry.path}`);
    const form = element("form", {}, input, element("button", { type: "submit" }, "Upload as this"));
    form.onsubmit = (event) => {
      event.preventDefault();
      entry.rename(input.value.trim());
    };
    form.onkeydown = (event) => event.stopPropagation(); // the notebook has commands on single keys
    row.append(form);
    input.focus();
    input.setSelectionRange(0, input.value.length);
  }

  #pendingRow(record) {
    const name = record.name.slice(this.box.prefix.length);
    const said = element("span", { className: "said" });
    const forget = this.#button("forget", name, () => this.box.forget(record));
    const row = element("li", {}, element("span", { className: "name" }, name), forget, said);
    row.update = () => {
      const there = record.offset === undefined ? size(record.size) : `${size(record.offset)} of ${size(record.size)}`;
      setText(said, `unfinished, ${there}: choose or drop the same file again to continue`);
    };
    return row;
  }

  #button(verb, name, pressed) {
    const label = verb[0].toUpperCase() + verb.slice(1);
    const button = element("button", { type: "button", verb, onclick: pressed }, label);
    button.setAttribute("aria-label", `${label} ${name}`);
    return button;
  }
}
