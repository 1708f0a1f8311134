/**
 * The inspect page: the channels that a token may read, the events of one, and its state as of any event. It only reads.
 *
 * The address holds the view: `#view=channels&kind=…&prefix=…`, `#channel=…&event=…&type=…&actor=…&text=…`.
 *
 * @module inspect
 */

import { EventList, differences } from "./inspect_events.js";
import { Refused, keepToken, read, token } from "./inspect_api.js";
import { showText, textElement } from "./safe_text.js";

const PAGE = "1000";
const SLIDER_REST_MS = 150; // the slider reads a state once it rests
const KEPT_MAX = 100_000; // events held in the page

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const list = new EventList(at("list"), at("space"), (index) => choose(index));
/** @type {Map<string, {seq: number, at: number}>} Heads of the search before, for the rate. */ const heads = new Map();
/** @type {any[]} */ let events = [];
/** @type {any[]} */ let shown = [];
/** @type {string|null} */ let before = null;
let channel = "";
let turn = 0; // answers to older questions are dropped
let resting = 0;

/** Run a reading and show its refusal with what to do. @param {() => Promise<void>} work */
async function attempt(work) {
  at("problem").hidden = at("retry").hidden = true;
  try {
    await work();
  } catch (problem) {
    const isToken = problem instanceof Refused && problem.status === 401;
    showText(at("problem"), problem instanceof Refused ? problem.message : "The hub does not answer. Check that it runs, then try again.");
    at("problem").hidden = false;
    at("sign-in").hidden = !isToken;
    at("retry").hidden = isToken;
  }
}

/** Show what the address says. */
async function show() {
  at("sign-in").hidden = token() !== "";
  const wanted = new URLSearchParams(location.hash.slice(1));
  const name = wanted.get("channel") ?? "";
  at("channels").hidden = !token() || name !== "";
  at("channel").hidden = !token() || name === "";
  if (!token()) return at("token").focus();
  if (!name) {
    [at("kind").value, at("prefix").value, channel] = [wanted.get("kind") ?? "", wanted.get("prefix") ?? "", ""];
    return attempt(() => search(""));
  }
  for (const id of ["type", "actor", "text"]) at(id).value = wanted.get(id) ?? "";
  if (name !== channel) return attempt(() => open(name, wanted.get("event")));
  filter(wanted.get("event"));
}

/** @param {string} after */
async function search(after) {
  const page = await read("channels", { kind: at("kind").value, prefix: at("prefix").value, after });
  const rows = page.channels.map(rowOf);
  if (after) at("found").append(...rows);
  else at("found").replaceChildren(...rows);
  at("none").hidden = at("found").children.length > 0 || page.next !== null;
  at("more").hidden = page.next === null;
  at("more").dataset.after = page.next ?? "";
}

/** @param {any} one */
function rowOf(one) {
  const row = document.createElement("tr");
  const link = /** @type {HTMLAnchorElement} */ (textElement("a", "", one.channel));
  link.href = `#${new URLSearchParams({ channel: one.channel })}`;
  const last = heads.get(one.channel);
  const rate = last ? ((one.head.seq - last.seq) * 1000) / Math.max(1, Date.now() - last.at) : null;
  heads.set(one.channel, { seq: one.head.seq, at: Date.now() });
  row.insertCell().append(link);
  for (const text of [one.head.seq.toLocaleString("en"), rate === null ? "–" : rate.toFixed(1), new Date(one.last_activity).toLocaleString("en-GB")]) {
    showText(row.insertCell(), text);
  }
  return row;
}

/** @param {string} name @param {string|null} event */
async function open(name, event) {
  [channel, events, before] = [name, [], null];
  showText(at("name"), name);
  const known = event ? await read(`channels/${encodeURIComponent(name)}/events`, { after: idBefore(event), limit: PAGE }) : null;
  if (known?.events[0]?.id === event) {
    [events, before] = [known.events, event];
    filter(event);
  } else await older();
}

