/**
 * One socket from its opening to its end: sends heartbeats, and reports the end once and soon, even if the network fails
 * silently. It only parses messages and splits arrays; `HubClient` handles them.
 *
 * @module hub/web_socket
 */

import { connectionLost } from "./error.js";

/** @typedef {import("./error.js").HubError} HubError */
/** @typedef {{opened(): void, frames(frames: any[]): void, lost(ending: HubError): void}} Owner Nothing is called after `lost`. */

const HANDSHAKE_MS = 10_000; // the hub allows a new socket the same time (4008)
const ERROR_MS = 200; // for the `close` that follows an `error`, with its code; Node 20 has none after a refused upgrade
const PROBE_MS = 3_000; // if the answer takes longer after a change of network, the socket is replaced
const SILENT_BEATS_MAX = 2; // unanswered heartbeats, half an interval apart; the hub itself waits two intervals

/** One socket, opened by the constructor. */
export class WebSocketConnection {
  #socket;
  #owner;
  #silentBeats = 0;
  #wasHeard = true;
  #isOver = false;
  /** @type {any} */ #timer;
  /** @type {any} */ #probing;

  /** @param {string} url @param {Owner} owner @param {typeof WebSocket} Socket @throws {SyntaxError} if the url is invalid */
  constructor(url, owner, Socket) {
    this.#owner = owner;
    this.#socket = new Socket(url);
    this.#socket.onopen = () => owner.opened();
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = ({ code }) => this.#end(connectionLost(code));
    this.#socket.onerror = () => setTimeout(() => this.drop("the socket failed"), ERROR_MS);
    this.#timer = setTimeout(() => this.drop("the handshake took too long"), HANDSHAKE_MS);
  }

  /** @param {string} text one message */
  write(text) {
    if (!this.#isOver) this.#socket.send(text);
  }

  /** Start heartbeats after the handshake, two per interval. @param {number} intervalMs */
  begin(intervalMs) {
    clearTimeout(this.#timer);
    this.#timer = setInterval(() => this.#beat(), intervalMs / 2);
  }

  /** Check soon whether the hub still answers, because the network may have changed. */
  probe() {
    this.#ping();
    clearTimeout(this.#probing);
    this.#probing = setTimeout(() => this.#wasHeard || this.drop("the hub no longer answers"), PROBE_MS);
  }

  /** Drop the socket at once, without a closing handshake. @param {string} why */
  drop(why) {
    this.#end(connectionLost(1006, why));
  }

  /** Close the socket without reporting it. */
  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#probing);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.onerror = () => {}; // with none, the package ws would end the process
    this.#socket.close();
  }

  #beat() {
    this.#silentBeats = this.#wasHeard ? 0 : this.#silentBeats + 1;
    if (this.#silentBeats >= SILENT_BEATS_MAX) this.drop("the hub sent nothing for a heartbeat interval");
    else this.#ping();
  }

  #ping() {
    this.#wasHeard = false;
    this.write('{"type":"connection.heartbeat","payload":{}}');
  }

  /** @param {string} text */
  #received(text) {
    this.#wasHeard = true;
    try {
      this.#owner.frames([].concat(JSON.parse(text)));
    } catch (problem) {
      this.drop(`the hub sent a message that this client cannot read: ${problem}`);
    }
  }

  /** @param {HubError} ending */
  #end(ending) {
    if (this.#isOver) return;
    this.close();
    this.#owner.lost(ending);
  }
}
