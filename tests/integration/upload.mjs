// Uploads a file by tus-js-client: node upload.mjs ENDPOINT FILE {"name", "parallel", "storage", "headers"}
// An upload of the same file that an earlier process began is taken up. Prints {"url", "resumed"}.
import { createReadStream } from "node:fs";
import * as tus from "tus-js-client";

const [endpoint, path, json] = process.argv.slice(2);
const options = JSON.parse(json);

const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  headers: options.headers ?? {},
  parallelUploads: options.parallel,
  metadata: { filename: options.name, filetype: "application/octet-stream" },
  retryDelays: [0, 50, 100, 200, 400],
  urlStorage: new tus.FileUrlStorage(options.storage),
  removeFingerprintOnSuccess: true,
  onError(error) {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess() {
    console.log(JSON.stringify({ url: upload.url, resumed: previous.length > 0 }));
  },
});

const previous = await upload.findPreviousUploads();
if (previous.length > 0) {
  upload.resumeFromPreviousUpload(previous[0]);
}
upload.start();
