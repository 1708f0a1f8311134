/**
 * Reads one channel over HTTP: as a stream of Server-Sent Events or, if a proxy holds streams back, by long polls. It passes on the
 * same messages as a socket: `channel.subscribed`, missed events, `channel.resumed`, new events.
 *
 * @module hub/channel_reader
 */

import { HubError, textOf } from "./error.js";
import { serverSentEvents } from "./server_sent_events.js";

/**
 * @typedef {object} Http the connection that the reader belongs to
 * @property {boolean} isPolling
 * @property {(reader: ChannelReader) => boolean} mayHold
 * @property {(frames: any[]) => void} tell
 * @property {(told: any) => void} refuse
 * @property {(drain: any) => void} drained
 * @property {(why: string) => void} drop
 * @property {(path: string, query: Record<string, any>, signal: AbortSignal, timeoutMs?: number) => Promise<any>} get
 * @property {(method: string, path: string, options: {query?: Record<string, any>, signal: AbortSignal}) => Promise<Response>} request
 */
/** @typedef {{channel: string, after?: string, seq?: number, epoch?: string, rewind?: number, state?: boolean}} Wanted */
/** @typedef {{events: any[], next: string|null, gap: any}} Page */

const FIRST_MS = 5_000; // until the stream's first line; if it takes longer, a proxy buffers streams
const SILENT_MS = 75_000; // by default the hub sends something every 30 s
const USEFUL_MS = 5_000; // a stream that lasted this long is reopened at once
const WAIT_MS = 25_000; // duration of a long poll; the hub allows 30 s
const PAUSE_MS = 3_000; // pause between polls that may not wait
const PAGE_EVENTS = 500;
const REWIND_MAX = 999;
const LATEST = "999999999999999-0"; // in the year 33658: no event is newer

/** Reads one channel over HTTP until it is closed. */
export class ChannelReader {
  #http;
  #wanted;
  #path;
  #after;
  /** @type {string|undefined} */ #epoch;
  /** @type {string|undefined} The id of the unanswered request. */ #re;
  #isLive = false;
  #stop = new AbortController();

