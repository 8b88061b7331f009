// Files of a drop or a choice, with their paths: a folder keeps its structure.

/** Returns `[file, path]` of everything that was dropped. Must be called during the event. */
export function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return Promise.resolve([...data.files].map((file) => [file, file.name]));
  return Promise.all(entries.map((entry) => filesOf(entry, ""))).then((lists) => lists.flat());
}

/** Returns `[file, path]` of what was chosen, as files or as a folder. */
export function chosen(files) {
  return [...files].map((file) => [file, file.webkitRelativePath || file.name]);
}

async function filesOf(entry, folder) {
  const path = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[file, path]];
  }
  const found = [];
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at most
    if (!some.length) return found;
    for (const each of some) found.push(...(await filesOf(each, `${path}/`)));
  }
}
