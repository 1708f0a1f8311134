/** Decides after a loss: reconnect after a pause, with a new token, or not at all. @module hub/recovery */

/** @typedef {import("./error.js").HubError} HubError */

/** Tokens in a row that the hub may call expired before their source counts as broken. */
const REFRESHES_MAX = 2;

/** Remembers the hub's advice, and the failed attempts in a row. */
export class Recovery {
  #canRefresh;
  #range = { min_ms: 200, max_ms: 10_000 }; // until a hub has said its own
  #attempts = 0;
  #refreshes = 0;
  #drainedUntil = 0;

  /** @param {boolean} canRefresh true if another token can be had */
  constructor(canRefresh) {
    this.#canRefresh = canRefresh;
  }

  /** Note a successful handshake. @param {{min_ms: number, max_ms: number}} [range] the hub's own */
  acknowledged(range) {
    this.#range = range ?? this.#range;
    this.#refreshes = 0;
  }

  /** Note that the connection was of use: the next loss is a first one again. */
  progressed() {
    this.#attempts = 0;
  }

  /** Note that the hub restarts and spreads its clients. @param {number} delayMs reconnect no earlier */
  drained(delayMs) {
    this.#drainedUntil = performance.now() + delayMs;
  }

  /** Decide after the loss of a socket. @param {HubError} error @returns {number|null} milliseconds until the next try; null: no more */
  lost(error) {
    const attempt = this.#attempts++;
    if (error.retry === "refresh" && this.#canRefresh && this.#refreshes++ < REFRESHES_MAX) {
      return this.#refreshes === 1 ? 0 : this.pauseMs(error, attempt);
    }
    if (!error.isPassing) return null;
    const drainedMs = this.#drainedUntil - performance.now();
    if (drainedMs > 0) return drainedMs;
    return error.retry === "now" && attempt === 0 ? 0 : this.pauseMs(error, attempt);
  }

  /** The pause before a repetition: the hub's, else exponential with full jitter.
   *  @param {HubError} error @param {number} attempt 0 is the first */
  pauseMs(error, attempt) {
    if (error.retryAfterMs !== undefined) return error.retryAfterMs * (1 + Math.random() / 4);
    return Math.random() * Math.min(this.#range.max_ms, this.#range.min_ms * 2 ** attempt);
  }
}
