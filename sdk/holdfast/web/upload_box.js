// The view of UploadBox. It uploads files from this page directly to the server, by tus. `tus` is defined before this
// text. If the page can't reach the server, the files go through the kernel's comm, one piece at a time.

const PIECE = 8 * 1024 * 1024; // one request: proxies limit bodies
const RELAY_PIECE = 512 * 1024; // one message to the kernel, well below the limit of Jupyter servers
const RETRY_DELAYS = [0, 500, 1000, 2000, 3000, 5000, 5000, 10000, 10000, 15000, 15000, 30000, 30000];

const units = ["B", "kB", "MB", "GB", "TB"];
function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  const text = bytes >= 99.95 || unit === 0 ? bytes.toFixed(0) : bytes.toFixed(1).replace(".0", "");
  return `${text} ${units[unit]}`;
}

/** The `detail` of a refusal (RFC 9457), else the message of the error. */
function reason(error) {
  const body = error.originalResponse?.getBody?.();
  try {
    return JSON.parse(body).detail || error.message;
  } catch {
    return error.message;
  }
}

/** Returns whether a retry may succeed. A permanent refusal is not retried. */
function mayRepeat(error) {
  const status = error.originalResponse?.getStatus?.() ?? 0;
  if (status === 409) return error.originalRequest.getMethod() !== "POST"; // the client asks for the offset first
  return status === 0 || [408, 423, 429].includes(status) || (status >= 500 && status !== 507);
}

/** The upload of one file. `carrier` sends the bytes: directly, or through the kernel. */
class Entry {
  constructor(box, file) {
    this.box = box;
    this.file = file;
    this.name = file.name;
    this.sent = 0;
    this.state = "waiting";
    this.message = "";
    this.samples = [];
  }

  setState(state, message = "") {
    this.state = state;
    this.message = message;
    this.samples = [];
    this.box.changed();
  }

  setSent(sent) {
    this.sent = sent;
    const now = performance.now() / 1000;
    this.samples.push([now, sent]);
    while (this.samples.length > 2 && now - this.samples[0][0] > 5) this.samples.shift();
    this.box.changed();
  }

  get text() {
    const total = this.file.size;
    const parts = [this.state, `${size(this.sent)} of ${size(total)}`];
    if (this.state === "running" && this.samples.length > 1) {
      const [[then, before], [now, sent]] = [this.samples[0], this.samples.at(-1)];
      const rate = (sent - before) / Math.max(now - then, 0.001);
      if (rate > 0) parts.push(`${size(rate)}/s`, `${((total - sent) / rate).toFixed(0)} s left`);
    }
    if (this.message) parts.push(this.message);
    return parts.join(" · ");
  }

  get verbs() {
    if (this.state === "running" || this.state === "waiting") return ["pause", "cancel"];
    return this.state === "paused" || this.state === "failed" ? ["resume", "cancel"] : [];
  }

  /** Returns whether the upload is of this file and can continue. */
  continuesWith(file) {
    const same = ["name", "size", "lastModified"].every((each) => file[each] === this.file[each]);
    return same && this.verbs.length > 0;
  }

  async resume() {
    this.setState("running", "waits for the kernel");
    try {
      const route = await this.box.route();
      if (this.state !== "running") return;
      this.setState("running");
      this.carrier ??= route.direct ? new Direct(this) : new Relay(this);
      await this.carrier.start(route);
    } catch (error) {
      this.setState("failed", error.message);
    }
  }

  async pause() {
    this.setState("paused");
    await this.carrier?.stop();
  }

  async cancel() {
    this.setState("cancelled");
    await this.carrier?.discard();
  }

  done() {
    this.sent = this.file.size;
    this.setState("succeeded");
    try {
      this.box.send({ done: this.box.nameOf(this.file) });
    } catch {} // the kernel was restarted; the file is in `client.files`
  }
}

/** Sends a file directly to the server, by tus. After a reload the upload is found by its target, size and date. */
class Direct {
  constructor(entry) {
    this.entry = entry;
    this.upload = new tus.Upload(entry.file, {
      endpoint: entry.box.endpoint,
      chunkSize: PIECE,
      retryDelays: RETRY_DELAYS,
      removeFingerprintOnSuccess: true,
      fingerprint: async (file) => `${entry.box.mark}${entry.box.nameOf(file)}|${file.size}|${file.lastModified}`,
      metadata: { filename: entry.box.nameOf(entry.file), filetype: entry.file.type },
      onShouldRetry: mayRepeat,
      onProgress: (sent) => entry.state === "running" && entry.setSent(sent),
      onSuccess: () => entry.done(),
      onError: (error) => entry.state === "running" && entry.setState("failed", reason(error)),
    });
  }

