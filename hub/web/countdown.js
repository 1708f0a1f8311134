/** Counts down to the next attempt, and can call a function at the end. @module countdown */

const TICK_MS = 100;

/** One countdown at a time. */
export class Countdown {
  #told;
  /** @type {any} */ #timer = null;
  #untilMs = 0;
  #lengthMs = 0;
  /** @type {(() => void)|null} */ #act = null;

  /** @param {(leftMs: number|null) => void} told called at each tick; null at the end */
  constructor(told) {
    this.#told = told;
  }

  /** Milliseconds left; null if no countdown runs. @returns {number|null} */
  get leftMs() {
    return this.#timer === null ? null : Math.max(0, this.#untilMs - performance.now());
  }

  /** @param {number} lengthMs @param {() => void} [act] called at the end */
  start(lengthMs, act) {
    this.stop();
    [this.#lengthMs, this.#act] = [lengthMs, act ?? null];
    this.#untilMs = performance.now() + lengthMs;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Start over with the full length, if a function is to be called at the end. */
  restart() {
    if (this.#act && this.#timer !== null) this.start(this.#lengthMs, this.#act);
  }

  /** Stop without calling the function. */
  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick() {
    if (this.leftMs) return this.#told(this.leftMs);
    this.stop();
    this.#told(null);
    this.#act?.();
  }
}
