// The address at which this page reaches the server of its kernel. Before anything is sent there, the far side proves
// that it is that server: it signs a nonce of the kernel, with the same result as the server that the kernel asks.

const PROBE_LIMIT = 10000; // milliseconds
const PROOF_LASTS = 10000; // milliseconds for which a proof is not repeated, unless a request fails
const KERNEL_LIMIT = 4000; // milliseconds after which an earlier proof is repeated instead of a new one

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** A way to the server. `base` ends in a slash; without it, everything goes through the kernel. */
class Route {
  constructor(base, asked, isSameOrigin) {
    this.base = base;
    this.asked = asked;
    this.token = asked.token;
    this.isSameOrigin = isSameOrigin;
  }

  /** Lets the far side prove again who it is. To be awaited before each request that has a token or bytes of a file. */
  async prove() {
    const { proven, cause } = await probe(this, this.asked);
    if (!proven) throw new Error(cause || "the server does not answer");
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
    const failed = [];
    let found;
    for (const candidate of candidates(asked)) {
      const probed = await probe(candidate, asked);
      if (probed.proven) {
        found = new Route(candidate.base, asked, candidate.isSameOrigin);
        break;
      }
      failed.push({ ...candidate, ...(probed.cause ? probed : await this.#causeOf(candidate)) });
    }
    if (!found && asked.isEarlier) {
      throw Object.assign(new Error("neither the server nor the kernel answers"), { again: true });
    }
    this.#route = found ?? new Route("", {}, false);
    this.#provenAt = performance.now();
    this.refusesPage = !found && failed.some((one) => one.isOfOrigin);
    this.onNote(found ? "" : noteOf(asked, failed));
    return this.#route;
  }

  /** Returns a nonce, its proof and the token. Without the kernel, those that it has sent before. */
  async #ask() {
    const answer = this.kernel.ask({ route: location.origin });
    if (!this.#asked?.nonce) return (this.#asked = await answer);
    const limit = new Promise((resolve) => setTimeout(resolve, KERNEL_LIMIT));
    try {
      const asked = await Promise.race([answer, limit]);
      if (asked) return (this.#asked = asked);
    } catch (error) {
      if (!error.isOfKernel) throw error; // the kernel says that its server does not answer
    }
    return { ...this.#asked, isEarlier: true };
  }

  /** Returns why a browser can't read the answer of an address, by what the server itself says of host and origin. */
  async #causeOf({ base, isSameOrigin, nonce }) {
    const where = named(base);
    if (isSameOrigin) return { cause: `${where} does not answer`, remedy: "Reload the page" };
    const { protocol, hostname, host } = new URL(base);
    if (location.protocol === "https:" && protocol === "http:" && !LOOPBACK.test(hostname)) {
      return { cause: `a page on https can't use ${where}`, remedy: `Give the server a certificate, or ${EXTENSION}` };
    }
    if (!(await answers(base, nonce))) {
      const far = LOOPBACK.test(hostname) && !LOOPBACK.test(location.hostname);
      const remedy = far ? `The server runs on another machine than this browser: ${EXTENSION}` : REACHABLE;
      return { cause: `nothing answers at ${where} from this browser`, remedy };
    }
    const said = await this.kernel.ask({ diagnose: host, origin: location.origin }).catch(() => ({}));
    if (said.host) {
      return { cause: `the server refuses the host ${hostname}`, remedy: `Start it with --allow-host ${hostname}` };
    }
    if (said.origin) {
      const remedy = `Start it with --allow-origin ${location.origin}`;
      return { cause: "the server refuses this page", remedy, isOfOrigin: true };
    }
    return { cause: `something else than the kernel's server answers at ${where}`, remedy: REACHABLE };
  }
}

const EXTENSION = "install holdfast[jupyter] beside JupyterLab, and start JupyterLab again";
const REACHABLE = "Make the server reachable from the browser, or install holdfast[jupyter] beside JupyterLab";
const CONNECT = "Make the client by holdfast.connect(): it takes the server beside JupyterLab, which this page reaches";

const named = (base) => base.replace(/\/$/, "");

/** Returns why nothing is sent directly, and what would change that. */
function noteOf({ nonce, shown, unproven }, failed) {
  if (!nonce) return `${unproven}.`;
  const beside = failed.find((one) => one.isSameOrigin);
  const straight = failed.find((one) => !one.isSameOrigin) ?? { cause: `a browser can't use ${shown}`, remedy: "" };
  const told = !straight.isOfOrigin && (beside?.isAnother || beside?.isOfLogin) ? beside : undefined;
  const remedy = told?.remedy || straight.remedy || `To upload directly, ${EXTENSION}`;
  return `${straight.cause}. ${remedy}.`;
}

/** Returns the addresses to try, in order: the one beside JupyterLab comes first if the kernel has found it. */
function candidates({ nonce, url, page_url }) {
  if (!nonce) return [];
  const found = [];
  const add = (base, isSameOrigin) => {
    if (!base || found.some((one) => one.base === base)) return;
    if (!isSameOrigin || new URL(base).origin === location.origin) found.push({ base, isSameOrigin, nonce });
  };
  if (page_url) {
    add(new URL(page_url, location.href).href, true);
    add(besideJupyter(), true);
  }
  add(url, false);
  add(besideJupyter(), true); // late: asking there may start a server
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
  const where = named(base);
  const credentials = isSameOrigin ? "same-origin" : "omit";
  let answer;
  try {
    const signal = AbortSignal.timeout(PROBE_LIMIT);
    answer = await fetch(identityUrl(base, nonce), { ...OPTIONS, credentials, signal });
  } catch {
    return {};
  }
  if (isSameOrigin && answer.status === 404) return { cause: "JupyterLab has no Holdfast beside it", remedy: "" };
  if (isSameOrigin && (answer.status === 401 || answer.status === 403)) {
    return { cause: "JupyterLab wants a login", remedy: "Reload the page to log in again", isOfLogin: true };
  }
  const said = await answer.json().catch(() => ({}));
  if (said.proof === undefined) return { cause: `no Holdfast server answers at ${where}`, remedy: REACHABLE };
  if (said.proof === proof) return { proven: true };
  const cause = `another Holdfast server than the kernel's answers at ${where}; nothing was sent to it`;
  return { cause, remedy: isSameOrigin ? CONNECT : REACHABLE, isAnother: true };
}

/** Returns whether anything answers, though this page may not read the answer. */
async function answers(base, nonce) {
  const signal = AbortSignal.timeout(PROBE_LIMIT);
  const options = { ...OPTIONS, redirect: "follow", mode: "no-cors", credentials: "omit", signal };
  return fetch(identityUrl(base, nonce), options).then(
    () => true,
    () => false,
  );
}
