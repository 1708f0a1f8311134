/** A second writer: a client with a socket of its own, which goes on while the page's is cut. @module background_writer */

import { HubClient } from "../hub.js";

const EVERY_MS = 200;
const UNANSWERED_MAX = 20; // beyond it the hub is unreachable; more would only come as a burst afterwards

/** Writes numbered messages until it is stopped. */
export class BackgroundWriter {
  #client;
  #channel;
  #timer;
  #begun = 0;
  #unanswered = 0;
  #told;

  /** @param {string} url @param {string} token @param {string} channel @param {(error: Error) => void} failed @param {() => void} told after each stored message */
  constructor(url, token, channel, failed, told) {
    this.stored = 0;
    this.#channel = channel;
    this.#told = told;
    this.#client = new HubClient(url, token, { name: "console-writer" });
    this.#client.addEventListener("error", (event) => failed(/** @type {CustomEvent} */ (event).detail.error));
    this.#client.connect();
    this.#timer = setInterval(() => this.#write(), EVERY_MS);
  }

  /** Stop, and close the socket. */
  stop() {
    clearInterval(this.#timer);
    this.#client.close();
  }

  #write() {
    if (this.#client.state !== "ready" || this.#unanswered >= UNANSWERED_MAX) return;
    this.#unanswered += 1;
    this.#client
      .send(this.#channel, `second writer, message ${(this.#begun += 1)}`)
      .then(() => {
        this.stored += 1;
        this.#told();
      }, () => {}) // refusals come by `error`
      .finally(() => (this.#unanswered -= 1));
  }
}
