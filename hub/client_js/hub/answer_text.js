/** The text of an answer while it is written (docs/protocol.md#deltas): deltas are applied by offset, in code points. Pure. @module hub/answer_text */

/** The texts of one answer (`text` and `reasoning`) in one attempt of its run. */
export class AnswerText {
  attempt = 0;
  /** @type {Record<string, {text: string, end: number}>} `end` counts code points. */
  tracks = { text: { text: "", end: 0 }, reasoning: { text: "", end: 0 } };

  /** @param {any} delta the payload of an `assistant.message.delta` @returns {boolean} false if an earlier delta is missing: request the state */
  append({ attempt, track = "text", offset, end, delta }) {
    if (attempt < this.attempt) return true;
    if (attempt > this.attempt && (this.attempt || offset)) return false; // the `reset` before it is missing, which says what is kept
    this.attempt = attempt;
    const held = this.tracks[track];
    if (!held || offset < held.end) return true;
    if (offset > held.end) return false;
    this.tracks[track] = { text: held.text + delta, end };
    return true;
  }

  /** Start a new attempt. @param {any} told the payload of an `assistant.message.reset` @returns {boolean} false if less text is held than is to be kept */
  reset({ attempt, keep = 0 }) {
    if (attempt <= this.attempt) return true;
    const points = [...this.tracks.text.text];
    this.attempt = attempt;
    this.tracks = { text: { text: points.slice(0, keep).join(""), end: Math.min(keep, points.length) }, reasoning: { text: "", end: 0 } };
    return points.length >= keep;
  }

  /** Take over an open message of a state if it is longer. @param {any} told */
  take({ attempt, text, offset, reasoning = "", reasoning_offset = 0 }) {
    if (attempt < this.attempt) return;
    const isNew = attempt > this.attempt;
    this.attempt = attempt;
    if (isNew || offset > this.tracks.text.end) this.tracks.text = { text, end: offset };
    if (isNew || reasoning_offset > this.tracks.reasoning.end) this.tracks.reasoning = { text: reasoning, end: reasoning_offset };
  }
}
