/** The view of parked work: the events that a handler gave up on, with the reason, and a button that puts one back. @module inspect_parked */

import { address, call, may, read } from "./inspect_api.js";
import { asking, link, note, table } from "./inspect_parts.js";
import { button } from "./safe_text.js";

/** @typedef {(work: () => Promise<unknown>) => Promise<void>} Attempt */

/** @param {HTMLElement} place @param {URLSearchParams} _wanted @param {Attempt} attempt */
export async function showParked(place, _wanted, attempt) {
  const mayPutBack = may("*", "manage");
  /** @type {any[]} */ const found = [];
  /** @type {string|null} */ let next = "";

  const more = async () => {
    const page = await read("parked", { after: next ?? "" });
    found.push(...page.parked);
    next = page.next;
    draw();
  };

  /** @param {any} one */
  const putBack = (one) =>
    attempt(async () => {
      await call("POST", `parked/${one.id}/retry`, {});
      found.splice(found.indexOf(one), 1);
      draw(`${one.handler} tries ${one.type} in ${one.channel} again.`);
    });

  const draw = (told = "") => {
    const rows = found.map((one) => {
      const event = link(one.type, address({ channel: one.channel, event: one.event }));
      const cells = [one.handler, link(one.channel, address({ channel: one.channel })), event, String(one.attempts), one.reason];
      return mayPutBack ? [...cells, asking("Put back", "Try again now", () => putBack(one), `put ${one.type} ${one.event} back`)] : cells;
    });
    const status = note(told);
    status.setAttribute("role", "status");
    place.replaceChildren(
      status,
      ...(rows.length ? [table("Parked events", ["Handler", "Channel", "Event", "Attempts", "Reason", ...(mayPutBack ? ["Retry"] : [])], rows)] : []),
      ...(rows.length || next !== null ? [] : [note("No event is parked: the handlers have given up on none.", "empty")]),
      ...(mayPutBack ? [] : [note("To put an event back, the token needs manage on *.")]),
      ...(next === null ? [] : [button("", "More parked events", () => attempt(more))]),
    );
  };
  await more();
}
