/** A second writer: a client with its own socket, which keeps writing while the page is disconnected. @module background_writer */

import { HubClient } from "../hub.js";

const EVERY_MS = 200;
const UNANSWERED_MAX = 20; // with more the hub is unreachable, and they would only arrive as a burst afterwards

/** Writes numbered messages until it is stopped. */
export class BackgroundWriter {
  #client;
  #channel;
  #timer;
  #begun = 0;
  #unanswered = 0;
  #told;

  /** @param {string} url @param {string} token @param {string} channel @param {(error: Error) => void} failed @param {() => void} told called after each stored message */
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
      }, () => {}) // refusals are reported by the event `error`
      .finally(() => (this.#unanswered -= 1));
  }
}
