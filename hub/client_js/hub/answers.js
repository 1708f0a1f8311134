/** Follows an agent's answer while it is written, however often the connection is lost (docs/protocol.md#deltas). @module hub/answers */

import { AnswerText } from "./answer_text.js";

/** @typedef {import("./feed.js").Item} Item */
/** @typedef {{id: string, seq: number, run_id?: string}} Asked the payload of the reply to a `chat.message` or `agent.invoke` */
/** @typedef {{command(type: string, channel?: string, payload?: object): Promise<any>,
 *    subscribe(channel: string, options?: object): AsyncIterable<Item> & {close(): void}}} Client */

/** An agent's run ended without a complete answer. */
export class AnswerFailed extends Error {
  /** @param {any} complete the payload of `agent.complete` */
  constructor(complete) {
    const reason = complete.error ? ` (${complete.error.code}): ${complete.error.message}` : "";
    super(`${complete.agent} ${complete.outcome === "cancelled" ? "was cancelled" : complete.outcome}${reason}`);
    this.name = "AnswerFailed";
    /** @type {"failed"|"expired"|"cancelled"} */
    this.outcome = complete.outcome;
    this.runId = complete.run_id;
    this.isRetryable = complete.error?.retryable ?? false;
  }
}

/**
 * Yield the whole text so far whenever it has changed; the last one is the text that counts. The messages of one answer are
 * separated by an empty line.
 *
 * @param {Client} hub a client that does not follow the channel already @param {string} channel the channel of the question
 * @param {{payload: any}} asked the reply to the `chat.message` or `agent.invoke`; kept over a reload, it finds the same answer again
 * @param {{signal?: AbortSignal}} [options] `signal` leaves it, also while it waits
 * @returns {AsyncGenerator<string>} @throws {AnswerFailed} the run failed, expired or was cancelled
 */
export async function* answers(hub, channel, asked, { signal } = {}) {
  const { id, seq } = asked.payload;
  const answer = new Answer(asked.payload);
  let shown = "";
  const items = hub.subscribe(channel, { after: id, seq });
  signal?.addEventListener("abort", () => items.close(), { once: true });
  for await (const item of items) {
    if (item.kind === "gap") throw new Error(`the answer is no longer in the log (${item.reason})`);
    answer.take(item);
    if (answer.isBehind) answer.takeState((await hub.command("channel.state", channel)).payload.state);
    if (answer.text !== shown) yield (shown = answer.text);
    if (answer.complete) break;
  }
  if (answer.complete?.outcome !== "success" && answer.complete) throw new AnswerFailed(answer.complete);
}

/** The answer of one run, assembled from the items and states of its channel. Pure. */
export class Answer {
  /** @type {any} The payload of the run's `agent.complete`; null until it arrives. */ complete = null;
  /** True if a delta did not continue the text held; pass a newer channel state to `takeState` to repair it. */ isBehind = false;
  /** @type {Map<string, {number: number, text: AnswerText, isStarted: boolean, isEnded: boolean}>} */ #messages = new Map();

  /** @param {Asked} asked */
  constructor(asked) {
    if (!asked.run_id) throw new TypeError("no agent was asked: name one in the command, or in the settings of the conversation");
    this.runId = asked.run_id;
  }

  /** The text so far. A message is included once all before it are complete and its `start` has arrived. */
  get text() {
    return this.#joined("text");
  }

  /** The reasoning so far, for clients with the capability `reasoning`. */
  get reasoning() {
    return this.#joined("reasoning");
  }

  /** @param {Item} item @returns {boolean} true if it belongs to this run */
  take(item) {
    if (item.kind === "subscribed" && item.state) this.takeState(item.state);
    if (item.kind !== "event" && item.kind !== "signal") return false;
    const { type, payload } = item.event;
    if (payload?.run_id !== this.runId) return false;
    if (type === "agent.complete") this.complete = payload;
    else if (type.startsWith("assistant.message.")) this.#piece(type.slice(18), payload);
    return true;
  }

  /** Take over from a channel state whatever is newer than the text held. @param {any} state */
  takeState(state) {
    this.isBehind = false;
    for (const held of state.open_messages ?? []) {
      if (held.run_id !== this.runId) continue;
      const message = this.#message(held.message_id);
      if (!message.isEnded) message.text.take(held);
    }
  }

  /** @param {string} kind @param {any} payload */
  #piece(kind, payload) {
    const message = this.#message(payload.message_id);
    if (kind === "start") message.isStarted = true;
    else if (kind === "end") this.#end(message, payload);
    else if (message.isEnded) return;
    else if (kind === "delta") this.isBehind = !message.text.append(payload) || this.isBehind;
    else if (kind === "reset") this.isBehind = !message.text.reset(payload) || this.isBehind;
  }

  /** @param {{text: AnswerText, isStarted: boolean, isEnded: boolean}} message @param {any} payload */
  #end(message, payload) {
    message.isStarted = message.isEnded = true;
    const { tracks } = message.text;
    for (const track of ["text", "reasoning"]) if (payload[track] !== undefined) tracks[track] = { text: payload[track], end: [...payload[track]].length };
  }

  /** @param {string} id */
  #message(id) {
    let message = this.#messages.get(id);
    if (!message) {
      message = { number: Number(id.slice(id.lastIndexOf(".") + 1)), text: new AnswerText(), isStarted: false, isEnded: false };
      this.#messages.set(id, message);
    }
    return message;
  }

  /** @param {string} track */
  #joined(track) {
    const parts = [];
    const inOrder = [...this.#messages.values()].sort((one, other) => one.number - other.number);
    for (const [place, message] of inOrder.entries()) {
      if (!this.complete && (message.number !== place || !message.isStarted)) break; // a message before this one has not arrived yet
      parts.push(message.text.tracks[track].text);
      if (!this.complete && !message.isEnded) break;
    }
    return parts.filter(Boolean).join("\n\n");
  }
}
