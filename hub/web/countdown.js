/** Counts down to the next try, and may do something at its end. @module countdown */

const TICK_MS = 100;

/** One countdown at a time. */
export class Countdown {
  #told;
  /** @type {any} */ #timer = null;
  #untilMs = 0;
  #lengthMs = 0;
  /** @type {(() => void)|null} */ #act = null;

  /** @param {(leftMs: number|null) => void} told at each tick; null at the end */
  constructor(told) {
    this.#told = told;
  }

  /** Milliseconds left; null while none runs. @returns {number|null} */
  get leftMs() {
    return this.#timer === null ? null : Math.max(0, this.#untilMs - performance.now());
  }

  /** @param {number} lengthMs @param {() => void} [act] at the end */
  start(lengthMs, act) {
    this.stop();
    [this.#lengthMs, this.#act] = [lengthMs, act ?? null];
    this.#untilMs = performance.now() + lengthMs;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Give it its whole length again, if it ends with an act. */
  restart() {
    if (this.#act && this.#timer !== null) this.start(this.#lengthMs, this.#act);
  }

  /** End it without its act. */
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