  /** @param {Http} http @param {Wanted} wanted @param {string} [re] the id of the request for the channel */
  constructor(http, wanted, re) {
    [this.#http, this.#wanted, this.#re, this.#epoch] = [http, wanted, re, wanted.epoch];
    this.#after = wanted.after ?? "$";
    this.#path = `/v1/channels/${encodeURIComponent(wanted.channel)}`;
  }

  /** Stop reading. */
  close() {
    this.#stop.abort();
  }

  /** Read until closed. Never rejects: any failure ends the connection, or this channel. */
  async run() {
    try {
      if (this.#wanted.rewind && this.#after === "$") await this.#rewind(this.#wanted.rewind);
      while (!this.#isOver) await (this.#http.isPolling || !this.#http.mayHold(this) ? this.#poll() : this.#stream());
    } catch (problem) {
      if (this.#isOver) return;
      if (problem instanceof HubError) this.#refused(problem.told);
      else this.#http.drop(`${this.#wanted.channel}: ${problem}`);
    }
  }

  get #isOver() {
    return this.#stop.signal.aborted;
  }

  /** Find the cursor before the newest events, since HTTP can only start after a cursor. @param {number} count */
  async #rewind(count) {
    const limit = Math.min(count, REWIND_MAX) + 1;
    const { events } = await this.#page({ before: LATEST, limit });
    this.#after = events.length === limit ? events[0].id : "0";
  }

  // Streams

  async #stream() {
    const watch = new SilenceWatch(FIRST_MS);
    const [signal, openedMs] = [AbortSignal.any([this.#stop.signal, watch.signal]), performance.now()];
    let wasHeard = false;
    try {
      const response = await this.#http.request("GET", `${this.#path}/stream`, { query: { after: this.#after }, signal });
      if (!response.ok) await textOf(response);
      if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || !response.body) throw new Error("no stream");
      for await (const data of serverSentEvents(response.body)) {
        wasHeard = true;
        watch.heard(SILENT_MS);
        if (data) await this.#take(JSON.parse(data));
        if (this.#isOver) return;
      }
    } catch (problem) {
      if (problem instanceof Restart) return;
      if (this.#isOver || problem instanceof HubError) throw problem;
    } finally {
      watch.end();
    }
    if (!wasHeard) this.#http.isPolling = true;
    else if (performance.now() - openedMs < USEFUL_MS) throw new Error("the stream ended");
  }

  /** @param {any} frame */
  async #take(frame) {
    if (frame.type === "connection.drain") this.#http.drained(frame);
    else if (frame.type === "connection.error" && frame.payload.code === 4012) throw new Restart();
    else if (frame.type === "connection.error") this.#refused(frame.payload);
    else if (frame.type === "channel.subscribed") {
      const { gap, head, floor } = frame.payload;
      if (gap?.reason === "trimmed" && this.#after === "0" && this.#wanted.rewind && !this.#isLive) {
        this.#after = floor.id; // fewer events are stored than were requested
        throw new Restart();
      }
      await this.#subscribed(frame.payload);
      if (gap || this.#after === "$") this.#after = head.id;
    } else {
      if (frame.seq !== undefined) this.#after = frame.id;
      this.#http.tell([frame]);
    }
  }

  /** Report the start of the subscription, or a restart. @param {any} told the payload of `channel.subscribed`, with a state or without */
  async #subscribed(told) {
    const isOtherLife = this.#epoch !== undefined && told.epoch !== this.#epoch;
    if (isOtherLife) told = { ...told, recovered: false, replay: 0, gap: { reason: "epoch_changed", from_seq: null, to_seq: null } };
    if (!told.state && (this.#wanted.state !== false || told.gap)) {
      const { state, state_at } = await this.#http.get(`${this.#path}/state`, {}, this.#stop.signal);
      told = { ...told, state, state_at };
    }
    const re = this.#re;
    [this.#re, this.#isLive, this.#epoch] = [undefined, true, told.epoch];
    this.#http.tell([{ type: "channel.subscribed", ...(re !== undefined && { re }), channel: this.#wanted.channel, payload: { ...told, state_scope: "full" } }]);
  }

  /** @param {any} told the payload of an error */
  #refused(told) {
    const { channel } = this.#wanted;
    if ([4001, 4002, 4019].includes(told.code)) return this.#http.refuse(told);
    this.close();
    if (this.#isLive && told.retry === "no") this.#http.tell([{ type: "channel.unsubscribed", channel, payload: { reason: told.name } }]);
    else if (this.#isLive) this.#http.drop(`${channel}: ${told.message}`);
    else this.#http.tell([{ type: "connection.error", ...(this.#re !== undefined && { re: this.#re }), channel, payload: told }]);
  }

  // Long polls

  async #poll() {
    const isPlaced = this.#after !== "$";
    const { events: [newest] } = await this.#page({ before: LATEST, limit: 1 }); // prettier-ignore
    const head = { id: newest?.id ?? "0", seq: newest?.seq ?? 0 };
    let page = isPlaced ? await this.#page({ after: this.#after, limit: PAGE_EVENTS }) : { events: [], gap: null };
    if (page.gap?.reason === "trimmed" && this.#after === "0" && this.#wanted.rewind && !this.#isLive) page.gap = null;
    const { epoch, state, state_at } = await this.#http.get(`${this.#path}/state`, {}, this.#stop.signal);
    const isOtherLife = this.#epoch !== undefined && epoch !== this.#epoch;
    const isGap = Boolean(page.gap) || isOtherLife;
    const replay = isGap || !page.events.length ? 0 : Math.max(0, head.seq - page.events[0].seq + 1);
    if (isGap || !isPlaced) this.#after = head.id;
    await this.#subscribed({ epoch, head, floor: null, recovered: !isGap, replay, gap: page.gap, state, state_at });
    let seq = isGap || !page.events.length ? head.seq : page.events[0].seq - 1;
    if (isGap) page = { events: [], gap: null };
    const receipt = { from_seq: replay ? seq + 1 : null, to_seq: replay ? head.seq : null, count: replay, gap: null };
    let isOwed = isPlaced && !isGap;
    while (!this.#isOver && !page.gap && (page.events[0]?.seq ?? seq + 1) === seq + 1) {
      this.#http.tell(page.events);
      if (page.events.length) [this.#after, seq] = [page.events.at(-1).id, page.events.at(-1).seq];
      if (isOwed && seq >= head.seq) {
        isOwed = false;
        this.#http.tell([{ type: "channel.resumed", channel: this.#wanted.channel, payload: receipt }]);
      }
      page = await this.#next();
    }
  }

  async #next() {
    const mayHold = this.#http.mayHold(this);
    if (!mayHold) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    return this.#page({ after: this.#after, limit: PAGE_EVENTS, wait_ms: mayHold ? WAIT_MS : 0 }, WAIT_MS * 2);
  }

  /** @param {Record<string, any>} query @param {number} [timeoutMs] @returns {Promise<Page>} */
  #page(query, timeoutMs) {
    return this.#http.get(`${this.#path}/events`, query, this.#stop.signal, timeoutMs);
  }
}

/** Thrown when the stream must be reopened. */
class Restart extends Error {}

/** Aborts a request when nothing has been received for too long. */
class SilenceWatch {
  #stop = new AbortController();
  /** @type {any} */ #timer;

  /** @param {number} limitMs milliseconds until the first data */
  constructor(limitMs) {
    this.heard(limitMs);
  }

  get signal() {
    return this.#stop.signal;
  }

  /** @param {number} limitMs milliseconds until the next data */
  heard(limitMs) {
    this.end();
    this.#timer = setTimeout(() => this.#stop.abort(), limitMs);
  }

  /** Stop watching. */
  end() {
    clearTimeout(this.#timer);
  }
}