  async start(route) {
    this.upload.options.headers = route.headers;
    if (!this.upload.url) {
      const [before] = await this.upload.findPreviousUploads();
      if (before) this.upload.resumeFromPreviousUpload(before);
    }
    if (this.entry.state === "running") this.upload.start();
  }

  async stop() {
    await this.upload.abort();
  }

  async discard() {
    await this.upload.abort(true).catch(() => {}); // the server's part of it expires
  }
}

/** Sends a file through the kernel, one piece for each answer. */
class Relay {
  constructor(entry) {
    this.entry = entry;
    this.key = crypto.randomUUID();
    this.run = 0; // a paused run ends at the answer to its piece; another run may have started by then
  }

  async start() {
    const { entry } = this;
    const { file, box } = entry;
    if (file.size > box.limit) {
      throw new Error(`this file has ${size(file.size)}, and at most ${size(box.limit)} go through the kernel`);
    }
    const run = ++this.run;
    let { offset, end } = await box.ask({ begin: box.nameOf(file), size: file.size, key: this.key });
    while (!end && run === this.run) {
      entry.setSent(offset);
      const piece = await file.slice(offset, offset + RELAY_PIECE).arrayBuffer();
      ({ offset, end } = await box.ask({ piece: offset, key: this.key }, [new DataView(piece)]));
    }
    if (end && entry.state !== "succeeded") entry.done();
  }

  async stop() {
    this.run += 1;
  }

  async discard() {
    this.run += 1;
    await this.entry.box.ask({ discard: true, key: this.key }).catch(() => {}); // it expires
  }
}

/** All uploads of one box on this page, which may show it in several places. */
class Box {
  constructor(model) {
    this.model = model;
    this.entries = [];
    this.lists = new Set();
    this.questions = new Map();
    this.onMessage = (message) => this.answered(message);
    model.on("msg:custom", this.onMessage);
  }

  get endpoint() {
    return this.model.get("endpoint") + (this.model.get("overwrite") ? "?overwrite=true" : "");
  }

  get limit() {
    return this.model.get("limit");
  }

  /** The prefix of this box's uploads in the storage of the browser. */
  get mark() {
    return `holdfast|${this.endpoint}|`;
  }

  nameOf(file) {
    return this.model.get("prefix") + file.name;
  }

  close() {
    this.model.off("msg:custom", this.onMessage);
    for (const entry of this.entries) if (entry.state === "running") entry.pause();
  }

  send(message, buffers = []) {
    try {
      this.model.send(message, undefined, buffers);
    } catch {
      throw new Error("the kernel was restarted: run the cell of this box again, then choose the file again");
    }
  }

  /** Sends a message to the kernel and waits for its answer. */
  ask(question, buffers = []) {
    const id = crypto.randomUUID();
    return new Promise((resolve, reject) => {
      this.questions.set(id, { resolve, reject });
      this.send({ ...question, id }, buffers);
    });
  }

  answered(message) {
    const waiting = this.questions.get(message.id);
    this.questions.delete(message.id);
    if (message.error) waiting?.reject(new Error(message.error));
    else waiting?.resolve(message);
  }

  /** Returns the route to the server. The token is requested each time, because it may have changed. */
  async route() {
    const { token } = await this.ask({ token: true });
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    try {
      const answer = await fetch(`${this.model.get("endpoint")}?limit=1`, { headers, cache: "no-store" });
      if (!answer.ok) throw new Error(`the server answers with ${answer.status}`);
      this.say("");
      return { direct: true, headers };
    } catch (error) {
      this.say(
        `This page can't reach ${this.model.get("endpoint")} (${error.message}): files go through the kernel, at most ` +
          `${size(this.limit)} each. To upload directly, start the server with --allow-origin ${location.origin}.`,
      );
      return { direct: false };
    }
  }

  say(text) {
    this.routeText = text;
    this.changed();
  }

  add(files) {
    for (const file of files) {
      let entry = this.entries.find((one) => one.continuesWith(file));
      if (entry && !entry.verbs.includes("resume")) continue; // it is being sent already
      if (!entry) this.entries.push((entry = new Entry(this, file)));
      entry.resume();
    }
    this.forgetPending();
  }

