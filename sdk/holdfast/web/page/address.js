// The address at which this page reaches the server of its kernel. Before anything is sent there, the far side proves
// that it is that server: it signs a nonce of the kernel, with the same result as the server that the kernel asks.

const PROBE_LIMIT = 10000; // milliseconds
const PROOF_LASTS = 10000; // milliseconds for which a proof is not repeated, unless a request fails
const KERNEL_LIMIT = 4000; // milliseconds after which an earlier proof is repeated instead of a new one

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** A way to the server. `base` ends in a slash; without it, everything goes through the kernel. */
class Route {
  constructor(base, token, isSameOrigin) {
    this.base = base;
    this.token = token;
    this.isSameOrigin = isSameOrigin;
  }

  get isDirect() {
    return this.base !== "";
  }

  /** Returns the headers of a request that changes something. Jupyter wants its own cookie back in a header. */
  headers() {
    if (!this.isSameOrigin) return this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const [, xsrf] = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie) ?? [];
    return xsrf ? { "X-XSRFToken": decodeURIComponent(xsrf) } : {};
  }
}

/** Finds the route, and the reason if it is not a direct one. */
export class Address {
  #asked;
  #route;
  #provenAt = -Infinity;

  constructor(kernel, onNote) {
    this.kernel = kernel;
    this.onNote = onNote;
  }

  /** Forgets the route after a request has failed: another program may answer there now. */
  distrust() {
    this.#provenAt = -Infinity;
  }

  /** Returns a route whose far side has proven that it is the kernel's server. */
  async route() {
    if (this.#route && performance.now() - this.#provenAt < PROOF_LASTS) return this.#route;
    this.#searching ??= this.#search().finally(() => (this.#searching = undefined));
    return this.#searching;
  }

  #searching;

  async #search() {
    const asked = await this.#ask();
    const reasons = [];
    let found;
    for (const candidate of candidates(asked)) {
      const { proven, note } = await probe(candidate, asked);
      if (proven) {
        found = new Route(candidate.base, asked.token, candidate.isSameOrigin);
        break;
      }
      if (note) reasons.push(note);
      else reasons.push(await this.#causeOf(candidate));
    }
    if (!asked.nonce) reasons.push({ text: asked.unproven });
    else if (!asked.url && !reasons.length) reasons.push(unreachableSocket(asked.shown));
    this.#route = found ?? new Route("", "", false);
    this.#provenAt = performance.now();
    // The address that was meant comes last: its cause is the one that can be removed.
    this.onNote(found ? "" : (reasons.at(-1)?.text ?? ""));
    return this.#route;
  }

  /** Returns a nonce, its proof and the token. Without the kernel, those that it has sent before. */
  async #ask() {
    const answer = this.kernel.ask({ route: location.origin });
    if (!this.#asked?.nonce) return (this.#asked = await answer);
    const limit = new Promise((resolve) => setTimeout(resolve, KERNEL_LIMIT));
    try {
      this.#asked = (await Promise.race([answer, limit])) ?? this.#asked;
    } catch (error) {
      if (error.again) throw error; // the kernel says that its server does not answer
    }
    return this.#asked;
  }

  /** Returns why a browser can't read the answer of `url`, by what the server itself says of this host and origin. */
  async #causeOf({ base, isSameOrigin, nonce }) {
    const where = base.replace(/\/$/, "");
    if (isSameOrigin) return { text: `${where} does not answer.` };
    const { protocol, hostname, host } = new URL(base);
    if (location.protocol === "https:" && protocol === "http:" && !LOOPBACK.test(hostname)) {
      return { text: `a page on https can't use ${where}. Give the server a certificate, or ${EXTENSION}.` };
    }
    const said = await this.kernel.ask({ diagnose: host, origin: location.origin }).catch(() => ({}));
    if (!(await answers(base, nonce))) {
      const far = LOOPBACK.test(hostname) && !LOOPBACK.test(location.hostname);
      const remedy = far ? `The server runs on another machine than this browser: ${EXTENSION}` : REACHABLE;
      return { text: `nothing answers at ${where} from this browser. ${remedy}.` };
    }
    if (said.host) return { text: `the server refuses the host ${hostname}. Start it with --allow-host ${hostname}.` };
    if (said.origin) return { text: `the server refuses this page. Start it with --allow-origin ${location.origin}.` };
    return { text: `something else than the kernel's server answers at ${where}. ${REACHABLE}.` };
  }
}

const EXTENSION = "install holdfast[jupyter] beside JupyterLab, and start JupyterLab again";
const REACHABLE = "Make the server reachable from the browser, or install holdfast[jupyter] beside JupyterLab";

const unreachableSocket = (shown) => ({ text: `a browser can't use ${shown}. To upload directly, ${EXTENSION}.` });

/** Returns the addresses to try, in order: beside JupyterLab, then the one that the kernel uses. */
function candidates({ nonce, url, page_url }) {
  if (!nonce) return [];
  const found = [];
  for (const base of [besideJupyter(), page_url && new URL(page_url, location.href).href]) {
    if (base && new URL(base).origin === location.origin && !found.some((one) => one.base === base)) {
      found.push({ base, isSameOrigin: true, nonce });
    }
  }
  if (url && !found.some((one) => one.base === url)) found.push({ base: url, isSameOrigin: false, nonce });
  return found;
}

/** Returns where the extension would be on the page's own server; undefined on a page that is not Jupyter's. */
function besideJupyter() {
  try {
    const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    return config.baseUrl ? new URL(`${config.baseUrl}holdfast/`, location.href).href : undefined;
  } catch {
    return undefined;
  }
}

const identityUrl = (base, nonce) => `${base}v1/identity?nonce=${nonce}`;

const OPTIONS = { cache: "no-store", redirect: "error", referrerPolicy: "no-referrer" };

/** Asks an address for its proof, without token and headers. The page's own server gets its cookies, as for any URL. */
async function probe({ base, isSameOrigin }, { nonce, proof }) {
  const where = base.replace(/\/$/, "");
  const credentials = isSameOrigin ? "same-origin" : "omit";
  let answer;
  try {
    const signal = AbortSignal.timeout(PROBE_LIMIT);
    answer = await fetch(identityUrl(base, nonce), { ...OPTIONS, credentials, signal });
  } catch {
    return { proven: false };
  }
  if (isSameOrigin && answer.status === 404) return { proven: false, note: { text: `${EXTENSION_MISSING}.` } };
  if (isSameOrigin && (answer.status === 401 || answer.status === 403)) {
    return { proven: false, note: { text: "JupyterLab wants you to log in again. Reload the page." } };
  }
  const said = await answer.json().catch(() => ({}));
  if (said.proof === undefined) {
    return { proven: false, note: { text: `no Holdfast server answers at ${where}. ${REACHABLE}.` } };
  }
  if (said.proof === proof) return { proven: true };
  const text = `another Holdfast server than the kernel's answers at ${where}; nothing was sent to it. ${REACHABLE}.`;
  return { proven: false, note: { text } };
}

const EXTENSION_MISSING = `JupyterLab has no Holdfast beside it: ${EXTENSION}`;

/** Returns whether anything answers, though this page may not read the answer. */
async function answers(base, nonce) {
  const signal = AbortSignal.timeout(PROBE_LIMIT);
  const options = { ...OPTIONS, redirect: "follow", mode: "no-cors", credentials: "omit", signal };
  return fetch(identityUrl(base, nonce), options).then(
    () => true,
    () => false,
  );
}
