/** Draws messages, presence, typing and running agents, once per animation frame. @module chat_view */

import { Bubble, draftElement } from "./chat_bubble.js";
import { button, showText, textElement } from "./safe_text.js";

/** @typedef {import("./chat_store.js").ChatStore} ChatStore */
/** @typedef {import("./chat_bubble.js").Deeds} Deeds */
/** @typedef {{list: HTMLElement, region: HTMLElement, empty: HTMLElement, latest: HTMLElement, activity: HTMLElement, people: HTMLElement,
 *    announce: HTMLElement, title: HTMLElement, gap: HTMLElement}} Parts */

const NEAR_BOTTOM_PX = 80;
const SPOKEN_MAX = 300; // characters of a new message that a screen reader announces
/** @type {Record<string, string>} */
const RUN_WORDS = { queued: "will answer soon", running: "is working", waiting: "is waiting for an answer", cancelling: "is stopping" };

/** Draws a `ChatStore`. */
export class ChatView {
  #parts;
  #deeds;
  #stop;
  /** @type {Map<string, Bubble>} */ #bubbles = new Map();
  /** @type {Set<string>} */ #spoken = new Set();
  #draftsShown = "";
  #activityShown = "";
  #peopleShown = "";
  #wasReplayed = false;
  #isStuck = true; // the newest message was in view before the region changed its size

  /** @param {Parts} parts @param {Deeds} deeds @param {(run: string) => void} stop ends a run */
  constructor(parts, deeds, stop) {
    this.#parts = parts;
    this.#deeds = deeds;
    this.#stop = stop;
    parts.list.replaceChildren();
    parts.latest.onclick = () => this.#toBottom();
    parts.region.onscroll = () => (this.#isStuck = parts.latest.hidden = this.#isAtBottom);
    new ResizeObserver(() => this.#isStuck && this.#toBottom()).observe(parts.region);
  }

  /** @param {ChatStore} store @param {number} nowMs */
  draw(store, nowMs) {
    const isStuck = this.#isAtBottom;
    const shown = store.shown();
    const kept = new Set(shown.map(({ message }) => message.id));
    for (const [id, bubble] of this.#bubbles) if (!kept.has(id)) [bubble.element.remove(), this.#bubbles.delete(id)];
    shown.forEach((one, index) => this.#place(one, index, store));
    this.#showDrafts(store);
    this.#parts.empty.hidden = shown.length > 0 || store.drafts.size > 0;
    showText(this.#parts.title, store.title);
    this.#parts.gap.hidden = store.gap === null;
    if (store.gap) showText(this.#parts.gap, `Some earlier events can no longer be replayed (${store.gap}); the messages shown come from the state.`);
    this.#showActivity(store, nowMs);
    this.#showPeople(store);
    this.#speak(store, shown);
    if (isStuck) this.#toBottom();
    this.#parts.latest.hidden = this.#isAtBottom;
  }

  /** @param {import("./chat_store.js").Shown} shown @param {number} index @param {ChatStore} store */
  #place(shown, index, store) {
    const { message } = shown;
    const bubble = this.#bubbles.get(message.id) ?? new Bubble(this.#deeds, store.user);
    this.#bubbles.set(message.id, bubble);
    bubble.show(shown, store.files);
    const here = this.#parts.list.children[index];
    if (here !== bubble.element) this.#parts.list.insertBefore(bubble.element, here ?? null);
  }

  /** @param {ChatStore} store */
  #showDrafts(store) {
    const drafts = [...store.drafts.values()];
    const key = JSON.stringify(drafts);
    if (key === this.#draftsShown) return;
    this.#draftsShown = key;
    for (const old of this.#parts.list.querySelectorAll(".draft")) old.remove();
    this.#parts.list.append(...drafts.map((draft) => draftElement(draft, this.#deeds, store.user)));
  }

  /** @param {ChatStore} store @param {number} nowMs */
  #showActivity(store, nowMs) {
    const [runs, typists] = [store.activeRuns(), store.typists(nowMs)];
    const key = JSON.stringify([runs, typists]);
    if (key === this.#activityShown) return;
    this.#activityShown = key;
    const rows = runs.map(({ run, agent, state }) => {
      const row = textElement("p", "run", "");
      row.append(textElement("bdi", "name", agent), ` ${RUN_WORDS[state] ?? state} `, button("", "Stop", () => this.#stop(run), `stop ${agent}`));
      row.dataset.state = state;
      return row;
    });
    if (typists.length) rows.push(textElement("p", "typing", `${typists.slice(0, 3).join(", ")}${typists.length > 3 ? " and others" : ""} ${typists.length === 1 ? "is" : "are"} typing`));
    this.#parts.activity.replaceChildren(...rows);
  }

  /** @param {ChatStore} store */
  #showPeople(store) {
    const key = JSON.stringify([...store.people]);
    if (key === this.#peopleShown) return;
    this.#peopleShown = key;
    this.#parts.people.replaceChildren(...[...store.people].map(([user, { status, devices }]) => {
      const row = document.createElement("li");
      row.dataset.status = status;
      row.append(textElement("span", "name", user), textElement("span", "note", [user === store.user ? "you" : "", status, devices > 1 ? `${devices} devices` : ""].filter(Boolean).join(", ")));
      return row;
    })); // prettier-ignore
  }

  /** Announce new, complete messages to screen readers, except those present at the start. @param {ChatStore} store @param {import("./chat_store.js").Shown[]} shown */
  #speak(store, shown) {
    if (store.isReplaying) return;
    for (const { message, isOpen, text } of shown) {
      if (isOpen || this.#spoken.has(message.id)) continue;
      this.#spoken.add(message.id);
      if (this.#wasReplayed && message.actor.id !== store.user) showText(this.#parts.announce, `${message.actor.id}: ${text.slice(0, SPOKEN_MAX)}`);
    }
    this.#wasReplayed = true;
  }

  /** True while the newest message is in view. */
  get isNewestSeen() {
    return this.#parts.region.clientHeight > 0 && this.#isAtBottom;
  }

  get #isAtBottom() {
    const { scrollTop, scrollHeight, clientHeight } = this.#parts.region;
    return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
  }

  #toBottom() {
    this.#parts.region.scrollTop = this.#parts.region.scrollHeight;
  }
}
