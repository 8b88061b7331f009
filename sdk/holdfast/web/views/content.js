// The content of a view, one for a model however many views it has. The kernel sends merge patches (RFC 7396).

import { announce } from "./notify.js";

const clock = () => performance.now() / 1000;

function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const known = target !== null && typeof target === "object" && !Array.isArray(target) ? target : {};
  const result = Object.assign(Object.create(null), known); // keys are names of files, such as __proto__
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merge(Object.hasOwn(known, key) ? known[key] : undefined, value);
  }
  return result;
}

/** The newest content, and what the kernel's clock shows. It is kept in the model, for views that come later. */
export function initialize({ model }) {
  let known = null;
  let asked = -Infinity;

  const keep = (version, now, content) => {
    const before = known;
    known = { version, content, offset: clock() - now, heard: clock() };
    model.set("snapshot", known);
    if (before) announce(before.content, content);
  };

  const whole = () => {
    const snapshot = model.get("snapshot");
    if (!snapshot || snapshot === known) return;
    if (known && snapshot.version < known.version) model.set("snapshot", known);
    else keep(snapshot.version, snapshot.now, snapshot.content);
  };

  model.on("change:snapshot", whole);
  model.on("msg:custom", (message) => {
    if (message.patch === undefined) return;
    if (known && message.base === known.version) {
      keep(message.version, message.now, merge(known.content, message.patch));
    } else if (!known || message.version > known.version) {
      if (clock() - asked < 1) return; // the answer is on its way, or the kernel is busy and sends it by itself
      asked = clock();
      tell(model, { whole: true });
    }
  });
  whole();
}

export function tell(model, message) {
  try {
    model.send(message);
  } catch {} // the kernel was restarted: this view is of the one before
}

const SILENT_AFTER = 20; // seconds without any message of a kernel that promised one

/** What the kernel's clock shows, and for how long the kernel has been silent, if that is too long. */
export function timesOf(snapshot) {
  const silence = clock() - snapshot.heard;
  const silent = snapshot.content.live && silence >= SILENT_AFTER ? silence : 0;
  return { now: clock() - snapshot.offset, silent };
}
