/** The view of one channel: its events with a filter, one of them in detail, and the state as of it. @module inspect_channel */

import { address, read, view } from "./inspect_api.js";
import { EventList, differences } from "./inspect_events.js";
import { idBefore, timeText } from "./inspect_parts.js";
import { showText } from "./safe_text.js";

const PAGE = "1000";
const SLIDER_REST_MS = 150; // the slider reads a state once it rests
const KEPT_MAX = 100_000; // events held in the page
const FOUND = "200"; // events on a page of a search
const NEWEST = "9999999999999-0"; // after every event
const FILTERS = ["type", "actor", "text", "from", "to"];
const TIMES = new Set(["from", "to"]);
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$/; // as the field gives it

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);

/** The events and states of the chosen channel. */
export class ChannelView {
  #list = new EventList(at("list"), at("space"), (index) => this.choose(index));
  /** @type {any[]} */ #events = [];
  /** @type {any[]} */ #shown = [];
  /** @type {string|null} */ #before = null;
  #channel = "";
  /** @type {Record<string, string>|null} */ #search = null; // of all events; null while the newest are shown
  #asked = ""; // the form that was searched for
  /** @type {{from_seq: number|null, to_seq: number|null}|null} */ #gap = null; // events that the search could not read
  #turn = 0; // answers to older questions are dropped
  #reading = 0; // likewise, of pages of events
  #resting = 0;
  #attempt;

  /** @param {(work: () => Promise<unknown>) => Promise<void>} attempt runs a reading and shows its refusal */
  constructor(attempt) {
    this.#attempt = attempt;
  }

