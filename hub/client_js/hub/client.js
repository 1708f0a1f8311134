/** The client: sockets are replaced, subscriptions and commands outlive them. @module hub/client */

import { HubError, cannotConnect, connectionLost, reportFault } from "./error.js";
import { Fallback } from "./fallback.js";
import { Feed, Subscription } from "./feed.js";
import { HttpSocket } from "./http_socket.js";
import { Outbox } from "./outbox.js";
import { Recovery } from "./recovery.js";
import { upload } from "./upload.js";
import { WebSocketConnection } from "./web_socket.js";

/** @typedef {import("./feed.js").Cursor} Cursor */
/** @typedef {import("./feed.js").SubscribeOptions} SubscribeOptions */
/** @typedef {import("./outbox.js").Command} Command */
/** @typedef {import("./outbox.js").Reply} Reply */
/** @typedef {{load(channel: string): Cursor|null, save(channel: string, cursor: Cursor): void}} CursorStore */
/** @typedef {import("./outbox.js").OutboxStore} OutboxStore */
/** @typedef {import("./upload.js").UploadOptions} UploadOptions */
/** @typedef {import("./upload.js").UploadedFile} UploadedFile */
/** @typedef {{name?: string, cursors?: CursorStore, outbox?: OutboxStore, capabilities?: string[], WebSocket?: any, fetch?: typeof fetch,
 *    webSocketRetryMs?: number, traceparent?: string | (() => string | null | undefined)}} ClientOptions `cursors` and `outbox`: stores that outlive the page; `capabilities`: further ones to announce, such
 *    as "reasoning"; `WebSocket`, `fetch`: in the place of the global ones; `webSocketRetryMs`: over HTTP, the first pause before WebSocket is tried again;
 *    `traceparent`: the W3C trace that commands continue, or a function that returns one for each command */
/** @typedef {"offline"|"connecting"|"ready"|"waiting"|"closed"} ConnectionState */

const ASKED_MAX = 100; // maximum subscriptions in one message (docs/events.md#connection, #channel)
const CURSORS_MAX = 200; // maximum cursors in one connection.reconnect (docs/events.md#connection)
const WEBSOCKET_OFF = 4024; // the hub keeps this user off WebSocket at present
const OF_THE_HUB = 4000; // the hub's own close codes start here: the hub was reached
const REMEMBERED_MS = 9 * 60_000; // slightly less than the hub remembers a command's id

/**
 * One user's connection. Fires the event `state` with the detail `{state, delayMs?}` (`delayMs`: until the next attempt, in the
 * state `waiting`), and the event `error` with `{error, willRetry}`. For each command that an outbox store kept from an earlier page it
 * fires `settled` with `{id, reply}` or `{id, error}`.
 */
export class HubClient extends EventTarget {
  #url;
  #token;
  #name;
  #WebSocket;
  #fetch;
  #capabilities;
  #traceparent;
  #store;
  #recovery;
  #listening = new AbortController();
  #idPrefix = Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36)).join("");
  #idCount = 0;
  #outbox;
  #outboxStore;
  #isAdopted = false;
  /** @type {Fallback} */ #fallback;
  /** @type {Map<string, Feed>} */ #feeds = new Map();
  /** @type {WebSocketConnection|HttpSocket|null} */ #socket = null;
  /** @type {ConnectionState} */ #state = "offline";
  /** @type {any} */ #welcome = null;
  /** @type {any} */ #ready = null;
  /** @type {any} Runs until the next attempt. */ #timer;
  /** @type {HubError|null} The hub's reason for closing the socket. */ #refusal = null;
  /** The id of the first message on the current socket. */ #handshake = "";

