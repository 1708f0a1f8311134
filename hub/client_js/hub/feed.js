/**
 * The client's state of one subscription: requested, replayed, then live; in exact order or with an explicit gap.
 *
 * No sockets and no timers: `HubClient` sends the requests, passes messages in, and reacts to the results.
 *
 * @module hub/feed
 */

import { reportFault } from "./error.js";

/** @typedef {{after: string, seq?: number, epoch?: string}} Cursor The last event seen in one channel. */
/** @typedef {{id: string, seq: number}} Position */
/** @typedef {{reason: string, from_seq: number|null, to_seq: number|null}} Missing Events that cannot be replayed, and the reason. */
/** @typedef {{id: string, seq: number, channel: string, type: string, v: number, actor: {kind: string, id: string,
 *    client?: string}, meta?: Record<string, string>, payload: any}} HubEvent A stored event, as on the wire. */
/** @typedef {{kind: "subscribed", epoch: string, head: Position, floor: Position|null, recovered: boolean, replay: number,
 *    gap: Missing|null, state?: any, state_scope?: "live"|"full", state_at: number}} Subscribed The hub's answer; `replay` events follow.
 * After a resume the state's scope is `live`: only presence, typing and open messages. Merge it into the state that you have. */
/** @typedef {{kind: "event", event: HubEvent, replayed: boolean}} EventItem */
/** @typedef {Missing & {kind: "gap", head: Position, state?: any}} Gap Events that this reader can no longer get; `state` replaces them. */
/** @typedef {{kind: "receipt", from_seq: number|null, to_seq: number|null, count: number, gap: Missing|null}} Receipt */
/** @typedef {{kind: "signal", event: any}} Signal An event that is not stored: typing, presence, a delta of an answer. */
/** @typedef {(Subscribed|EventItem|Gap|Receipt|Signal) & {cursor?: Cursor}} Item `cursor`: the position after the item. */
/** @typedef {Partial<Cursor> & {rewind?: number, state?: boolean, presence?: boolean, onItem?: (item: Item) => void}} SubscribeOptions
 *    The start (default: the stored cursor, else new events only) and options. `onItem` is called instead of iterating. */

/** Maximum items buffered for a slow `for await`. Beyond it, further events stay in the hub's log until it has caught up. */
const BUFFER_MAX = 10_000;
/** Holes in a row after the same cursor, after which the subscription fails instead of requesting again. */
const HOLES_MAX = 5;

/** The state of one subscription; accepts only the next `seq`. */
export class Feed {
  /** @param {string} channel @param {SubscribeOptions} options */
  constructor(channel, options) {
    this.channel = channel;
    this.options = options;
    this.after = options.after ?? "$";
    /** @type {number|null} */
    this.seq = options.after === "0" ? 0 : (options.seq ?? null);
    /** @type {string|null} */
    this.epoch = options.epoch ?? null;
    /** @type {string|null} The id of the unanswered request. */
    this.asked = null;
    this.isLive = false;
    this.isSpilled = false;
    this.isEnded = false;
    this.refusals = 0;
    /** @type {Item[]} */
    this.items = [];
    /** @type {Cursor|undefined} The position after the last yielded item. */
    this.cursor = undefined;
    /** @type {Error|null} */
    this.error = null;
    this.wake = () => {};
    this.replayTo = 0;
    this.holes = 0;
  }

  /** @returns {Cursor|undefined} the position to continue from; none if the live end or a rewind was requested and not answered yet */
  get position() {
    if (this.after === "$") return undefined;
    return { after: this.after, seq: this.seq ?? undefined, epoch: this.epoch ?? undefined };
  }

  /** True if a cursor alone is enough to subscribe. */
  get isPlain() {
    return this.after !== "$" && this.options.state !== false && !this.options.presence;
  }

  /** The subscription object to send now. */
  get request() {
    const { rewind, state, presence } = this.options;
    return { channel: this.channel, ...(this.position ?? { rewind }), state, presence };
  }

  /** True if a `channel.subscribed` is for this feed: the answer, or a notice that the log broke off. @param {string|undefined} re @param {string} handshake */
  expects(re, handshake) {
    return this.asked === (re ?? handshake) || (this.isLive && re === undefined);
  }

  /** Record the loss of the socket. */
  pause() {
    [this.asked, this.isLive] = [null, false];
  }

