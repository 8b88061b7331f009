// Upload of one file from the page to the server, by tus. `tus` is defined before this text.

const PIECE = 8 * 1024 * 1024; // one request: proxies limit bodies

/** The server or something before it has refused. `again`: a retry may succeed. */
export class RequestFailed extends Error {
  constructor(error) {
    const response = error.originalResponse;
    const status = response?.getStatus() ?? 0;
    const problem = problemOf(response);
    super(status === 0 ? "the server does not answer" : problem.detail || `the server answers with ${status}`);
    this.status = status;
    this.kind = (problem.type ?? "").split("/").at(-1);
    this.again = mayRepeat(status, error.originalRequest?.getMethod());
    this.isOfLogin = status === 401 || (status === 403 && !problem.type);
    this.isGone = status === 404 || status === 410;
  }
}

/** Returns the problem details of a refusal (RFC 9457), else an empty object. */
function problemOf(response) {
  try {
    return JSON.parse(response.getBody());
  } catch {
    return {};
  }
}

function mayRepeat(status, method) {
  if (status === 409) return method !== "POST"; // the client asks for the offset first
  return status === 0 || [408, 423, 425, 429].includes(status) || (status >= 500 && ![501, 505, 507].includes(status));
}

/** Sends one file. The promise of `send` is resolved when the server has all of it. */
export class Direct {
  constructor(entry) {
    this.entry = entry;
  }

  send(route) {
    const { entry } = this;
    const base = `${route.base}v1/uploads`;
    return new Promise((resolve, reject) => {
      this.upload = new tus.Upload(entry.file, {
        endpoint: entry.overwrite ? `${base}?overwrite=true` : base,
        uploadUrl: entry.upload ? `${base}/${entry.upload}` : null,
        chunkSize: PIECE,
        uploadDataDuringCreation: entry.file.size <= PIECE,
        retryDelays: null, // before a retry, the far side has to prove again who it is
        storeFingerprintForResuming: false,
        metadata: { filename: entry.name, filetype: entry.file.type },
        onBeforeRequest: async (request) => {
          await route.prove(); // a forwarded port may lead to another server since the last piece
          for (const [name, value] of Object.entries(route.headers())) request.setHeader(name, value);
        },
        onUploadUrlAvailable: () => {
          entry.upload = this.upload.url.split(/[?#]/)[0].split("/").at(-1);
          this.upload.url = `${base}/${entry.upload}`; // a proxy may serve the server at another path than it knows
        },
        onProgress: (sent) => entry.setSent(sent),
        onSuccess: resolve,
        onError: (error) => reject(new RequestFailed(error)),
      });
      this.upload.start();
    });
  }

  async stop() {
    await this.upload?.abort();
  }
}
