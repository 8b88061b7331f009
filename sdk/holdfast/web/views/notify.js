// Notifications of the browser: the end of what a person wants to hear of.

function announced(content) {
  const found = new Map();
  if (content.view === "card" && content.notify) found.set(content.title, content);
  for (const [id, row] of Object.entries(content.processes?.rows ?? {})) if (row.notify) found.set(id, row);
  return found;
}

export function announce(before, after) {
  const earlier = announced(before);
  for (const [title, shown] of announced(after)) {
    const was = earlier.get(title);
    if (!shown.over || !was || was.over) continue;
    if (typeof Notification === "undefined" || Notification.permission !== "granted") continue;
    const body = [shown.error || shown.note, shown.facts].filter(Boolean).join("\n");
    const note = new Notification(`${title}: ${shown.state}`, { body, tag: `holdfast ${title}` });
    note.onclick = () => window.focus();
  }
}