  /** @param {any} told the payload of `channel.subscribed` */
  answered(told) {
    const gap = told.gap ?? this.#contradiction(told);
    const isAtHead = !told.replay && (this.after === "$" || this.after === told.head.id);
    if (gap || isAtHead) [this.after, this.seq] = [told.head.id, told.head.seq];
    this.seq ??= told.head.seq - told.replay;
    [this.epoch, this.replayTo] = [told.epoch, told.head.seq];
    [this.asked, this.isLive, this.isSpilled, this.refusals] = [null, true, false, 0];
    this.#put({ kind: "subscribed", ...told, gap });
    if (gap) this.#put({ kind: "gap", ...gap, head: told.head, state: told.state_scope === "live" ? undefined : told.state });
  }

  /** @param {HubEvent} event @returns {boolean} false if an earlier event is missing */
  event(event) {
    if (!this.isLive || (this.seq !== null && event.seq <= this.seq)) return true;
    if (this.seq !== null && event.seq !== this.seq + 1) return this.#hole();
    if (this.items.length >= BUFFER_MAX) {
      [this.isLive, this.isSpilled] = [false, true];
      return true;
    }
    [this.after, this.seq, this.holes] = [event.id, event.seq, 0];
    this.#put({ kind: "event", event, replayed: event.seq <= this.replayTo });
    return true;
  }

  /** @param {any} told the payload of `channel.resumed` @returns {boolean} false if fewer events arrived than it states */
  resumed(told) {
    if (!this.isLive) return true;
    if (told.count && told.to_seq > (this.seq ?? 0)) return this.#hole();
    this.#put({ kind: "receipt", ...told });
    return true;
  }

  /** @param {any} frame an event that is not stored; dropped if the reader is behind */
  signal(frame) {
    if (this.isLive && this.items.length < BUFFER_MAX) this.#put({ kind: "signal", event: frame });
  }

  /** @param {Error|null} error thrown after the buffered items; null just ends the iteration */
  end(error) {
    [this.isLive, this.isEnded] = [false, true];
    this.error ??= error;
    this.wake();
  }

  #hole() {
    this.holes += 1;
    const isHopeless = this.holes > HOLES_MAX;
    if (isHopeless) this.end(new Error(`${this.channel}: the hub repeatedly left out the events after seq ${this.seq}`));
    return isHopeless;
  }

  /** The reason why an answer without a gap cannot continue from here, if any: a hole must not be taken for continuity. @param {any} told */
  #contradiction(told) {
    const isOtherLife = this.epoch !== null && told.epoch !== this.epoch;
    const isAhead = !told.recovered || (this.seq !== null && told.head.seq < this.seq);
    if (!isOtherLife && !isAhead) return null;
    return { reason: isOtherLife ? "epoch_changed" : "cursor_unknown", from_seq: null, to_seq: null };
  }

  /** @param {Item} item */
  #put(item) {
    item.cursor = this.position;
    if (!this.options.onItem) {
      this.items.push(item);
      return this.wake();
    }
    this.cursor = item.cursor ?? this.cursor;
    try {
      this.options.onItem(item);
    } catch (problem) {
      reportFault(problem); // an exception in the page's callback must not lose later events
    }
  }
}

/** A channel that is followed: iterate it with `for await`, or give `onItem` to `subscribe`. */
export class Subscription {
  #feed;
  #owner;

  /** @param {Feed} feed @param {{taken(): void, left(): void}} owner */
  constructor(feed, owner) {
    this.#feed = feed;
    this.#owner = owner;
  }

  /** The channel's name. */
  get channel() {
    return this.#feed.channel;
  }

  /** The cursor after the last yielded item, from which a later `subscribe` can continue. */
  get cursor() {
    return this.#feed.cursor;
  }

  /** Stop following. */
  close() {
    this.#feed.end(null);
    this.#owner.left();
  }

  /** The items in order; throws the error that ended the subscription, if any. @returns {AsyncGenerator<Item>} */
  async *[Symbol.asyncIterator]() {
    const feed = this.#feed;
    try {
      while (feed.items.length || !feed.isEnded) {
        const item = feed.items.shift();
        if (!item) await new Promise((resolve) => (feed.wake = () => resolve(undefined)));
        else {
          feed.cursor = item.cursor ?? feed.cursor;
          this.#owner.taken();
          yield item;
        }
      }
      if (feed.error) throw feed.error;
    } finally {
      this.close();
    }
  }
}
