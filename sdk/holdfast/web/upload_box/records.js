// Unfinished uploads, kept in the storage of the browser so that they survive a reload of the page.

const PREFIX = "holdfast|";
const OLDEST = 30 * 24 * 3600 * 1000; // milliseconds

const unlessRefused = (action, otherwise) => {
  try {
    return action();
  } catch {
    return otherwise; // some pages may not use the storage, and a full one refuses
  }
};

/** The records of one server. A record is found by the target, size and date of its file. */
export class Records {
  constructor(server) {
    this.mark = `${PREFIX}${server}|`;
  }

  #key(name, { size, lastModified }) {
    return `${this.mark}${name}|${size}|${lastModified}`;
  }

  /** Returns the id of the upload of this file; "" if there is none. */
  find(name, file) {
    return unlessRefused(() => JSON.parse(localStorage.getItem(this.#key(name, file))).upload, "");
  }

  keep(name, file, upload) {
    const record = { upload, name, size: file.size, at: Date.now() };
    unlessRefused(() => localStorage.setItem(this.#key(name, file), JSON.stringify(record)));
  }

  drop(name, file) {
    this.dropKey(this.#key(name, file));
  }

  dropKey(key) {
    unlessRefused(() => localStorage.removeItem(key));
  }

  /** Returns all records of this server, each with its `key`. Old ones are removed. */
  all() {
    const keys = unlessRefused(() => Object.keys(localStorage), []).filter((key) => key.startsWith(this.mark));
    const found = [];
    for (const key of keys) {
      const record = unlessRefused(() => JSON.parse(localStorage.getItem(key)), null);
      if (record?.upload && Date.now() - record.at < OLDEST) found.push({ ...record, key });
      else this.dropKey(key);
    }
    return found;
  }
}