/** The ID right before another one. @param {string} id */
function idBefore(id) {
  const [ms, n] = id.split("-").map(Number);
  return n > 0 ? `${ms}-${n - 1}` : `${ms - 1}-9999999999`;
}

async function older() {
  const page = await read(`channels/${encodeURIComponent(channel)}/events`, { before: before ?? "9999999999999-0", limit: PAGE });
  events = [...page.events, ...events].slice(0, KEPT_MAX);
  before = page.next;
  filter(new URLSearchParams(location.hash.slice(1)).get("event"));
}

/** @param {string|null} chosen ID of the chosen event */
function filter(chosen) {
  const [type, actor, text] = ["type", "actor", "text"].map((id) => at(id).value.toLowerCase());
  shown = events.filter(
    (event) =>
      event.type.toLowerCase().includes(type) &&
      event.actor.id.toLowerCase().includes(actor) &&
      (!text || JSON.stringify(event.payload).toLowerCase().includes(text)),
  );
  at("older").hidden = before === null;
  at("count").textContent = `${shown.length.toLocaleString("en")} of ${events.length.toLocaleString("en")} loaded events`;
  at("time").max = Math.max(0, shown.length - 1);
  const index = shown.findIndex((event) => event.id === chosen);
  list.show(shown, index < 0 ? shown.length - 1 : index);
  at("detail").hidden = index < 0;
  if (index >= 0) detail(index);
  else at("time").value = shown.length - 1;
}

/** @param {number} index */
function choose(index) {
  if (!shown[index]) return;
  list.choose(index);
  remember(shown[index].id);
  detail(index);
}

/** Write the view into the address. @param {string|null} event */
function remember(event) {
  const fragment = new URLSearchParams({ channel });
  for (const id of ["type", "actor", "text"]) if (at(id).value) fragment.set(id, at(id).value);
  if (event) fragment.set("event", event);
  history.replaceState(null, "", `#${fragment}`);
}

/** @param {number} index */
function detail(index) {
  const event = shown[index];
  at("detail").hidden = false;
  at("time").value = index;
  at("as-of").textContent = String(event.seq);
  showText(at("detail-title"), `${event.type} · seq ${event.seq}`);
  showText(at("raw"), JSON.stringify(event, null, 2));
  at("link").href = location.hash;
  clearTimeout(resting);
  resting = setTimeout(() => attempt(() => showState(event)), SLIDER_REST_MS);
}

/** @param {any} event */
async function showState(event) {
  const mine = (turn += 1);
  const path = `channels/${encodeURIComponent(channel)}/state`;
  const now = await read(path, { at: event.id });
  const past = event.seq > 1 ? await read(path, { at: idBefore(event.id) }) : { state: {} };
  if (mine !== turn) return;
  showText(at("state"), JSON.stringify(now.state, null, 2));
  showText(at("difference"), differences(past.state, now.state).join("\n") || "This event changes nothing in the state.");
}

/** @param {string} id @param {string} type @param {() => void} act */
function on(id, type, act) {
  at(id).addEventListener(type, (/** @type {Event} */ event) => {
    if (type === "submit") event.preventDefault();
    act();
  });
}

on("sign-in", "submit", () => {
  keepToken(at("token").value.trim());
  void show();
});
on("search", "submit", () => {
  history.replaceState(null, "", `#${new URLSearchParams({ view: "channels", kind: at("kind").value, prefix: at("prefix").value })}`);
  void show();
});
on("filter", "submit", () => {});
on("filter", "input", () => {
  remember(null);
  filter(null);
});
on("more", "click", () => attempt(() => search(at("more").dataset.after)));
on("older", "click", () => attempt(older));
on("time", "input", () => choose(Number(at("time").value)));
on("copy", "click", () => attempt(() => navigator.clipboard.writeText(at("raw").textContent)));
on("retry", "click", () => {
  channel = "";
  void show();
});
addEventListener("hashchange", () => void show());
void show();
