// A card: state, name, buttons, bar, facts, log and error of one thing.

import { BELL, drawing, element, setAttribute, setText, show } from "./elements.js";
import { Bar, Buttons, Lines } from "./parts.js";
import { pace } from "./times.js";

export class Card {
  constructor(send) {
    this.send = send;
    this.badge = element("span", { class: "hf-badge" });
    this.title = element("b", {});
    this.kind = element("span", { class: "hf-dim" });
    const status = element("div", { role: "status", class: "hf-status" }, this.badge, " ", this.title, " ", this.kind);
    this.buttons = new Buttons((verb) => send({ verb }));
    this.bellText = element("span", {});
    this.bell = element("button", { type: "button", class: "hf-button hf-bell" }, drawing(BELL, 24), this.bellText);
    this.bell.addEventListener("click", (event) => {
      event.stopPropagation();
      this.ring();
    });
    this.bar = new Bar();
    this.facts = ["facts", "pace", "note", "hint", "bell"].map((name) => element("span", { class: `hf-fact hf-${name}` }));
    this.lines = new Lines();
    this.error = element("div", { role: "alert", class: "hf-alert hf-is-bad" });
    this.warning = element("div", { role: "alert", class: "hf-alert hf-is-waiting" });
    const head = element("div", { class: "hf-head" }, status, this.buttons.element, this.bell);
    const facts = element("div", { class: "hf-facts" }, ...this.facts);
    this.element = element("div", { class: "hf-card" }, head, this.bar.element, facts, this.lines.element, this.error, this.warning);
    this.said = "";
  }

  /** Turns notifications on or off, and asks for permission if there is none yet. */
  async ring() {
    const content = this.content;
    this.said = "";
    const wanted = !(content.notify && typeof Notification !== "undefined" && Notification.permission === "granted");
    if (wanted) {
      if (typeof Notification === "undefined") this.said = "this browser shows no notifications";
      else if ((await Notification.requestPermission()) !== "granted") this.said = "the browser does not allow this page to notify";
    }
    if (!this.said) this.send({ notify: wanted });
    this.tick(this.times);
  }

  set(content, times) {
    this.content = content;
    setText(this.badge, content.state);
    setAttribute(this.badge, "class", `hf-badge hf-${content.tone}`);
    setText(this.title, content.title);
    setText(this.kind, content.kind);
    setAttribute(this.element, "data-state", content.state);
    this.buttons.set(content.verbs, content.title);
    const value = [content.facts, content.note].filter(Boolean).join(", ") || content.state;
    this.bar.set(content.fraction, content.tone, `${content.kind} ${content.title}`, value);
    this.lines.set(content.lines);
    setText(this.error, content.error);
    show(this.error, content.error !== "");
    setText(this.warning, content.warning);
    show(this.warning, content.warning !== "");
    show(this.bell, content.bell);
    const allowed = typeof Notification !== "undefined" && Notification.permission === "granted";
    const asked = content.notify && !allowed;
    setText(this.bellText, asked ? "Allow notifications" : "");
    setAttribute(this.bell, "aria-pressed", content.notify && allowed);
    setAttribute(this.bell, "aria-label", asked ? "Allow notifications" : "Notify me at the end");
    setAttribute(this.bell, "title", content.notify && allowed ? "The browser will notify you at the end" : "Notify me at the end");
    this.tick(times);
  }

  tick(times) {
    this.times = times;
    const { facts, note, hint } = this.content;
    const texts = [facts, pace(this.content, times), note, hint, this.said];
    for (const [index, text] of texts.entries()) {
      setText(this.facts[index], text);
      show(this.facts[index], text !== "");
    }
  }
}
