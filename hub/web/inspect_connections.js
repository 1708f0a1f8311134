/** The view of this node's connections: find a user, the cursor of each channel, and a button that closes one. @module inspect_connections */

import { address, call, read } from "./inspect_api.js";
import { asking, factList, link, note, refresher, table, timeText } from "./inspect_parts.js";
import { textElement } from "./safe_text.js";

/** @typedef {(work: () => Promise<unknown>) => Promise<void>} Attempt */

/** @param {HTMLElement} place @param {URLSearchParams} wanted @param {Attempt} attempt */
export async function showConnections(place, wanted, attempt) {
  const user = wanted.get("user") ?? "";
  const { node, total, connections } = await read("connections", { user });

  /** @param {any} one */
  const close = (one) =>
    attempt(async () => {
      await call("DELETE", `connections/${encodeURIComponent(one.session_id)}`, {});
      await showConnections(place, wanted, attempt);
    });

  const rows = connections.map((/** @type {any} */ one) => [
    link(one.user, address({ view: "connections", user: one.user })),
    one.kind,
    one.client_id ?? "–",
    one.address,
    timeText(one.opened_at),
    cursors(one.channels),
    asking("Close", "Close it", () => close(one), `close the connection of ${one.user}`),
  ]);
  const count = `${total.toLocaleString("en")} ${total === 1 ? "connection" : "connections"}${user ? ` of ${user}` : ""} to the node ${node}`;
  place.replaceChildren(
    note(`${count}${connections.length < total ? `; the oldest ${connections.length} are shown` : ""}. A closed client reconnects and resumes; to keep somebody out, revoke the token.`),
    ...(rows.length ? [table("List of connections", ["User", "Kind", "Client", "Address", "Since", "Cursors", "End"], rows)] : [note("Nobody is connected to this node.", "empty")]),
    refresher(),
  );
}

/** @param {Record<string, {after: string, seq: number|null}>} channels */
function cursors(channels) {
  const made = document.createElement("details");
  const names = Object.keys(channels);
  made.append(textElement("summary", "", `${names.length} ${names.length === 1 ? "channel" : "channels"}`));
  made.append(factList(Object.fromEntries(names.map((name) => [name, `${channels[name].seq === null ? "" : `seq ${channels[name].seq}, `}after ${channels[name].after}`]))));
  return made;
}