  /** Show what the address says. @param {URLSearchParams} wanted */
  async show(wanted) {
    for (const id of FILTERS) at(id).value = TIMES.has(id) && !TIME.test(wanted.get(id) ?? "") ? "" : (wanted.get(id) ?? "");
    const [place, event] = [`${wanted.get("tenant")} ${wanted.get("channel")}`, wanted.get("event")];
    if (place === this.#channel) return this.filter(event);
    [this.#events, this.#before, this.#search] = [[], null, null];
    showText(at("name"), wanted.get("channel") ?? "");
    at("verified").hidden = true;
    at("verify").disabled = false;
    at("channel-runs").href = address({ view: "runs", in: wanted.get("channel") });
    const known = event ? await read(this.#path("events"), { after: idBefore(event), limit: PAGE }) : null;
    this.#channel = place;
    if (known?.events[0]?.id !== event || !event) return this.older();
    [this.#events, this.#before] = [known.events, event];
    this.filter(event);
  }

  /** Read everything again when it is shown next. */
  forget() {
    this.#channel = "";
  }

  /** Read the page before, or search on. */
  async older() {
    const mine = (this.#reading += 1);
    const wanted = this.#search ? { ...this.#search, limit: FOUND } : { limit: PAGE };
    const page = await read(this.#path("events"), { ...wanted, before: this.#before ?? NEWEST });
    if (mine !== this.#reading) return;
    this.#events = [...page.events, ...this.#events].slice(0, KEPT_MAX);
    this.#before = page.next;
    this.#gap = page.gap ?? this.#gap;
    this.filter(view().get("event"));
  }

  /** Search all events, in Redis and in the archive, for what the form says; an empty form shows the newest again. */
  async search() {
    const [type, actor, text, from, to] = this.#form();
    const [from_time, to_time] = [from && `${from}Z`, to && `${to}Z`].map((time) => time.replace(/T(\d\d:\d\d)Z/, "T$1:00Z"));
    const wanted = { types: type && `${type}*`, actor, text, from_time, to_time };
    this.#search = Object.values(wanted).some(Boolean) ? wanted : null;
    this.#asked = JSON.stringify(this.#form());
    [this.#events, this.#before, this.#gap] = [[], null, null];
    await this.older();
  }

  /** Verify the channel, and show the result in words. */
  async verify() {
    const place = this.#channel;
    at("verify").disabled = true;
    showText(at("verified"), "Verifying every event …");
    at("verified").hidden = false;
    at("verified").classList.remove("bad");
    try {
      const found = await read(this.#path("audit"));
      if (place !== this.#channel) return; // another channel is shown by now
      showText(at("verified"), found.told);
      at("verified").classList.toggle("bad", !found.whole);
    } catch (problem) {
      if (place !== this.#channel) return;
      at("verified").hidden = true;
      throw problem;
    } finally {
      if (place === this.#channel) at("verify").disabled = false;
    }
  }

  /** Show the events that fit the form. @param {string|null} chosen ID of the chosen event */
  filter(chosen) {
    const [type, actor, text] = FILTERS.map((id) => at(id).value.toLowerCase());
    const isAsked = this.#search !== null && this.#asked === JSON.stringify(this.#form()); // the hub knows more of letters
    this.#shown = this.#events.filter(
      (event) =>
        isAsked ||
        (event.type.toLowerCase().includes(type) &&
          event.actor.id.toLowerCase().includes(actor) &&
          (!text || JSON.stringify(event.payload).toLowerCase().includes(text))),
    );
    const [shown, index] = [this.#shown, this.#shown.findIndex((event) => event.id === chosen)];
    at("older").hidden = this.#before === null;
    at("count").textContent = this.#told(shown.length);
    at("older").textContent = this.#search ? "Search older events" : "Older events";
    at("time").max = Math.max(0, shown.length - 1);
    this.#list.show(shown, index < 0 ? shown.length - 1 : index);
    at("detail").hidden = index < 0;
    if (index >= 0) this.#detail(index);
    else at("time").value = shown.length - 1;
  }

  /** The sentence about the list. @param {number} count events shown */
  #told(count) {
    const [some, all] = [count.toLocaleString("en"), this.#events.length.toLocaleString("en")];
    if (!this.#search) return `${some} of ${all} loaded events`;
    const [ms] = (this.#before ?? "").split("-").map(Number);
    const lost = this.#gap ? `; ${this.#gap.from_seq} to ${this.#gap.to_seq} cannot be read` : "";
    const whole = lost ? "searched all that is kept" : "searched everything";
    return `${some} found; ${this.#before ? `searched back to ${timeText(new Date(ms).toISOString())}` : whole}${lost}`;
  }

  /** The values of the form. @returns {string[]} */
  #form() {
    return FILTERS.map((id) => at(id).value.trim());
  }

  /** @param {number} index */
  choose(index) {
    if (!this.#shown[index]) return;
    this.#list.choose(index);
    this.remember(this.#shown[index].id);
    this.#detail(index);
  }

  /** Write the view into the address. @param {string|null} event */
  remember(event) {
    const filters = Object.fromEntries(FILTERS.map((id) => [id, at(id).value]));
    history.replaceState(null, "", address({ channel: view().get("channel"), ...filters, event }));
  }

  /** @param {number} index */
  #detail(index) {
    const event = this.#shown[index];
    at("detail").hidden = false;
    at("time").value = index;
    at("as-of").textContent = String(event.seq);
    showText(at("detail-title"), `${event.type} · seq ${event.seq}`);
    showText(at("raw"), JSON.stringify(event, null, 2));
    at("link").href = location.hash;
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => this.#attempt(() => this.#showState(event)), SLIDER_REST_MS);
  }

  /** @param {any} event */
  async #showState(event) {
    const mine = (this.#turn += 1);
    const now = await read(this.#path("state"), { at: event.id });
    const past = event.seq > 1 ? await read(this.#path("state"), { at: idBefore(event.id) }) : { state: {} };
    if (mine !== this.#turn) return;
    showText(at("state"), JSON.stringify(now.state, null, 2));
    showText(at("difference"), differences(past.state, now.state).join("\n") || "This event changes nothing in the state.");
  }

  /** @param {string} resource */
  #path(resource) {
    return `channels/${encodeURIComponent(view().get("channel") ?? "")}/${resource}`;
  }
}
