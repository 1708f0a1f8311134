/**
 * One socket from its opening to its end: heartbeats, and an end that is reported once and soon, even where the network
 * swallows it. It reads no messages beyond taking arrays apart; `HubClient` handles them.
 *
 * @module hub/web_socket
 */

import { connectionLost } from "./error.js";

/** @typedef {import("./error.js").HubError} HubError */
/** @typedef {{opened(): void, frames(frames: any[]): void, lost(ending: HubError): void}} Owner After `lost` it hears no more. */

const HANDSHAKE_MS = 10_000; // the hub gives a new socket as long (4008)
const PROBE_MS = 3_000; // slower than this, a socket is of no use after a change of network
const SILENT_BEATS_MAX = 2; // unanswered heartbeats, half an interval apart; the hub itself waits for two intervals

/** Opens at once. */
export class HubSocket {
  #socket;
  #owner;
  #silentBeats = 0;
  #wasHeard = true;
  #isOver = false;
  /** @type {any} */ #timer;
  /** @type {any} */ #probing;

  /** @param {string} url @param {Owner} owner @throws {SyntaxError} the url is none */
  constructor(url, owner) {
    this.#owner = owner;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => owner.opened();
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = ({ code }) => this.#end(connectionLost(code));
    this.#timer = setTimeout(() => this.drop("the handshake took too long"), HANDSHAKE_MS);
  }

  /** @param {string} text one message */
  write(text) {
    if (!this.#isOver) this.#socket.send(text);
  }

  /** Begin heartbeats, two an interval, after the handshake. @param {number} intervalMs */
  begin(intervalMs) {
    clearTimeout(this.#timer);
    this.#timer = setInterval(() => this.#beat(), intervalMs / 2);
  }

  /** Test soon if the hub is still there: the network may have changed. */
  probe() {
    this.#ping();
    clearTimeout(this.#probing);
    this.#probing = setTimeout(() => this.#wasHeard || this.drop("nothing answers any more"), PROBE_MS);
  }

  /** Drop it at once, without a closing handshake. @param {string} why */
  drop(why) {
    this.#end(connectionLost(1006, why));
  }

  /** Close it without a report. */
  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#probing);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #beat() {
    this.#silentBeats = this.#wasHeard ? 0 : this.#silentBeats + 1;
    if (this.#silentBeats >= SILENT_BEATS_MAX) this.drop("nothing was heard for a heartbeat interval");
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
      this.drop(`the hub sent what this client cannot read: ${problem}`);
    }
  }

  /** @param {HubError} ending */
  #end(ending) {
    if (this.#isOver) return;
    this.close();
    this.#owner.lost(ending);
  }
}
