/** The view of all channels: search by name and kind, head, rate since the search before, last activity. @module inspect_channels */

import { address, read } from "./inspect_api.js";
import { link, timeText } from "./inspect_parts.js";
import { showText } from "./safe_text.js";

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
/** @type {Map<string, {seq: number, at: number}>} Heads of the search before, for the rate. */ const heads = new Map();
const HEADS_MAX = 10_000;

/** Show the channels that the address names. @param {URLSearchParams} wanted */
export async function showChannels(wanted) {
  [at("kind").value, at("prefix").value] = [wanted.get("kind") ?? "", wanted.get("prefix") ?? ""];
  await search("");
}

/** Show the next page of channels. */
export const moreChannels = () => search(at("more").dataset.after);

/** The address of the search in the form. */
export const searched = () => address({ view: "channels", kind: at("kind").value, prefix: at("prefix").value });

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
  const last = heads.get(one.channel);
  const rate = last ? ((one.head.seq - last.seq) * 1000) / Math.max(1, Date.now() - last.at) : null;
  if (heads.size >= HEADS_MAX) heads.clear();
  heads.set(one.channel, { seq: one.head.seq, at: Date.now() });
  const first = row.insertCell();
  first.dataset.label = "Channel";
  first.append(link(one.channel, address({ channel: one.channel })));
  const facts = {
    Head: one.head.seq.toLocaleString("en"), "Events a second": rate === null ? "–" : rate.toFixed(1),
    Kept: one.archived_to ? `cold to ${one.archived_to.toLocaleString("en")}, then hot` : "hot", "Last activity": timeText(one.last_activity),
  }; // prettier-ignore
  for (const [label, text] of Object.entries(facts)) showText(row.insertCell(), text).dataset.label = label;
  return row;
}