  /** Returns the unfinished uploads of earlier pages. The browser has no access to their files any more. */
  async pending() {
    const known = await tus.defaultOptions.urlStorage.findAllUploads();
    const names = this.entries.map((entry) => this.nameOf(entry.file));
    const prefix = this.model.get("prefix"); // with another prefix it is another file
    return known.filter((one) => {
      if (!one.urlStorageKey.startsWith(`tus::${this.mark}`)) return false;
      const name = one.metadata.filename;
      return name.startsWith(prefix) && !name.slice(prefix.length).includes("/") && !names.includes(name);
    });
  }

  async forgetPending(one) {
    if (one) {
      await tus.defaultOptions.urlStorage.removeUpload(one.urlStorageKey);
      const { headers } = await this.route();
      await tus.Upload.terminate(one.uploadUrl, { ...tus.defaultOptions, headers, retryDelays: [] }).catch(() => {});
    }
    this.pendingOnes = await this.pending();
    this.changed();
  }

  /** Updates all lists, a few times a second at most. */
  changed() {
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      for (const list of this.lists) list.update();
    }, 100);
  }

  show(el) {
    const list = new List(this, el);
    this.lists.add(list);
    this.forgetPending();
    return () => this.lists.delete(list);
  }
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The elements of a box in one place of the page. */
class List {
  constructor(box, el) {
    this.box = box;
    this.rows = new Map();
    const input = element("input", { type: "file", multiple: true });
    input.setAttribute("aria-label", "Choose files to upload");
    input.onchange = () => {
      box.add([...input.files]);
      input.value = "";
    };
    const drop = element("label", { className: "drop" }, "Drop files here, or choose them", input);
    drop.ondragover = (event) => {
      event.preventDefault();
      drop.classList.add("over");
    };
    drop.ondragleave = () => drop.classList.remove("over");
    drop.ondrop = (event) => {
      event.preventDefault();
      event.stopPropagation();
      drop.classList.remove("over");
      box.add([...event.dataTransfer.files]);
    };
    this.route = element("div", { className: "route" });
    this.route.setAttribute("role", "status");
    this.live = element("div", { className: "live" });
    this.live.setAttribute("role", "status");
    this.list = element("ul");
    el.append(element("div", { className: "holdfast-upload" }, drop, this.route, this.list, this.live));
    this.update();
  }

  update() {
    if (this.route.textContent !== (this.box.routeText ?? "")) this.route.textContent = this.box.routeText ?? "";
    const there = [...this.box.entries, ...(this.box.pendingOnes ?? [])];
    for (const [one, row] of this.rows) {
      if (!there.includes(one)) {
        row.remove();
        this.rows.delete(one);
      }
    }
    for (const one of there) {
      if (!this.rows.has(one)) {
        const row = one instanceof Entry ? this.rowOf(one) : this.rowOfPending(one);
        this.rows.set(one, row);
        this.list.append(row);
      }
      this.rows.get(one).update?.();
    }
  }

  rowOf(entry) {
    const bar = element("progress", { max: Math.max(entry.file.size, 1) });
    bar.setAttribute("aria-label", `upload of ${entry.name}`);
    const said = element("span", { className: "said" });
    const buttons = ["pause", "resume", "cancel"].map((verb) => this.button(verb, entry.name, () => entry[verb]()));
    const row = element("li", {}, element("span", { className: "name" }, entry.name), bar, ...buttons, said);
    row.update = () => {
      bar.value = entry.state === "succeeded" ? bar.max : entry.sent;
      if (said.textContent !== entry.text) said.textContent = entry.text;
      if (row.className !== entry.state) this.live.textContent = `${entry.name}: ${entry.state}`; // read aloud
      row.className = entry.state;
      for (const button of buttons) button.disabled = !entry.verbs.includes(button.verb);
    };
    return row;
  }

  rowOfPending(one) {
    const name = one.metadata.filename;
    const text = `unfinished, ${size(one.size)}: choose or drop the same file again to continue`;
    const forget = this.button("forget", name, () => this.box.forgetPending(one));
    return element("li", {}, element("span", { className: "name" }, name), forget, element("span", { className: "said" }, text));
  }

  button(verb, name, pressed) {
    const label = verb[0].toUpperCase() + verb.slice(1);
    const button = element("button", { type: "button", verb, onclick: pressed }, label);
    button.setAttribute("aria-label", `${label} ${name}`);
    return button;
  }
}

export default () => {
  let box;
  return {
    initialize({ model }) {
      box = new Box(model);
      return () => box.close();
    },
    render({ el }) {
      return box.show(el);
    },
  };
};
