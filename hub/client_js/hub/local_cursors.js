/** Stores cursors in the browser's localStorage, so that they outlive the page. @module hub/local_cursors */

/** @typedef {import("./feed.js").Cursor} Cursor */

/** A cursor store for `HubClient`; any object with these two methods will do. */
export class LocalCursors {
  #prefix;

  /** @param {string} prefix such as "hub:acme:alice:"; one for each user of the browser */
  constructor(prefix) {
    this.#prefix = prefix;
  }

  /** @param {string} channel @returns {Cursor|null} */
  load(channel) {
    return JSON.parse(localStorage.getItem(this.#prefix + channel) ?? "null");
  }

  /** @param {string} channel @param {Cursor} cursor */
  save(channel, cursor) {
    localStorage.setItem(this.#prefix + channel, JSON.stringify(cursor));
  }
}
