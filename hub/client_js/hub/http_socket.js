/**
 * A connection over HTTP, for networks that block WebSocket: it turns the client's messages into requests, and their responses into
 * the messages that a socket would deliver. Each channel is read by a {@link ChannelReader}; commands are POSTs, one at a time in
 * each channel so that their order is kept.
 *
 * Over HTTP there are no heartbeats, the user is not shown as present, and commands that need a socket are refused.
 *
 * @module hub/http_socket
 */

import { ChannelReader } from "./channel_reader.js";
import { HubError, connectionLost, textOf } from "./error.js";
import { claimsOf } from "./token_claims.js";

/** @typedef {import("./web_socket.js").Owner} Owner */

const REQUEST_MS = 20_000; // for a response that need not wait for events
const HELD_MAX = 4; // maximum waiting requests: a browser opens six connections per host, and commands need one too
const LIMIT_BYTES = 1_048_576; // the hub's default message limit; the real one is sent over sockets only
const OF_THE_TOKEN = [4001, 4002, 4019];
/** Replies that are not `ack`. @type {Record<string, string>} */
const REPLY_TYPES = { "chat.message": "message.received", "file.upload.request": "file.upload.authorized" };

/** A connection over HTTP with the interface of `WebSocketConnection`; opening it sends no request. */
export class HttpSocket {
  #base;
  #owner;
  #fetch;
  #token = "";
  #isOver = false;
  #stop = new AbortController();
  /** @type {Map<string, ChannelReader>} */ #readers = new Map();
  /** @type {Map<string, Promise<void>>} Settles with the last command of a channel. */ #turns = new Map();
  /** True if a proxy buffers streams. */
  isPolling = false;

