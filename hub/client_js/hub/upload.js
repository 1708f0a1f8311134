/** Uploads one file with one PUT to the URL that the hub signs, and waits until the hub has verified it. @module hub/upload */

import { HubError } from "./error.js";

/** @typedef {{filename?: string, mime?: string, purpose?: "attachment"|"document"|"avatar", onProgress?: (sent: number, total: number) => void,
 *    signal?: AbortSignal}} UploadOptions */
/** @typedef {{file_id: string, filename: string, size: number, mime: string, ready: any}} UploadedFile `ready`: the payload of `file.ready` */
/** @typedef {{command(type: string, channel?: string, payload?: object): Promise<{payload: any}>}} Commands */

const DIGESTED_MAX_BYTES = 8 * 1024 * 1024; // smaller files are read into memory for their digest; the hub computes that of larger ones
const PUT_PAUSES_MS = [0, 1_000, 3_000]; // milliseconds to wait before each attempt
const POLL_MS = 100; // first pause between polls; it grows to a second
const FORBIDDEN = 403;
const ALREADY_THERE = 412;

/** @param {Commands} hub @param {string} channel @param {Blob} file @param {UploadOptions} [options] @returns {Promise<UploadedFile>} */
export async function upload(hub, channel, file, { filename, mime, purpose = "attachment", onProgress = () => {}, signal } = {}) {
  const name = filename ?? /** @type {File} */ (file).name;
  if (!name) throw new TypeError("a Blob has no name: give `filename`");
  signal?.throwIfAborted();
  const sha256 = await digestOf(file);
  const type = mime || file.type || "application/octet-stream";
  const wanted = { filename: name, size: file.size, mime: type, purpose, strategy: "single", ...(sha256 && { sha256 }) };
  const { payload } = await hub.command("file.upload.request", channel, wanted);
  const upload_id = payload.upload_id;
  const giveUp = () => hub.command("file.upload.cancel", channel, { upload_id }).catch(() => {}); // a refusal is reported by the event `error`
  signal?.addEventListener("abort", giveUp, { once: true });
  try {
    await send(hub, channel, upload_id, payload.single, file, onProgress, signal);
    const stored = await hub.command("file.upload.complete", channel, { upload_id, ...(sha256 && { sha256 }) });
    const ready = await outcome(hub, channel, upload_id, stored.payload.id, signal);
    return { file_id: upload_id, filename: name, size: file.size, mime: type, ready };
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

/** @param {Blob} file @returns {Promise<string|null>} SHA-256 in base64; null for a large file, or if the page may not compute it */
async function digestOf(file) {
  if (file.size > DIGESTED_MAX_BYTES || !globalThis.crypto?.subtle) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return btoa(String.fromCharCode(...bytes));
}

/** PUT the file, and try again where that can help. @param {Commands} hub @param {string} channel @param {string} upload_id @param {any} way @param {Blob} file
 *  @param {(sent: number, total: number) => void} onProgress @param {AbortSignal} [signal] */
async function send(hub, channel, upload_id, way, file, onProgress, signal) {
  let problem = "";
  for (const pauseMs of PUT_PAUSES_MS) {
    await sleep(pauseMs, signal);
    const { status, text } = await put(way, file, onProgress, signal);
    if ((status >= 200 && status < 300) || status === ALREADY_THERE) return;
    problem = status ? `the store refused the file (${status}): ${text.slice(0, 200)}` : `the store could not be reached: ${text}`;
    if (status === FORBIDDEN) way = (await hub.command("file.upload.status", channel, { upload_id })).payload.single ?? way; // the signature had expired
    else if (status && status < 500) break;
  }
  throw new Error(problem);
}

/** @param {any} way @param {Blob} file @param {(sent: number, total: number) => void} onProgress @param {AbortSignal} [signal]
 *  @returns {Promise<{status: number, text: string}>} status 0: it could not be reached */
async function put(way, file, onProgress, signal) {
  const headers = Object.entries(way.headers).filter(([name]) => !/^(content-length|host)$/i.test(name));
  if (globalThis.XMLHttpRequest) return putWithProgress(way, headers, file, onProgress, signal);
  try {
    const response = await fetch(way.url, { method: way.method, headers: Object.fromEntries(headers.map(([name, value]) => [name, String(value)])), body: file, signal });
    if (response.ok) onProgress(file.size, file.size);
    return { status: response.status, text: await response.text() };
  } catch (problem) {
    signal?.throwIfAborted();
    return { status: 0, text: String(problem) };
  }
}

/** Uses XMLHttpRequest, because `fetch` does not report upload progress. @param {any} way @param {[string, any][]} headers @param {Blob} file
 *  @param {(sent: number, total: number) => void} onProgress @param {AbortSignal} [signal] @returns {Promise<{status: number, text: string}>} */
function putWithProgress(way, headers, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(way.method, way.url);
    for (const [name, value] of headers) request.setRequestHeader(name, String(value));
    request.upload.onprogress = ({ loaded }) => onProgress(Math.min(loaded, file.size), file.size);
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = () => resolve({ status: 0, text: "no answer" });
    request.onabort = () => reject(signal?.reason);
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}

/** Poll the history for `file.ready` after an event, frequently at first. @param {Commands} hub @param {string} channel @param {string} id @param {string} after @param {AbortSignal} [signal] */
async function outcome(hub, channel, id, after, signal) {
  for (let pauseMs = POLL_MS; ; pauseMs = Math.min(pauseMs * 1.5, 1_000)) {
    signal?.throwIfAborted();
    const { payload: page } = await hub.command("channel.history", channel, { after, types: ["file.ready", "file.upload.failed"] });
    for (const { type, payload } of page.events) {
      if (type === "file.ready" && payload.file_id === id) return payload;
      if (payload.upload_id === id) throw new HubError({ code: 4017, name: payload.reason, message: payload.message, retry: "no" }, channel);
    }
    after = page.events.at(-1)?.id ?? after;
    await sleep(pauseMs, signal);
  }
}

/** @param {number} delayMs @param {AbortSignal} [signal] */
async function sleep(delayMs, signal) {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  signal?.throwIfAborted();
}
