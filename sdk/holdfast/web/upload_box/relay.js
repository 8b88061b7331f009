// Upload of one file through the kernel: pieces with their checksums, a few at a time, so that neither the kernel nor
// the connection to it holds more than that.

const PIECE = 1024 * 1024; // Jupyter servers refuse messages of more than 10 MiB
const WINDOW = 4; // pieces without an answer
const MOST_REFUSED = 5; // pieces in a row that bring no progress

/** Sends one file. `isCurrent` of `send` returns whether the run that has called it goes on. */
export class Relay {
  constructor(entry) {
    this.entry = entry;
  }

  async send(isCurrent) {
    const { entry } = this;
    const { kernel } = entry.box;
    const { file, name, overwrite, upload } = entry;
    const begun = await kernel.ask({ begin: name, size: file.size, overwrite, upload });
    if (!isCurrent()) return entry.takeUp(begun.upload);
    entry.upload = begun.upload;
    let { offset } = begun;
    let next = offset;
    let refused = 0;
    const sent = []; // [end of the piece, its answer], in order
    entry.setSent(offset);
    while (offset < file.size && isCurrent()) {
      while (sent.length < WINDOW && next < file.size) {
        const data = await file.slice(next, next + PIECE).arrayBuffer();
        const question = { piece: next, upload: entry.upload, size: file.size, crc32: crc32(new Uint8Array(data)) };
        next += data.byteLength;
        const answer = kernel.ask(question, [new DataView(data)]);
        answer.catch(() => {}); // it is awaited below, after those before it
        sent.push([next, answer]);
      }
      const [end, answer] = sent.shift();
      const before = offset;
      ({ offset } = await answer);
      if (!isCurrent()) return;
      if (offset === end) {
        refused = 0;
        entry.setSent(offset);
      } else {
        if (++refused > MOST_REFUSED) throw Object.assign(new Error("pieces arrive changed"), { again: true });
        for (const [, rest] of sent.splice(0)) ({ offset } = await rest);
        next = offset;
        if (offset !== before) entry.setSent(offset);
      }
    }
  }

  async stop() {} // the run ends at the answer to its piece
}

const TABLES = Array.from({ length: 8 }, () => new Uint32Array(256));
for (let n = 0; n < 256; n++) {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  TABLES[0][n] = value;
}
for (let n = 0; n < 256; n++) {
  for (let table = 1; table < 8; table++) {
    const value = TABLES[table - 1][n];
    TABLES[table][n] = TABLES[0][value & 255] ^ (value >>> 8);
  }
}

/** Returns the CRC-32 of bytes, eight at a step. (`crypto.subtle` exists on secure pages only.) */
export function crc32(data) {
  const [a, b, c, d, e, f, g, h] = TABLES;
  let crc = 0xffffffff;
  let at = 0;
  for (const whole = data.length - 7; at < whole; at += 8) {
    crc ^= data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24);
    crc =
      h[crc & 255] ^ g[(crc >>> 8) & 255] ^ f[(crc >>> 16) & 255] ^ e[crc >>> 24] ^
      d[data[at + 4]] ^ c[data[at + 5]] ^ b[data[at + 6]] ^ a[data[at + 7]];
  }
  for (; at < data.length; at++) crc = a[(crc ^ data[at]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
