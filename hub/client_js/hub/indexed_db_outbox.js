/** Stores commands in IndexedDB, so that they outlive the page. @module hub/indexed_db_outbox */

/** @typedef {{id: string, channel?: string, text: string, sentAt: number|null}} StoredCommand `sentAt`: the first time at which it may have reached the hub. */
/** @typedef {StoredCommand & {tab: string, number: number}} Row */

const TABLE = "commands";

/**
 * An outbox store for `HubClient`; any object with these methods will do.
 *
 * Every tab stores its own commands. The next client that connects takes over those of closed tabs, once: a lock (Web Locks)
 * identifies the open tabs. Without locks all are taken over at once, which is safe because the hub stores each id once.
 */
export class IndexedDbOutbox {
  #name;
  #locked;
  #tab = crypto.randomUUID?.() ?? String(Math.random());
  #number = Date.now() * 1000; // orders the rows of one tab, and roughly those of several
  /** @type {Promise<IDBDatabase>|null} */ #opening = null;

  /** @param {string} name such as "hub:acme:alice"; one for each user of the browser */
  constructor(name) {
    this.#name = name;
    this.#locked = new Promise((locked) => {
      const hold = () => new Promise(() => locked(undefined)); // held until the page is closed
      if (!globalThis.navigator?.locks) locked(undefined);
      else navigator.locks.request(this.#lockOf(this.#tab), hold);
    });
  }

  /** Store a command, or update it. @param {StoredCommand} command */
  async put(command) {
    const number = (this.#number += 1);
    await this.#locked; // otherwise another tab might consider this one closed
    await this.#run("readwrite", (table) => {
      const found = table.get(command.id);
      found.onsuccess = () => table.put({ number, ...found.result, ...command, tab: this.#tab });
      return found;
    });
  }

  /** Delete an answered command. @param {string} id */
  async delete(id) {
    await this.#run("readwrite", (table) => table.delete(id));
  }

  /** Take over the commands of closed tabs, oldest first. @returns {Promise<StoredCommand[]>} */
  async adopt() {
    const locks = globalThis.navigator?.locks;
    return locks ? locks.request(`${this.#name}:adopt`, () => this.#adopt(locks)) : this.#adopt(null);
  }

  /** @param {LockManager|null} locks */
  async #adopt(locks) {
    const held = new Set((await locks?.query())?.held?.map((lock) => lock.name));
    /** @type {Row[]} */
    const rows = await this.#run("readonly", (table) => table.getAll());
    const orphans = rows.filter(({ tab }) => tab !== this.#tab && !held.has(this.#lockOf(tab)));
    orphans.sort((one, other) => one.number - other.number);
    for (const row of orphans) await this.#run("readwrite", (table) => table.put({ ...row, tab: this.#tab }));
    return orphans;
  }

  /** @param {string} tab */
  #lockOf(tab) {
    return `${this.#name}:${tab}`;
  }

  /** @param {IDBTransactionMode} mode @param {(table: IDBObjectStore) => IDBRequest} work @returns {Promise<any>} once it is on disk */
  async #run(mode, work) {
    const database = await (this.#opening ??= openDatabase(this.#name));
    return new Promise((resolve, reject) => {
      const change = database.transaction(TABLE, mode);
      const request = work(change.objectStore(TABLE));
      change.oncomplete = () => resolve(request.result);
      change.onerror = change.onabort = () => reject(change.error);
    });
  }
}

/** @param {string} name @returns {Promise<IDBDatabase>} */
function openDatabase(name) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}
