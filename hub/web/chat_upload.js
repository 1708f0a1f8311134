/** Uploads one file with one PUT to the URL that the hub signs, and waits until the hub has verified it. @module chat_upload */

/** @typedef {import("../client_js/hub.js").HubClient} HubClient */

const DIGESTED_MAX_BYTES = 8 * 1024 * 1024; // smaller files are read into memory for their digest; the hub computes that of larger ones

/**
 * @param {HubClient} hub @param {string} channel @param {File} file
 * @param {(sent: number, total: number) => void} told
 * @param {(uploadId: string) => Promise<void>} verified settles with `file.ready` or `file.upload.failed`
 * @param {AbortSignal} signal cancels the upload
 * @returns {Promise<string>} the file's id
 */
export async function upload(hub, channel, file, told, verified, signal) {
  const sha256 = await digestOf(file);
  const wanted = { filename: file.name, size: file.size, mime: file.type || "application/octet-stream", strategy: "single", ...(sha256 && { sha256 }) };
  const { payload } = await hub.command("file.upload.request", channel, wanted);
  const uploadId = payload.upload_id;
  const ready = verified(uploadId);
  ready.catch(() => {}); // reported by the `await` below, unless something fails before it
  const giveUp = () => hub.command("file.upload.cancel", channel, { upload_id: uploadId }).catch(() => {}); // a refusal is reported by the event `error`
  signal.addEventListener("abort", giveUp, { once: true });
  await put(payload.single, file, told, signal);
  await hub.command("file.upload.complete", channel, { upload_id: uploadId, ...(sha256 && { sha256 }) });
  await ready;
  signal.removeEventListener("abort", giveUp);
  return uploadId;
}

/** @param {File} file @returns {Promise<string|null>} SHA-256 in base64; null for a large file, or if the page may not compute it */
async function digestOf(file) {
  if (file.size > DIGESTED_MAX_BYTES || !crypto.subtle) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return btoa(String.fromCharCode(...bytes));
}

/** Uses XMLHttpRequest, because `fetch` does not report upload progress. @param {any} way @param {File} file @param {(sent: number, total: number) => void} told @param {AbortSignal} signal @returns {Promise<void>} */
function put(way, file, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(way.method, way.url);
    for (const [name, value] of Object.entries(way.headers)) if (!/^(content-length|host)$/i.test(name)) request.setRequestHeader(name, String(value));
    request.upload.onprogress = ({ loaded }) => told(Math.min(loaded, file.size), file.size);
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(`the store refused the file (${request.status}): ${request.responseText.slice(0, 200)}`)));
    request.onerror = () => reject(new Error("the store is unreachable; try again"));
    request.onabort = () => reject(new Error("given up"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}
