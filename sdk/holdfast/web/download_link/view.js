// The view of `DownloadLink`: a link by the address that works from this page, else a button that gets the file
// through the kernel.

import { Address } from "../page/address.js";
import { Kernel } from "../page/kernel.js";
import { element, setText, size } from "../page/text.js";

const PIECE = 2 * 1024 * 1024;
const WINDOW = 3; // pieces that are on their way at the same time

export default () => {
  let kernel;
  let link;
  return {
    initialize({ model }) {
      kernel = new Kernel(model);
      link = new Link(model, kernel);
      return () => kernel.close();
    },
    render({ el }) {
      el.append(link.show());
    },
  };
};

class Link {
  constructor(model, kernel) {
    this.kernel = kernel;
    this.path = model.get("path");
    this.fallback = model.get("fallback");
    this.expires = model.get("expires");
    this.name = model.get("name").split("/").at(-1);
    this.note = "";
    this.shown = new Set();
    this.address = new Address(kernel, (note) => (this.note = note));
  }

  show() {
    const link = element("a", { target: "_blank", rel: "noreferrer", download: this.name });
    link.textContent = `Download ${this.name}`;
    const said = element("span", { className: "said" });
    said.setAttribute("role", "status");
    const root = element("span", { className: "holdfast-link" }, link, said);
    this.#choose(link, said);
    return root;
  }

  async #choose(link, said) {
    if (Date.now() / 1000 > this.expires) return setText(said, " has expired: run the cell again");
    try {
      const route = await this.address.route();
      if (route.isDirect) link.href = route.base + this.path.replace(/^\//, "");
      else this.#offerKernel(link, said);
    } catch (error) {
      if (this.fallback) link.href = this.fallback;
      setText(said, ` ${error.message}`);
    }
  }

  /** Replaces the link by a button: the browser can't get the file by itself. */
  #offerKernel(link, said) {
    const button = element("button", { type: "button" }, `Download ${this.name} through the kernel`);
    button.onclick = async () => {
      button.disabled = true;
      try {
        await this.#fetchAll((text) => setText(said, ` ${text}`));
      } catch (error) {
        setText(said, ` ${error.message}`);
      }
      button.disabled = false;
    };
    link.replaceWith(button);
    if (this.address.refusesPage) {
      // A link may be followed where the page itself may not read; only a person can know what answers there.
      link.href = this.fallback;
      link.textContent = "directly";
      button.after(" or ", link);
    }
    setText(said, ` ${this.note}`);
  }

  /** Collects the file in pieces of one version, and saves it. The browser keeps long ones on its disk. */
  async #fetchAll(say) {
    const first = await this.kernel.ask({ read: 0, length: PIECE, etag: "" });
    const { total, etag } = first;
    const parts = [new Blob(first.buffers)];
    const asked = [];
    let next = first.buffers.reduce((sum, each) => sum + each.byteLength, 0);
    let got = next;
    while (got < total) {
      while (asked.length < WINDOW && next < total) {
        const answer = this.kernel.ask({ read: next, length: PIECE, etag });
        answer.catch(() => {}); // it is awaited below, after those before it
        asked.push(answer);
        next += PIECE;
      }
      const { buffers } = await asked.shift();
      parts.push(new Blob(buffers));
      got += buffers.reduce((sum, each) => sum + each.byteLength, 0);
      say(`${size(got)} of ${size(total)}`);
    }
    const url = URL.createObjectURL(new Blob(parts));
    element("a", { href: url, download: this.name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    say(`${size(got)} of ${size(total)}`);
  }
}
