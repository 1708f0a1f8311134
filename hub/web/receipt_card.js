/** The receipt of a replay, compared with the events that arrived on this page. @module receipt_card */

/** @typedef {import("../client_js/hub.js").Missing} Missing */

/** Counts the replayed events, then compares. */
export class ReceiptCard {
  #card;
  #parts;
  #first = 0;
  #last = 0;
  #count = 0;
  #hasOpenAnswer = false;

  /** @param {HTMLElement} card @param {{verdict: HTMLElement, from: HTMLElement, to: HTMLElement, count: HTMLElement, gap: HTMLElement}} parts */
  constructor(card, parts) {
    this.#card = card;
    this.#parts = parts;
  }

  /** Show that there is no receipt (yet). @param {string} why */
  clear(why) {
    this.begin();
    this.#card.dataset.verdict = "none";
    this.#parts.verdict.textContent = why;
    for (const name of /** @type {const} */ (["from", "to", "count", "gap"])) this.#parts[name].textContent = "–";
  }

  /** Start counting a replay. @param {boolean} [hasOpenAnswer] true if an answer is being written */
  begin(hasOpenAnswer = false) {
    [this.#first, this.#last, this.#count, this.#hasOpenAnswer] = [0, 0, 0, hasOpenAnswer];
  }

  /** @param {number} seq that of a replayed event */
  arrived(seq) {
    this.#first ||= seq;
    this.#last = seq;
    this.#count += 1;
  }

  /** @param {{from_seq: number|null, to_seq: number|null, count: number, gap: Missing|null}} receipt
   *  @returns {{text: string, tone: "good"|"warn"|"bad"}} the verdict in a sentence */
  show({ from_seq, to_seq, count, gap }) {
    const isHeld = this.#count === count && (!count || (this.#first === from_seq && this.#last === to_seq));
    const verdict = this.#verdict(isHeld, count, from_seq, to_seq, gap);
    this.#card.dataset.verdict = { good: "whole", warn: "gap", bad: "wrong" }[verdict.tone];
    this.#parts.verdict.textContent = verdict.text;
    this.#parts.from.textContent = from_seq === null ? "–" : String(from_seq);
    this.#parts.to.textContent = to_seq === null ? "–" : String(to_seq);
    this.#parts.count.textContent = String(count);
    this.#parts.gap.textContent = gap ? gap.reason : "none";
    return verdict;
  }

  /** @param {boolean} isHeld @param {number} count @param {number|null} from @param {number|null} to @param {Missing|null} gap
   *  @returns {{text: string, tone: "good"|"warn"|"bad"}} */
  #verdict(isHeld, count, from, to, gap) {
    if (gap) {
      const range = gap.from_seq === null ? "an unknown range" : `seq ${gap.from_seq} to ${gap.to_seq ?? "?"}`;
      return { text: `Gap: ${range} cannot be replayed (${gap.reason}). The state is shown instead.`, tone: "warn" };
    }
    if (!isHeld) return { text: `The receipt says ${count} events, but ${this.#count} arrived here.`, tone: "bad" };
    const events = count === 1 ? "1 event" : `${count.toLocaleString("en")} events`;
    const replayed = count === 0 ? "No event was stored meanwhile, so none had to be replayed." : `${events} replayed, seq ${from} to ${to}, in order, none missing.`;
    return { text: replayed + (this.#hasOpenAnswer ? " The words written meanwhile are there too, and the answer goes on." : ""), tone: "good" };
  }
}
