/** Parts that several views are made of: tables, links, times, and buttons that ask first. @module inspect_parts */

import { button, showText, textElement } from "./safe_text.js";

/** @typedef {string|Node} Cell */

/** A table in a region that scrolls and takes the keyboard. @param {string} name @param {string[]} heads @param {Cell[][]} rows @returns {HTMLElement} */
export function table(name, heads, rows) {
  const region = document.createElement("div");
  [region.className, region.tabIndex] = ["scroll", 0];
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", name);
  const made = region.appendChild(document.createElement("table"));
  const head = made.createTHead().insertRow();
  for (const text of heads) Object.assign(head.appendChild(textElement("th", "", text)), { scope: "col" });
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const [index, cell] of cells.entries()) {
      const made = row.insertCell();
      made.dataset.label = heads[index]; // on a phone a row stands as a list
      made.append(typeof cell === "string" ? textElement("span", "", cell) : cell);
    }
  }
  return region;
}

/** @param {string} text @param {string} href @returns {HTMLAnchorElement} */
export function link(text, href) {
  const made = /** @type {HTMLAnchorElement} */ (textElement("a", "", text));
  made.href = href;
  return made;
}

/** A sentence. @param {string} text @param {string} [name] its class */
export const note = (text, name = "note") => textElement("p", name, text);

/** Terms with their values; empty ones are left out. @param {Record<string, Cell|null|undefined>} facts */
export function factList(facts) {
  const made = document.createElement("dl");
  made.className = "facts";
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined || value === "") continue;
    const row = made.appendChild(document.createElement("div"));
    const told = document.createElement("dd");
    if (typeof value === "string") showText(told, value);
    else told.append(value);
    row.append(textElement("dt", "", name), told);
  }
  return made;
}

/** A button that reads the view again. */
export const refresher = () => button("", "Refresh", () => dispatchEvent(new Event("hashchange")));

/** A button that asks before it acts. @param {string} text @param {string} yes @param {() => unknown} act @param {string} label its accessible name */
export function asking(text, yes, act, label) {
  const made = document.createElement("span");
  made.className = "asking";
  const back = () => [made.replaceChildren(ask), ask.focus()];
  const ask = button("quiet", text, () => [made.replaceChildren(sure, no), no.focus()], label);
  const sure = button("quiet bad", yes, () => [(sure.disabled = true), act()]);
  const no = button("quiet", "Keep", back);
  made.addEventListener("keydown", (event) => event.key === "Escape" && ask.parentElement === null && back());
  made.append(ask);
  return made;
}

/** @param {string|number} when RFC 3339, or milliseconds since 1970 */
export const timeText = (when) => new Date(when).toLocaleString("en-GB");

/** @param {number} ms */
export function lengthText(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 3_600_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}

/** The ID right before another one. @param {string} id */
export function idBefore(id) {
  const [ms, n] = id.split("-").map(Number);
  return n > 0 ? `${ms}-${n - 1}` : `${ms - 1}-9999999999`;
}

/** The time in an event's ID, in milliseconds since 1970. @param {string} id */
export const timeOfId = (id) => Number(id.split("-")[0]);
