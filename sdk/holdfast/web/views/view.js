// The views of ProcessCard, TransferCard and Dashboard, for anywidget: what the kernel says, shown by changing the page in
// place, so that text can be selected and the focus stays while it is updated.

import { Card } from "./card.js";
import { initialize, tell, timesOf } from "./content.js";
import { Dashboard } from "./dashboard.js";

function render({ model, el }) {
  const send = (message) => tell(model, message);
  let view = null;
  const update = () => {
    const snapshot = model.get("snapshot");
    if (snapshot?.heard === undefined) return; // `initialize` is about to take it
    if (!view) {
      const { content } = snapshot;
      view = content.view === "dashboard" ? new Dashboard(send, content) : new Card(send);
      el.classList.add("holdfast-view");
      el.dataset.lmSuppressShortcuts = "true"; // the keys of a field or a button are not commands of JupyterLab
      el.append(view.element);
    }
    view.set(snapshot.content, timesOf(snapshot));
  };
  const tick = () => view && view.tick(timesOf(model.get("snapshot")));
  model.on("change:snapshot", update);
  const timer = setInterval(tick, 1000);
  update();
  return () => {
    clearInterval(timer);
    model.off("change:snapshot", update);
  };
}

export default { initialize, render };
