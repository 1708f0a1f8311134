/** Stores cursors in the browser, so that they outlive the page. @module hub/local_cursors */

/** @typedef {import("./feed.js").Cursor} Cursor */

/**
 * A cursor store for `HubClient`; any object with these two methods will do.
 *
 * Each tab goes on where it stood itself when it is loaded anew (sessionStorage). A new tab begins where the furthest one stood
 * (localStorage), which a tab that is behind never moves back.
 */
export class LocalCursors {
  #prefix;

  /** @param {string} prefix such as "hub:acme:alice:"; one for each user of the browser */
  constructor(prefix) {
    this.#prefix = prefix;
  }

  /** @param {string} channel @returns {Cursor|null} */
  load(channel) {
    return this.#read(sessionStorage, channel) ?? this.#read(localStorage, channel);
  }

  /** @param {string} channel @param {Cursor} cursor */
  save(channel, cursor) {
    const [name, text] = [this.#prefix + channel, JSON.stringify(cursor)];
    sessionStorage.setItem(name, text);
    const furthest = this.#read(localStorage, channel);
    if (furthest?.epoch !== cursor.epoch || (furthest?.seq ?? -1) <= (cursor.seq ?? 0)) localStorage.setItem(name, text);
  }

  /** @param {Storage} storage @param {string} channel @returns {Cursor|null} */
  #read(storage, channel) {
    return JSON.parse(storage.getItem(this.#prefix + channel) ?? "null");
  }
}
