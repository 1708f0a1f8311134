/** A list of events that draws only the visible rows, so that 100,000 scroll like 100. @module inspect_events */

import { textElement } from "./safe_text.js";

const ROW_PX = 32;
const SPARE = 8; // rows drawn beyond the visible ones
const TEXT_MAX = 200; // characters of a row's text

/** @typedef {import("../client_js/hub.js").HubEvent} HubEvent */

/** The rows of the events that pass the filter, oldest first. */
export class EventList {
  #list;
  #space;
  #onChosen;
  /** @type {HubEvent[]} */ #events = [];
  #chosen = -1;

  /** @param {HTMLElement} list @param {HTMLElement} space @param {(index: number) => void} onChosen */
  constructor(list, space, onChosen) {
    this.#list = list;
    this.#space = space;
    this.#onChosen = onChosen;
    list.addEventListener("scroll", () => this.#draw());
    list.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Show events. @param {HubEvent[]} events @param {number} chosen index of the chosen event; -1 for none */
  show(events, chosen) {
    this.#events = events;
    this.#space.style.height = `${events.length * ROW_PX}px`;
    this.choose(chosen);
  }

  /** Mark one event and scroll to it. @param {number} index */
  choose(index) {
    this.#chosen = index;
    const top = index * ROW_PX;
    const { scrollTop, clientHeight } = this.#list;
    if (index >= 0 && (top < scrollTop || top + ROW_PX > scrollTop + clientHeight)) this.#list.scrollTop = top - clientHeight / 2;
    this.#draw();
  }

  #draw() {
    const first = Math.max(0, Math.floor(this.#list.scrollTop / ROW_PX) - SPARE);
    const last = Math.min(this.#events.length, Math.ceil((this.#list.scrollTop + this.#list.clientHeight) / ROW_PX) + SPARE);
    const rows = [];
    for (let index = first; index < last; index += 1) rows.push(this.#row(index));
    this.#space.replaceChildren(...rows);
    if (this.#chosen >= first && this.#chosen < last) this.#list.setAttribute("aria-activedescendant", `row-${this.#chosen}`);
    else this.#list.removeAttribute("aria-activedescendant");
  }

  /** @param {number} index */
  #row(index) {
    const event = this.#events[index];
    const row = document.createElement("div");
    row.id = `row-${index}`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(index === this.#chosen));
    row.style.top = `${index * ROW_PX}px`;
    const payload = event.payload?.text ?? JSON.stringify(event.payload);
    const texts = [String(event.seq), event.actor.id, event.type, String(payload).slice(0, TEXT_MAX)];
    row.append(...texts.map((text) => textElement("span", "", text)));
    row.addEventListener("click", () => this.#onChosen(index));
    return row;
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -this.#events.length, End: this.#events.length };
    if (!(event.key in steps) || !this.#events.length) return;
    event.preventDefault();
    const from = this.#chosen < 0 ? this.#events.length : this.#chosen;
    this.#onChosen(Math.min(this.#events.length - 1, Math.max(0, from + steps[event.key])));
  }
}

/** Differences between two states, one line for each changed field. @param {any} before @param {any} after @returns {string[]} */
export function differences(before, after, path = "") {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const isBoth = [before, after].every((value) => value !== null && typeof value === "object");
  if (!isBoth) return [...(before === undefined ? [] : [`- ${path}: ${JSON.stringify(before)}`]), ...(after === undefined ? [] : [`+ ${path}: ${JSON.stringify(after)}`])];
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => differences(before[name], after[name], path ? `${path}.${name}` : name));
}