  /**
   * @param {string} url such as "https://hub.example" or "wss://hub.example/ws"
   * @param {string | (() => string | Promise<string>)} token a token, or a function that returns one for each connect; "" where a
   *    cookie tells who somebody is
   * @param {ClientOptions} [options]
   */
  constructor(url, token, options = {}) {
    super();
    const { name = "hub.js", cursors, outbox, capabilities = [], webSocketRetryMs } = options;
    this.#url = url;
    this.#token = token;
    this.#name = name;
    this.#capabilities = ["batch", "live_state", ...capabilities];
    this.#traceparent = options.traceparent;
    this.#store = cursors;
    this.#outboxStore = outbox;
    this.#outbox = new Outbox((text) => this.#socket?.write(text), outbox);
    this.#recovery = new Recovery(typeof token === "function");
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#fetch = options.fetch ?? globalThis.fetch;
    this.#fallback = new Fallback(Boolean(this.#WebSocket), webSocketRetryMs);
    const listen = { signal: this.#listening.signal };
    globalThis.addEventListener?.("online", () => (this.#state === "waiting" ? this.#open() : this.#probe()), listen);
    globalThis.addEventListener?.("offline", () => this.#probe(), listen);
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#probe(), listen);
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** The current transport. @returns {"websocket"|"http-stream"|"http-poll"|null} null while there is none */
  get transport() {
    if (this.#state !== "ready" || !this.#socket) return null;
    if (this.#socket instanceof WebSocketConnection) return "websocket";
    return this.#socket.isPolling ? "http-poll" : "http-stream";
  }

  /** The newest `connection.ack`: session_id, user, tenant, node and so on; null before the first. */
  get welcome() {
    return this.#welcome;
  }

  /** Connect and stay connected. @returns {Promise<any>} the `connection.ack`; rejected with an error that reconnecting cannot solve */
  connect() {
    if (!this.#ready) {
      const ready = (this.#ready = /** @type {any} */ ({}));
      ready.promise = new Promise((resolve, reject) => Object.assign(ready, { resolve, reject }));
      ready.promise.catch(() => {}); // also reported by the event `error`, so the promise may be ignored
    }
    if (this.#state === "offline") this.#open();
    return this.#ready.promise;
  }

  /** Cut the socket and stay away until `connect`; subscriptions and unanswered commands are kept. */
  suspend() {
    if (this.#state === "closed") return;
    this.#release();
    this.#ready = null;
    this.#become("offline");
  }

  /** Close for good: iterations end, unanswered commands are rejected. */
  close() {
    this.#end(null);
  }

  /** Follow a channel. @param {string} channel @param {SubscribeOptions} [options] @returns {Subscription} */
  subscribe(channel, options = {}) {
    if (this.#feeds.has(channel)) throw new Error(`${channel} is already followed; close that subscription first`);
    const isPlaced = options.after !== undefined || options.rewind !== undefined;
    const feed = new Feed(channel, isPlaced ? options : { ...options, ...this.#store?.load(channel) });
    this.#feeds.set(channel, feed);
    if (this.#state === "closed") this.#over(feed, new Error("the client is closed"));
    else this.#ask([feed]);
    return new Subscription(feed, { taken: () => this.#taken(feed), left: () => this.#leave(feed) });
  }

  /** Write a chat message. @param {string} channel @param {string} text @returns {Promise<Reply>} once it is stored */
  send(channel, text) {
    return this.command("chat.message", channel, { text });
  }

  /**
   * Send a command, repeated under the same id until the hub has answered.
   * @param {string} type @param {string} [channel] @param {object} [payload] @param {string} [id] to repeat an earlier one
   * @returns {Promise<Reply>} the message whose `re` is the id; rejected with a {@link HubError}
   */
  command(type, channel, payload = {}, id = this.#newId()) {
    return new Promise((resolve, reject) => {
      if (this.#state === "closed") return reject(new Error("the client is closed"));
      const traceparent = typeof this.#traceparent === "function" ? this.#traceparent() : this.#traceparent;
      const meta = traceparent ? { traceparent } : undefined; // JSON leaves undefined out
      this.#outbox.add({ id, channel, text: JSON.stringify({ type, id, channel, meta, payload }), resolve, reject });
    });
  }

  /**
   * Upload a file and wait until the hub has verified it.
   * @param {string} channel @param {Blob} file a File, or any Blob with `filename` @param {UploadOptions} [options] @returns {Promise<UploadedFile>}
   */
  upload(channel, file, options) {
    return upload(this, channel, file, options);
  }

  // Sockets

  async #open() {
    this.#release();
    this.#become("connecting");
    const run = (this.#timer = {});
    try {
      if (this.#outboxStore && !this.#isAdopted) await this.#adopt(this.#outboxStore);
      const token = typeof this.#token === "function" ? await this.#token() : this.#token;
      if (run === this.#timer) this.#dial(token); // otherwise suspended or closed meanwhile
    } catch (problem) {
      if (run === this.#timer) this.#lost(connectionLost(1006, `no token: ${problem}`));
    }
  }

  /** @param {string} token */
  #dial(token) {
    const owner = {
      opened: () => this.#greet(token),
      frames: (/** @type {any[]} */ frames) => this.#received(frames),
      lost: (/** @type {HubError} */ ending) => this.#lost(this.#refusal ?? ending),
    };
    try {
      const { socket, http } = addressesOf(this.#url);
      this.#socket = this.#fallback.isHttp ? new HttpSocket(http, owner, this.#fetch) : new WebSocketConnection(socket, owner, this.#WebSocket);
    } catch (problem) {
      this.#lost(cannotConnect(problem));
    }
  }

  /** Authenticate and resume everything, in one message. @param {string} token */
  #greet(token) {
    const feeds = [...this.#feeds.values()].filter((feed) => !feed.isSpilled);
    const plain = feeds.filter((feed) => feed.isPlain).slice(0, CURSORS_MAX);
    const others = feeds.filter((feed) => !feed.isPlain).slice(0, ASKED_MAX);
    this.#handshake = this.#newId();
    for (const feed of [...plain, ...others]) feed.asked = this.#handshake;
    const { client_id, session_id } = this.#welcome ?? {};
    const who = { token: token || undefined, versions: [1], capabilities: this.#capabilities, client: { name: this.#name, version: "1" } };
    const cursors = Object.fromEntries(plain.map((feed) => [feed.channel, feed.position]));
    const payload = { ...who, client_id, session_id, cursors, channels: others.map((feed) => feed.request) };
    this.#write({ type: "connection.reconnect", id: this.#handshake, payload });
  }

  /** @param {any} welcome the payload of `connection.ack` */
  #welcomed(welcome) {
    this.#welcome = welcome;
    this.#fallback.acknowledged(() => this.#tryWebSocket());
    this.#recovery.acknowledged(welcome.reconnect);
    this.#become("ready");
    this.#ask([...this.#feeds.values()].filter((feed) => !feed.asked && !feed.isSpilled));
    this.#outbox.open(welcome.message_size_limit_bytes);
    this.#socket?.begin(welcome.heartbeat_interval_ms);
    this.#ready?.resolve(welcome);
  }

  /** @param {HubError} error the reason for the socket's end */
  #lost(error) {
    const wasRefused = this.#socket !== null && this.#state === "connecting" && !this.#refusal && error.isPassing && error.code < OF_THE_HUB;
    if (wasRefused && this.#fallback.unacknowledged()) {
      this.#report(error, true);
      return this.#open();
    }
    if (error.code === WEBSOCKET_OFF && this.#fallback.refused()) {
      this.#report(error, true);
      return this.#open();
    }
    const delayMs = this.#recovery.lost(error);
    this.#report(error, delayMs !== null);
    if (delayMs === null) return this.#end(error);
    this.#release();
    this.#become("waiting", delayMs);
    this.#timer = setTimeout(() => this.#open(), delayMs);
  }

  /** While connected over HTTP, try to open a WebSocket; if that succeeds, switch to it. */
  #tryWebSocket() {
    const { socket } = addressesOf(this.#url);
    const back = () => {
      this.#fallback.isHttp = false;
      this.#open();
    };
    return new WebSocketConnection(socket, { opened: back, frames() {}, lost: () => this.#fallback.acknowledged(() => this.#tryWebSocket()) }, this.#WebSocket);
  }

  #release() {
    clearTimeout(this.#timer);
    this.#fallback.stop();
    this.#socket?.close();
    this.#outbox.close();
    for (const feed of this.#feeds.values()) feed.pause();
    [this.#timer, this.#socket, this.#refusal] = [null, null, null];
  }

  /** @param {Error|null} error */
  #end(error) {
    if (this.#state === "closed") return;
    this.#release();
    this.#listening.abort();
    this.#become("closed");
    const reason = error ?? new Error("the client was closed; whether the command was stored is unknown");
    for (const feed of this.#feeds.values()) feed.end(error);
    this.#feeds.clear();
    this.#outbox.end(reason);
    this.#ready?.reject(reason);
  }

  // Messages

  /** @param {any[]} frames the objects of one WebSocket message */
  #received(frames) {
    const socket = this.#socket;
    const touched = new Set(frames.map((frame) => (socket === this.#socket ? this.#take(frame) : undefined)));
    for (const feed of touched) if (feed) this.#save(feed);
  }

  /** @param {any} frame @returns {Feed|undefined} the feed it was for */
  #take(frame) {
    const { type, re, channel, payload } = frame;
    const feed = this.#feeds.get(channel);
    const command = this.#outbox.get(re);
    if (frame.seq !== undefined) this.#offered(feed, feed?.event(frame));
    else if (type === "connection.error") this.#refused(frame, command);
    else if (command) this.#settled(command, frame);
    else if (type === "connection.ack") this.#welcomed(payload);
    else if (type === "connection.heartbeat") this.#recovery.progressed();
    else if (type === "connection.drain") this.#recovery.drained(payload.reconnect_after_ms);
    else if (type === "connection.expiring") this.#refresh();
    else if (type === "channel.subscribed") feed?.expects(re, this.#handshake) && feed.answered(payload);
    else if (type === "channel.resumed") this.#offered(feed, feed?.resumed(payload));
    else if (type === "channel.unsubscribed") re === undefined && feed && this.#unfollowed(feed, payload.reason);
    else if (re === undefined) feed?.signal(frame);
    return feed;
  }

  /** React to a feed's result for a message. @param {Feed|undefined} feed @param {boolean|undefined} isWhole false if events before it are missing */
  #offered(feed, isWhole) {
    if (!feed) return;
    if (!isWhole) return this.#socket?.drop(`${feed.channel}: the hub left out what follows seq ${feed.seq}`);
    this.#recovery.progressed();
    if (feed.isEnded) this.#leave(feed);
    else if (feed.isSpilled) this.#unsubscribe(feed);
  }

  /** @param {Command} command @param {Reply} reply */
  #settled(command, reply) {
    this.#recovery.progressed();
    this.#outbox.settle(command, reply);
  }

  /** @param {any} frame a `connection.error` @param {Command} [command] that it answers */
  #refused({ re = this.#handshake, channel, payload }, command) {
    const error = new HubError(payload, channel ?? command?.channel);
    if (command) return this.#report(error, this.#outbox.refuse(command, error, this.#recovery.pauseMs(error, command.attempts)));
    if (re === this.#handshake && !channel) return (this.#refusal = error); // the hub closes the socket next, and `#lost` reports it
    const feeds = [...this.#feeds.values()].filter((feed) => feed.asked === re && (channel ?? feed.channel) === feed.channel);
    this.#report(error, error.isPassing && feeds.length > 0);
    for (const feed of feeds) error.isPassing ? this.#askLater(feed, error) : this.#over(feed, error);
  }

  /** @param {Feed} feed @param {string} reason */
  #unfollowed(feed, reason) {
    if (reason === "too_far_behind") return this.#ask([feed]);
    const error = new HubError({ code: 4003, name: reason, message: "the hub ended the subscription", retry: "no" }, feed.channel);
    this.#report(error, false);
    this.#over(feed, error);
  }

  // Feeds

  /** @param {Feed[]} feeds */
  #ask(feeds) {
    for (let start = 0; this.#state === "ready" && start < feeds.length; start += ASKED_MAX) {
      const [id, asked] = [this.#newId(), feeds.slice(start, start + ASKED_MAX)];
      for (const feed of asked) [feed.asked, feed.isLive] = [id, false];
      this.#write({ type: "channel.subscribe", id, payload: { channels: asked.map((feed) => feed.request) } });
    }
  }

  /** @param {Feed} feed @param {HubError} error */
  #askLater(feed, error) {
    const socket = this.#socket;
    feed.asked = null;
    setTimeout(() => socket === this.#socket && !feed.isEnded && this.#ask([feed]), this.#recovery.pauseMs(error, feed.refusals++));
  }

  /** @param {Feed} feed @param {Error} error */
  #over(feed, error) {
    this.#feeds.delete(feed.channel);
    feed.end(error);
  }

  /** Record that the reader has taken an item. @param {Feed} feed */
  #taken(feed) {
    this.#save(feed);
    if (!feed.isSpilled || feed.items.length) return;
    feed.isSpilled = false;
    this.#ask([feed]);
  }

  /** Unsubscribe a feed whose reader has stopped. @param {Feed} feed */
  #leave(feed) {
    if (this.#feeds.get(feed.channel) !== feed) return;
    this.#feeds.delete(feed.channel);
    this.#unsubscribe(feed);
  }

  /** @param {Feed} feed */
  #unsubscribe(feed) {
    if (this.#state !== "ready") return;
    this.#write({ type: "channel.unsubscribe", id: this.#newId(), payload: { channels: [feed.channel] } });
  }

  /** @param {Feed} feed */
  #save(feed) {
    try {
      if (feed.cursor) this.#store?.save(feed.channel, feed.cursor);
    } catch (problem) {
      reportFault(problem); // a full or forbidden store must not end the connection
    }
  }

  // Helpers

  /** Send the commands that an earlier page left in the store. @param {OutboxStore} store */
  async #adopt(store) {
    this.#isAdopted = true;
    for (const { id, channel, text, sentAt } of await store.adopt().catch((problem) => (reportFault(problem), []))) {
      const settled = (/** @type {object} */ outcome) => this.dispatchEvent(new CustomEvent("settled", { detail: { id, ...outcome } }));
      if (sentAt !== null && Date.now() - sentAt > REMEMBERED_MS) {
        const message = "the page ended before the answer came, and the hub no longer remembers the command: look if it was stored before you send it anew";
        settled({ error: new HubError({ code: 1006, name: "outcome_unknown", message, retry: "no" }, channel) });
        store.delete(id).catch(reportFault);
      } else this.#outbox.add({ id, channel, text, sentAt, resolve: (reply) => settled({ reply }), reject: (error) => settled({ error }) });
    }
  }

  async #refresh() {
    if (typeof this.#token !== "function") return;
    const socket = this.#socket;
    try {
      const token = await this.#token();
      if (socket === this.#socket) this.#write({ type: "connection.refresh", id: this.#newId(), payload: { token } });
    } catch (problem) {
      this.#report(new HubError({ code: 4002, name: "no_fresh_token", message: String(problem), retry: "refresh" }), true);
    }
  }

  #probe() {
    if (this.#state === "ready") this.#socket?.probe();
  }

  /** @param {object} frame */
  #write(frame) {
    this.#socket?.write(JSON.stringify(frame));
  }

  #newId() {
    return `${this.#idPrefix}.${(this.#idCount += 1)}`;
  }

  /** @param {ConnectionState} state @param {number} [delayMs] */
  #become(state, delayMs) {
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, delayMs } }));
  }

  /** @param {HubError} error @param {boolean} willRetry true if the client reconnects by itself */
  #report(error, willRetry) {
    this.dispatchEvent(new CustomEvent("error", { detail: { error, willRetry } }));
  }
}

/** The URLs of a hub given as `https://hub`, `wss://hub` or `wss://hub/ws`. @param {string} url @returns {{socket: string, http: string}} */
function addressesOf(url) {
  const { protocol, host, pathname, search } = new URL(url, globalThis.location?.href);
  if (!/^(http|ws)s?:$/.test(protocol)) throw new SyntaxError(`${url} is no address of a hub: it begins with https: or wss:`);
  const [path, secure] = [pathname.replace(/\/(ws)?$/, ""), /^(https|wss):$/.test(protocol) ? "s" : ""];
  return { socket: `ws${secure}://${host}${path}/ws${search}`, http: `http${secure}://${host}${path}` };
}
