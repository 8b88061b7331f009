// All uploads of one box on this page, which may show it in several places.

import { Address } from "../page/address.js";
import { Kernel } from "../page/kernel.js";
import { Entry } from "./entry.js";
import { Records } from "./records.js";

const MOST_AT_ONCE = 3; // browsers open 6 connections to a server, and other views need some

// The boxes of this page. Each has a module of its own, so they find each other here.
const boxes = (globalThis[Symbol.for("holdfast.upload_boxes")] ??= new Set());

export class Box {
  #timer;
  #clock;

  constructor(model) {
    this.model = model;
    this.entries = [];
    this.pending = [];
    this.lists = new Set();
    this.cells = new Set();
    this.note = "";
    this.closed = false;
    this.kernel = new Kernel(model, () => this.#onLost());
    this.address = new Address(this.kernel, (note) => {
      this.note = note;
      this.changed();
    });
    this.server = model.get("server");
    this.prefix = model.get("prefix");
    this.overwrite = model.get("overwrite");
    this.records = new Records(this.server);
    this.#clock = setInterval(() => this.entries.some((entry) => entry.isActive) && this.changed(), 500);
    boxes.add(this);
  }

  /** The kernel has closed this box. Another box of the same cell goes on with its files. */
  close() {
    this.closed = true;
    this.kernel.close();
    clearInterval(this.#clock);
    const heir = [...boxes].findLast((box) => !box.kernel.lost && box.#follows(this));
    if (heir) heir.#adopt(this);
    else if (!this.entries.some((entry) => !entry.isFinished)) boxes.delete(this);
  }

  #onLost() {
    this.#pump(); // those that wait will not have their turn
    for (const entry of this.entries) if (entry.state === "waiting") entry.interrupt();
    this.changed();
  }

  // -- other boxes of the same cell

  #follows(other) {
    if (other === this || other.prefix !== this.prefix || other.kernel.manager !== this.kernel.manager) return false;
    return [...other.cells].some((cell) => this.cells.has(cell)) || other.server === this.server;
  }

  /** Takes over the files of boxes whose kernel is gone, if this one shows the same cell. */
  #adoptLost() {
    for (const other of [...boxes]) if (other.kernel.lost && this.#follows(other)) this.#adopt(other);
  }

  #adopt(other) {
    for (const entry of other.entries) {
      if (entry.isFinished) continue;
      entry.stop();
      this.entries.push(Entry.successor(this, entry));
    }
    other.entries = [];
    boxes.delete(other);
    other.changed();
    this.listPending();
  }

  // -- files

  /** Adds files, each with its path below the prefix. */
  add(files) {
    for (const [file, path] of files) {
      let entry = this.entries.find((one) => one.continuesWith(file, path));
      if (!entry) this.entries.push((entry = new Entry(this, file, path)));
      else if (entry.verbs.includes("resume")) entry.resume();
    }
    if (this.kernel.lost) this.#onLost();
    this.listPending();
  }

  clearFinished() {
    this.entries = this.entries.filter((entry) => !entry.isFinished);
    this.changed();
  }

  /** Starts the files whose turn it is. */
  #pump() {
    if (this.kernel.lost) return;
    let free = MOST_AT_ONCE - this.entries.filter((entry) => entry.isActive).length;
    for (const entry of this.entries) {
      if (free <= 0) return;
      if (entry.state !== "waiting") continue;
      entry.start();
      free -= 1;
    }
  }

  /** Lists the unfinished uploads of earlier pages. The browser has no access to their files any more. */
  async listPending() {
    const own = new Set(this.entries.map((entry) => entry.name));
    const records = this.records.all().filter(({ name }) => name.startsWith(this.prefix) && !own.has(name));
    this.pending = records;
    this.changed();
    if (!records.length || this.kernel.lost) return;
    const { uploads } = await this.kernel.ask({ inspect: records.map(({ upload }) => upload) }).catch(() => ({}));
    for (const record of uploads ? records : []) {
      const known = uploads[record.upload];
      if (known === null || known?.complete) this.records.dropKey(record.key); // expired, or there
      else record.offset = known?.offset;
    }
    if (uploads) this.pending = this.pending.filter(({ upload }) => uploads[upload] && !uploads[upload].complete);
    this.changed();
  }

  async forget(record) {
    this.records.dropKey(record.key);
    this.listPending();
    await this.kernel.ask({ discard: record.upload }).catch(() => {}); // else it expires
  }

  // -- what is shown

  /** Updates all lists, a few times a second at most. */
  changed() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pump();
      for (const list of this.lists) list.update();
    }, 100);
  }

  /** Registers a list, and looks for files of a box that this cell has shown before. */
  show(list) {
    this.lists.add(list);
    requestAnimationFrame(() => {
      const cell = list.root.closest(".jp-Cell");
      if (cell) this.cells.add(cell);
      this.#adoptLost();
    });
    this.listPending();
    return () => this.lists.delete(list);
  }
}
