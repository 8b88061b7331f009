// One file of a box: its state, and the loop that sends it until the kernel's server confirms it.

import { KernelLost } from "../page/kernel.js";
import { duration, size, sleep } from "../page/text.js";
import { Direct } from "./direct.js";
import { Relay } from "./relay.js";

const STALLED_AFTER = 3; // seconds without a byte until the age is shown instead of a rate
const RETRY_DELAYS = [500, 1000, 2000, 3000, 5000, 10000, 15000];
const MOST_LOGINS = 3; // refusals for want of a token before it is an error: the token may just have changed

const VERBS = {
  waiting: ["pause", "cancel"],
  running: ["pause", "cancel"],
  interrupted: ["cancel"],
  paused: ["resume", "cancel"],
  failed: ["resume", "cancel"],
  conflict: ["replace", "rename", "cancel"],
  cancelled: [],
  succeeded: [],
};

export class Entry {
  #upload = "";
  #run = 0; // only the newest run may change anything
  #samples = [];
  #movedAt = 0;

  constructor(box, file, path) {
    this.box = box;
    this.file = file;
    this.path = path;
    this.sent = 0;
    this.state = "waiting";
    this.message = "";
    this.step = "";
    this.overwrite = box.overwrite;
    this.#upload = box.records.find(this.name, file);
  }

  /** The name of the file on the server. */
  get name() {
    return this.box.prefix + this.path;
  }

  /** The id of its upload on the server; "" before it is known. */
  get upload() {
    return this.#upload;
  }

  set upload(id) {
    this.#upload = id;
    if (id) this.box.records.keep(this.name, this.file, id);
    else this.box.records.drop(this.name, this.file);
  }

  get verbs() {
    return VERBS[this.state];
  }

  get isActive() {
    return this.state === "running";
  }

  get isFinished() {
    return this.state === "succeeded" || this.state === "cancelled";
  }

  setState(state, message = "") {
    this.state = state;
    this.message = message;
    this.step = "";
    this.#samples = [];
    this.#movedAt = performance.now() / 1000;
    this.box.changed(this);
  }

  setStep(step) {
    this.step = step;
    this.box.changed(this);
  }

  setSent(sent) {
    if (!this.isActive) return;
    const now = performance.now() / 1000;
    if (sent !== this.sent) this.#movedAt = now;
    this.sent = sent;
    this.#samples.push([now, sent]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > 5) this.#samples.shift();
    this.box.changed(this);
  }

  get text() {
    const total = this.file.size;
    const parts = [this.state, `${size(this.sent)} of ${size(total)}`];
    if (this.isActive) parts.push(...this.#motion(), this.box.kernel.waiting || this.step);
    parts.push(this.message);
    return parts.filter(Boolean).join(" · ");
  }

  /** Returns rate and time left while bytes move, else for how long none did. */
  #motion() {
    const still = performance.now() / 1000 - this.#movedAt;
    if (still >= STALLED_AFTER) return this.sent < this.file.size ? [`no byte for ${duration(still)}`] : [];
    if (this.#samples.length < 2) return [];
    const [[then, before], [now, sent]] = [this.#samples[0], this.#samples.at(-1)];
    const rate = (sent - before) / Math.max(now - then, 0.001);
    return rate > 0 ? [`${size(rate)}/s`, `${duration((this.file.size - sent) / rate)} left`] : [];
  }

  /** Returns whether the upload is of this file and can continue. */
  continuesWith(file, path) {
    const same = ["size", "lastModified"].every((each) => file[each] === this.file[each]);
    return same && path === this.path && !this.isFinished;
  }

  /** Sends the file, as often as it takes. The box calls it when it is the turn of this file. */
  async start() {
    const run = ++this.#run;
    const isCurrent = () => run === this.#run;
    this.setState("running");
    let failures = 0;
    let logins = 0;
    for (;;) {
      const before = this.sent;
      try {
        await this.#attempt(isCurrent);
        return;
      } catch (error) {
        if (!isCurrent()) return;
        this.box.address.distrust();
        if (error.isOfKernel) return this.interrupt();
        if (error.kind === "file-exists") return this.#conflict();
        if (error.isGone) this.upload = ""; // it has expired: begin again
        const repeats = error.again || error.isGone || (error.isOfLogin && ++logins <= MOST_LOGINS);
        if (!repeats) return this.setState("failed", error.message || error.name);
        failures = this.sent > before ? 0 : failures + 1;
        const pause = RETRY_DELAYS[Math.min(failures, RETRY_DELAYS.length) - 1] ?? RETRY_DELAYS[0];
        this.setStep(`${error.message || error.name}; tries again`);
        await sleep(pause);
        if (!isCurrent()) return;
      }
    }
  }

  async #attempt(isCurrent) {
    const { box } = this;
    const route = await box.address.route();
    if (!isCurrent()) return;
    this.setStep("");
    if (route.isDirect) {
      this.carrier = new Direct(this);
      await this.carrier.send(route);
    } else {
      this.carrier = new Relay(this);
      await this.carrier.send(isCurrent);
    }
    if (!isCurrent()) return;
    this.sent = this.file.size;
    this.setStep("waits for the server to confirm it");
    const { note } = await box.kernel.ask({ confirm: this.upload, name: this.name, size: this.file.size });
    if (!isCurrent()) return;
    box.records.drop(this.name, this.file);
    this.setState("succeeded", note);
  }

  #conflict() {
    this.upload = "";
    this.sent = 0;
    this.setState("conflict", `there is a file '${this.name}' already`);
  }

  /** Ends the run, and leaves the state. */
  async stop() {
    this.#run += 1;
    await this.carrier?.stop();
  }

  /** Waits for the cell of the box to be run again: its kernel is gone. */
  interrupt() {
    this.stop();
    this.setState("interrupted", new KernelLost().message);
  }

  /** Returns a successor in another box, which shows the same cell. It belongs to the module of that box. */
  static successor(box, { file, path, sent, state, message, overwrite, upload }) {
    const entry = Object.assign(new Entry(box, file, path), { sent, state, message, overwrite });
    if (upload) entry.upload = upload;
    if (["interrupted", "running"].includes(state)) entry.resume();
    return entry;
  }

  resume() {
    this.setState("waiting");
  }

  async pause() {
    this.setState("paused");
    await this.stop();
  }

  async cancel() {
    const id = this.upload;
    this.setState("cancelled");
    await this.stop();
    this.upload = "";
    if (id) await this.box.kernel.ask({ discard: id }).catch(() => {}); // else it expires
  }

  /** Keeps an upload that was created after its run had ended, for the next run; discards it if none can use it. */
  async takeUp(id) {
    if (id === this.upload) return;
    if (this.state === "paused" && !this.upload) this.upload = id;
    else await this.box.kernel.ask({ discard: id }).catch(() => {}); // else it expires
  }

  replace() {
    this.overwrite = true;
    this.resume();
  }

  rename(path) {
    this.path = path;
    this.#upload = this.box.records.find(this.name, this.file);
    this.resume();
  }

  /** Returns a name that is probably free: `a (2).csv` after `a.csv`. */
  get otherPath() {
    const [, stem, number, extension] = /^(.*?)(?: \((\d+)\))?((?:\.[^./]+){0,2})$/s.exec(this.path);
    return `${stem} (${Number(number ?? 1) + 1})${extension}`;
  }
}