  /** @param {string} base such as "https://hub.example" @param {Owner} owner @param {typeof fetch} request */
  constructor(base, owner, request) {
    [this.#base, this.#owner, this.#fetch] = [base, owner, request];
    queueMicrotask(() => this.#isOver || owner.opened());
  }

  /** @param {string} text one message */
  write(text) {
    if (this.#isOver) return;
    const { type, id, channel, payload = {}, meta } = JSON.parse(text);
    if (type === "connection.reconnect") this.#greet(id, payload);
    else if (type === "connection.refresh") this.#refresh(id, payload);
    else if (type === "channel.subscribe") for (const wanted of payload.channels) this.#follow(wanted, id);
    else if (type === "channel.unsubscribe") for (const name of payload.channels) this.#leave(name);
    else if (type !== "connection.heartbeat") this.#inTurn(channel ?? "", () => this.#command(type, id, channel, payload, meta));
  }

  /** Do nothing: the readers detect silence themselves. */
  begin() {}

  /** Do nothing: between requests there is nothing to check. */
  probe() {}

  /** @param {string} why */
  drop(why) {
    this.#end(connectionLost(1006, why));
  }

  /** Close the connection without reporting it. */
  close() {
    this.#isOver = true;
    this.#stop.abort();
    for (const reader of this.#readers.values()) reader.close();
    this.#readers.clear();
  }

  // For the readers

  /** True if this reader may have a waiting request. @param {ChannelReader} reader */
  mayHold(reader) {
    return [...this.#readers.values()].indexOf(reader) < HELD_MAX;
  }

  /** Pass on messages as if they had arrived on a socket. @param {any[]} frames */
  tell(frames) {
    if (!this.#isOver) this.#owner.frames(frames);
  }

  /** Handle an error with which the hub ends the connection. @param {any} told the payload of a `connection.error` */
  refuse(told) {
    this.tell([{ type: "connection.error", payload: told }]);
    this.#end(connectionLost(told.code));
  }

  /** Handle the notice that the node is about to stop. @param {any} drain the `connection.drain` */
  drained(drain) {
    this.tell([drain]);
    this.#end(connectionLost(1012));
  }

  /** @param {string} path @param {Record<string, any>} query @param {AbortSignal} signal @param {number} [timeoutMs]
   *  @returns {Promise<any>} @throws {HubError} the hub refused @throws {Error} nothing came of it */
  async get(path, query, signal, timeoutMs = REQUEST_MS) {
    const response = await this.request("GET", path, { query, signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) });
    return JSON.parse(await textOf(response));
  }

  /** @param {string} method @param {string} path @param {{query?: Record<string, any>, body?: string, headers?: Record<string, string>, signal: AbortSignal}} options */
  request(method, path, { query = {}, body, headers, signal }) {
    const url = new URL(this.#base + path);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
    const request = this.#fetch;
    return request(url, { method, body, signal, cache: "no-store", headers: { ...(this.#token && { Authorization: `Bearer ${this.#token}` }), ...headers } });
  }

  // Messages

  /** Check the token and the hub, by reading the presence of the user's own inbox, which every token allows. @param {string} id @param {any} wanted */
  async #greet(id, { token = "", client_id, session_id, cursors, channels }) {
    this.#token = token;
    const { user, tenant, expiresAt } = claimsOf(token) ?? { user: null, tenant: null, expiresAt: null };
    try {
      await this.get(`/v1/channels/user:${encodeURIComponent(user ?? "-")}/presence`, {}, this.#stop.signal);
    } catch (problem) {
      if (this.#isOver) return;
      if (!(problem instanceof HubError)) return this.drop(`neither a WebSocket nor HTTP gets through${this.#originHint()}: ${problem}`);
      if (problem.code !== 4003 || user !== null) return this.refuse(problem.told);
    }
    const welcome = { session_id, client_id, user, tenant, version: 1, capabilities: [], node: null, server_time: null };
    const limits = { heartbeat_interval_ms: 30_000, message_size_limit_bytes: LIMIT_BYTES, token_expires_at: expiresAt?.toISOString() ?? null };
    this.tell([{ type: "connection.ack", re: id, payload: { ...welcome, ...limits } }]);
    for (const [channel, cursor] of Object.entries(cursors)) this.#follow({ channel, ...cursor });
    for (const wanted of channels) this.#follow(wanted);
  }

  /** For a page of another origin the browser hides the cause. */
  #originHint() {
    const origin = globalThis.location?.origin;
    return origin && origin !== new URL(this.#base).origin ? ` (is ${origin} in the hub's HUB_ALLOWED_ORIGINS?)` : "";
  }

  /** @param {string} id @param {{token: string}} payload */
  #refresh(id, { token }) {
    this.#token = token; // running streams end with the old token, and are reopened with this one
    this.tell([{ type: "connection.refreshed", re: id, payload: {} }]);
  }

  /** @param {import("./channel_reader.js").Wanted} wanted @param {string} [re] */
  #follow(wanted, re) {
    if (this.#isOver) return;
    this.#leave(wanted.channel);
    const reader = new ChannelReader(this, wanted, re);
    this.#readers.set(wanted.channel, reader);
    reader.run();
  }

  /** @param {string} channel */
  #leave(channel) {
    this.#readers.get(channel)?.close();
    this.#readers.delete(channel);
  }

  /** @param {string} channel @param {() => Promise<void>} send */
  #inTurn(channel, send) {
    const turn = (this.#turns.get(channel) ?? Promise.resolve()).then(() => (this.#isOver ? undefined : send()));
    this.#turns.set(channel, turn);
    turn.then(() => this.#turns.get(channel) === turn && this.#turns.delete(channel));
  }

  /** @param {string} type @param {string|undefined} id @param {string} channel @param {any} payload @param {Record<string, string>} [meta] */
  async #command(type, id, channel, payload, meta) {
    try {
      const answer = await this.#carryOut(type, id, channel, payload, meta);
      if (id) this.tell([{ type: answer.type, re: id, channel, payload: answer.payload }]);
    } catch (problem) {
      if (this.#isOver) return;
      if (!(problem instanceof HubError)) return this.drop(`${type} got no answer: ${problem}`);
      if (OF_THE_TOKEN.includes(problem.code)) return this.refuse(problem.told);
      if (id) this.tell([{ type: "connection.error", re: id, channel, payload: problem.told }]);
    }
  }

  /** @param {string} type @param {string|undefined} id @param {string} channel @param {any} payload @param {Record<string, string>} [meta]
   *  @returns {Promise<{type: string, payload: any}>} */
  async #carryOut(type, id, channel, payload, meta) {
    const path = `/v1/channels/${encodeURIComponent(channel)}`;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(REQUEST_MS)]);
    if (type === "channel.state") return { type, payload: await this.get(`${path}/state`, {}, signal) };
    if (type === "channel.history") return { type, payload: await this.get(`${path}/events`, { ...payload, types: payload.types?.join(",") }, signal) };
    if (!channel) throw socketOnly(type);
    const headers = { "Content-Type": "application/json", ...meta, ...(id && { "Idempotency-Key": id }) };
    const response = await this.request("POST", `${path}/events`, { body: JSON.stringify({ type, payload }), headers, signal });
    return { type: REPLY_TYPES[type] ?? "ack", payload: JSON.parse(await textOf(response)) };
  }

  /** @param {HubError} ending */
  #end(ending) {
    if (this.#isOver) return;
    this.close();
    this.#owner.lost(ending);
  }
}

/** @param {string} type @returns {HubError} */
function socketOnly(type) {
  const message = `${type} can be sent over a WebSocket only, and none gets through here`;
  return new HubError({ code: 4024, name: "feature_disabled", message, retry: "no" });
}
