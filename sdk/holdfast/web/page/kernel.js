// Questions of the page to its kernel, over the comm of a widget.

const BUSY_AFTER = 1500; // milliseconds without an answer until the page says so
const DEAD = ["restarting", "autorestarting", "terminating", "dead"];

/** The kernel that made this view is gone. The view can't ask it any more. */
export class KernelLost extends Error {
  constructor() {
    super("the kernel was restarted: run the cell of this box again");
    this.isOfKernel = true;
  }
}

/** An answer of the kernel that refuses. `again`: a retry may succeed. `kind` is the kind of the server's problem. */
export class Refused extends Error {
  constructor({ error, again = false, kind = "" }) {
    super(error);
    this.again = again;
    this.kind = kind;
  }
}

/** Link to the kernel of one widget. `onLost` is called once, when that kernel is gone. */
export class Kernel {
  #questions = new Map();
  #number = 0;
  #model;

  constructor(model, onLost) {
    this.#model = model;
    this.onLost = onLost;
    this.lost = false;
    this.onMessage = (message, buffers) => this.#answered(message, buffers);
    this.onLive = () => DEAD.includes(this.status) && this.#lose();
    model.on("msg:custom", this.onMessage);
    model.on("comm_live_update", this.onLive); // of ipywidgets: the widget manager left the kernel
    this.timer = setInterval(() => this.#watch(), 500);
    this.id = this.#connection?.id;
  }

  close() {
    this.#model.off("msg:custom", this.onMessage);
    this.#model.off("comm_live_update", this.onLive);
    clearInterval(this.timer);
    this.#lose();
  }

  /** The widget manager of the notebook, which outlives its kernels. */
  get manager() {
    return this.#model.widget_manager;
  }

  get #connection() {
    return this.#model.widget_manager?.kernel;
  }

  /** The status that the front end knows: idle, busy, restarting and so on; "" if it does not tell. */
  get status() {
    return this.#connection?.status ?? "";
  }

  /** Returns why there is no answer yet; "" if there is nothing to wait for. */
  get waiting() {
    const [oldest] = this.#questions.values();
    if (!oldest || performance.now() - oldest.at < BUSY_AFTER) return "";
    const { connectionStatus } = this.#connection ?? {};
    if (connectionStatus && connectionStatus !== "connected") return "waits for the connection to the kernel";
    return this.status === "busy" || this.status === "idle"
      ? "waits for the kernel, which is busy"
      : "waits for the kernel, which is busy or was restarted";
  }

  /** Sends a question and returns its answer, with `buffers`. Rejects with `KernelLost` or `Refused`. */
  ask(question, buffers = []) {
    const ask = `${++this.#number}`;
    return new Promise((resolve, reject) => {
      if (this.lost) throw new KernelLost();
      this.#questions.set(ask, { resolve, reject, at: performance.now() });
      try {
        this.#model.send({ ...question, ask }, undefined, buffers);
      } catch {
        this.#lose();
      }
    });
  }

  #answered(message, buffers) {
    const question = this.#questions.get(message.answers);
    this.#questions.delete(message.answers);
    if (message.error !== undefined) question?.reject(new Refused(message));
    else question?.resolve({ ...message, buffers });
  }

  #watch() {
    const connection = this.#connection;
    if (connection && (connection.isDisposed || connection.id !== this.id || DEAD.includes(connection.status))) this.#lose();
  }

  #lose() {
    if (this.lost) return;
    this.lost = true;
    clearInterval(this.timer);
    for (const { reject } of this.#questions.values()) reject(new KernelLost());
    this.#questions.clear();
    this.onLost?.();
  }
}
