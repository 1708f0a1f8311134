/**
 * One channel as its reader sees it: asked for, replayed, then live; exact order or an explicit gap.
 *
 * No sockets and no timers: `HubClient` asks, feeds it frames, and acts on its answers.
 *
 * @module hub/feed
 */

/** @typedef {{after: string, seq?: number, epoch?: string}} Cursor The last event seen in one channel. */
/** @typedef {{id: string, seq: number}} Position */
/** @typedef {{reason: string, from_seq: number|null, to_seq: number|null}} Missing Events that cannot be replayed, and the reason. */
/** @typedef {{id: string, seq: number, channel: string, type: string, v: number, actor: {kind: string, id: string,
 *    client?: string}, meta?: Record<string, string>, payload: any}} HubEvent A stored event, as on the wire. */
/** @typedef {{kind: "subscribed", epoch: string, head: Position, floor: Position, recovered: boolean, replay: number,
 *    gap: Missing|null, state?: any, state_scope?: "live"|"full", state_at: number}} Subscribed The hub's answer; `replay` events follow.
 * After a resume the state's scope is `live`: who types, who is here, what is open. Merge it into the state that you have. */
/** @typedef {{kind: "event", event: HubEvent, replayed: boolean}} EventItem */
/** @typedef {Missing & {kind: "gap", head: Position, state?: any}} Gap Events are lost to this reader; `state` stands in. */
/** @typedef {{kind: "receipt", from_seq: number|null, to_seq: number|null, count: number, gap: Missing|null}} Receipt */
/** @typedef {{kind: "signal", event: any}} Signal An event that is not stored: typing, presence, a part of an answer. */
/** @typedef {(Subscribed|EventItem|Gap|Receipt|Signal) & {cursor?: Cursor}} Item `cursor`: the place behind the item. */
/** @typedef {Partial<Cursor> & {rewind?: number, state?: boolean, presence?: boolean, onItem?: (item: Item) => void}} SubscribeOptions
 *    The start (default: the stored cursor, else live only) and the extras. `onItem` takes the place of iteration. */

/** Items that a slow `for await` may leave waiting. Beyond it the rest stays in the hub's log until it has caught up. */
const BUFFER_MAX = 10_000;
/** Holes in a row, from one cursor, after which the hub counts as broken instead of being asked again. */
const HOLES_MAX = 5;

/** Accepts the next `seq` and nothing else. */
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
    /** @type {string|null} The id of the request that is not answered yet. */
    this.asked = null;
    this.isLive = false;
    this.isSpilled = false;
    this.isEnded = false;
    this.refusals = 0;
    /** @type {Item[]} */
    this.items = [];
    /** @type {Cursor|undefined} Behind the item handed out last. */
    this.cursor = undefined;
    /** @type {Error|null} */
    this.error = null;
    this.wake = () => {};
    this.replayTo = 0;
    this.holes = 0;
  }

  /** @returns {Cursor|undefined} the place to continue from; none while only the live end or a rewind was asked for */
  get position() {
    if (this.after === "$") return undefined;
    return { after: this.after, seq: this.seq ?? undefined, epoch: this.epoch ?? undefined };
  }

  /** True if a cursor alone asks for everything. */
  get isPlain() {
    return this.after !== "$" && this.options.state !== false && !this.options.presence;
  }

  /** The subscription object to ask with now. */
  get request() {
    const { rewind, state, presence } = this.options;
    return { channel: this.channel, ...(this.position ?? { rewind }), state, presence };
  }

  /** True if a `channel.subscribed` is its own: the answer, or news that the log broke. @param {string|undefined} re @param {string} handshake */
  expects(re, handshake) {
    return this.asked === (re ?? handshake) || (this.isLive && re === undefined);
  }

  /** Note the loss of the socket. */
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

  /** @param {HubEvent} event @returns {boolean} false: something is missing before it */
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

  /** @param {any} told the payload of `channel.resumed` @returns {boolean} false: fewer events came than it states */
  resumed(told) {
    if (!this.isLive) return true;
    if (told.count && told.to_seq > (this.seq ?? 0)) return this.#hole();
    this.#put({ kind: "receipt", ...told });
    return true;
  }

  /** @param {any} frame an event that is not stored; a reader that is behind does without */
  signal(frame) {
    if (this.isLive && this.items.length < BUFFER_MAX) this.#put({ kind: "signal", event: frame });
  }

  /** @param {Error|null} error raised after the waiting items; null just ends the iteration */
  end(error) {
    [this.isLive, this.isEnded] = [false, true];
    this.error ??= error;
    this.wake();
  }

  #hole() {
    this.holes += 1;
    const isHopeless = this.holes > HOLES_MAX;
    if (isHopeless) this.end(new Error(`${this.channel}: the hub keeps leaving out what follows seq ${this.seq}`));
    return isHopeless;
  }

  /** The reason an answer without a gap cannot continue from here: a hole is never taken for continuity. @param {any} told */
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
      reportError(problem); // a fault of the page must not cost it the events that follow
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

  /** The cursor behind the last item handed out, for a later `subscribe` to continue from. */
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
