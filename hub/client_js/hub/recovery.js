/** Decides after a loss: reconnect after a pause, with a new token, or not at all. @module hub/recovery */

/** @typedef {import("./error.js").HubError} HubError */

/** Fresh tokens in a row refused as expired, after which their source counts as broken. */
const REFRESHES_MAX = 2;

/** Remembers the hub's advice, and the failed attempts in a row. */
export class Recovery {
  #canRefresh;
  #range = { min_ms: 200, max_ms: 10_000 }; // until a hub has given its own
  #attempts = 0;
  #refreshes = 0;
  #drainedUntil = 0;

  /** @param {boolean} canRefresh true if another token can be had */
  constructor(canRefresh) {
    this.#canRefresh = canRefresh;
  }

  /** Record a successful handshake. @param {{min_ms: number, max_ms: number}} [range] the hub's own */
  acknowledged(range) {
    this.#range = range ?? this.#range;
    this.#refreshes = 0;
  }

  /** Record that the connection delivered something: the back-off starts anew after the next loss. */
  progressed() {
    this.#attempts = 0;
  }

  /** Record that the hub restarts and spreads its clients. @param {number} delayMs milliseconds to wait before reconnecting */
  drained(delayMs) {
    this.#drainedUntil = performance.now() + delayMs;
  }

  /** Decide after the loss of a socket. @param {HubError} error @returns {number|null} milliseconds until the next attempt; null for no more attempts */
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

  /** The pause before another attempt: the hub's, else exponential with full jitter.
   *  @param {HubError} error @param {number} attempt number of the attempt, from 0 */
  pauseMs(error, attempt) {
    if (error.retryAfterMs !== undefined) return error.retryAfterMs * (1 + Math.random() / 4);
    return Math.random() * Math.min(this.#range.max_ms, this.#range.min_ms * 2 ** attempt);
  }
}
