/** Chooses between WebSocket and HTTP: HTTP if no WebSocket can be opened, and WebSocket again as soon as one can. @module hub/fallback */

/** @typedef {{close(): void}} Trial A WebSocket that is being tried. */

const RETRY_MS = 5_000;
const RETRY_MAX_MS = 300_000;

/** Remembers the transport that worked last. */
export class Fallback {
  #hasWebSocket;
  #firstMs;
  #retryMs;
  /** @type {any} */ #timer;
  /** @type {Trial|null} */ #trial = null;

  /** @param {boolean} hasWebSocket false if the environment has none @param {number} [retryMs] first pause in milliseconds before WebSocket is tried again */
  constructor(hasWebSocket, retryMs = RETRY_MS) {
    [this.#hasWebSocket, this.isHttp] = [hasWebSocket, !hasWebSocket];
    this.#firstMs = this.#retryMs = retryMs;
  }

  /** Record a connection that ended before the hub acknowledged it. @returns {boolean} true: try HTTP at once */
  unacknowledged() {
    const wasHttp = this.isHttp;
    this.isHttp = !wasHttp || !this.#hasWebSocket; // if neither works they are tried in turn
    return this.isHttp && !wasHttp;
  }

  /** Record that the hub keeps this user off WebSocket. @returns {boolean} true: try HTTP at once */
  refused() {
    const wasHttp = this.isHttp;
    this.isHttp = true;
    return !wasHttp;
  }

  /** Record that the current transport works: over HTTP, try WebSocket after a pause, which doubles each time. @param {() => Trial} tryWebSocket opens one */
  acknowledged(tryWebSocket) {
    this.stop();
    if (!this.isHttp) this.#retryMs = this.#firstMs;
    if (!this.isHttp || !this.#hasWebSocket) return;
    const pauseMs = this.#retryMs * (0.75 + Math.random() / 2);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
    this.#timer = setTimeout(() => (this.#trial = tryWebSocket()), pauseMs);
  }

  /** Stop the trial, because the connection has ended. */
  stop() {
    clearTimeout(this.#timer);
    this.#trial?.close();
    this.#trial = null;
  }
}
