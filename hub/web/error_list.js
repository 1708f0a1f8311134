/** The list of errors, each with a next step. @module error_list */

import { HubError } from "../hub.js";

const SHOWN_MAX = 20;
/** Advice by code, where the general advice would not help on this page. @type {Record<number, string>} */
const ADVICE = {
  4001: "Sign out and paste another token.",
  4002: "The token has expired. Get a new one and connect again.",
  4003: "Your token does not allow this. Ask for one that does.",
  4019: "The token was revoked. Get a new one and connect again.",
  4020: "Another connection has taken over this session. Connect again to take it back.",
};

/** The next step. @param {Error} error @param {boolean} willRetry @returns {string} */
export function adviceFor(error, willRetry) {
  if (willRetry) return "The console retries by itself.";
  if (!(error instanceof HubError)) return "";
  if (ADVICE[error.code]) return ADVICE[error.code];
  return error.retry === "no" ? "A retry would be refused again." : "Try again in a moment.";
}

/** Shows the newest error first, and counts repetitions. */
export class ErrorList {
  #list;
  #empty;
  #clear;
  /** @type {WeakSet<Error>} */ #seen = new WeakSet();

  /** @param {HTMLElement} list @param {HTMLElement} empty @param {HTMLElement} clear the button */
  constructor(list, empty, clear) {
    this.#list = list;
    this.#empty = empty;
    this.#clear = clear;
    clear.addEventListener("click", () => {
      list.replaceChildren();
      this.#tidy();
    });
  }

  /** @param {Error} error @param {boolean} willRetry */
  add(error, willRetry) {
    if (this.#seen.has(error)) return;
    this.#seen.add(error);
    const title = error instanceof HubError ? `${error.code} ${error.name}` : error.name;
    const details = error instanceof HubError ? error.details.map((found) => `${found.field} ${found.problem}`) : [];
    const channel = error instanceof HubError && error.channel ? `${error.channel}: ` : "";
    const message = [`${channel}${error.message}`, ...details].join("; ");
    const newest = /** @type {HTMLElement|null} */ (this.#list.firstElementChild);
    if (newest && newest.dataset.title === title && newest.dataset.message === message) return this.#again(newest, title);
    const item = document.createElement("li");
    Object.assign(item.dataset, { title, message, retries: String(willRetry), count: "1" });
    for (const [tag, text] of [["strong", title], ["span", message], ["span", adviceFor(error, willRetry)]]) {
      item.appendChild(document.createElement(tag)).textContent = text;
    }
    item.lastElementChild?.classList.add("note");
    this.#list.prepend(item);
    this.#tidy();
  }

  /** @param {HTMLElement} item @param {string} title */
  #again(item, title) {
    item.dataset.count = String(Number(item.dataset.count) + 1);
    if (item.firstElementChild) item.firstElementChild.textContent = `${title} (${item.dataset.count} times)`;
  }

  #tidy() {
    while (this.#list.children.length > SHOWN_MAX) this.#list.lastElementChild?.remove();
    this.#empty.hidden = this.#list.children.length > 0;
    this.#clear.hidden = !this.#empty.hidden;
  }
}
