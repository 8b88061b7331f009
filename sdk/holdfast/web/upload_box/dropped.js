// Files of a drop or a choice, with their paths: a folder keeps its structure.

/**
 * Returns `found`, with `[file, path]` of everything that was dropped, and `unreadable`, with the paths of what the
 * browser could not read. Must be called during the event.
 */
export async function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const all = { found: [], unreadable: [] };
  if (!entries.length) all.found.push(...[...data.files].map((file) => [file, file.name]));
  for (const entry of entries) await collect(entry, "", all);
  return all;
}

/** Returns `[file, path]` of what was chosen, as files or as a folder. */
export function chosen(files) {
  return [...files].map((file) => [file, file.webkitRelativePath || file.name]);
}

async function collect(entry, folder, all) {
  const path = folder + entry.name;
  try {
    if (entry.isFile) {
      all.found.push([await new Promise((resolve, reject) => entry.file(resolve, reject)), path]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at most
      if (!some.length) return;
      for (const each of some) await collect(each, `${path}/`, all);
    }
  } catch {
    all.unreadable.push(path);
  }
}
