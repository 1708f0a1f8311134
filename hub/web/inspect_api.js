/** Calls the hub over HTTP with the tab's token, and keeps the address of the view. @module inspect_api */

const TOKEN_KEY = "hub.console.token"; // shared with the console in this tab

/** A refusal of the hub, with its sentence. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @returns {string} */
export const token = () => sessionStorage.getItem(TOKEN_KEY) ?? "";

/** @param {string} given */
export const keepToken = (given) => sessionStorage.setItem(TOKEN_KEY, given);

/** The claims of the token that decide which buttons are offered; the hub decides what is allowed. @returns {any} */
export function claims() {
  try {
    return JSON.parse(atob((token().split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return {};
  }
}

/** True if the token's grants allow the action there; the longest pattern decides. @param {string} channel `*`: everywhere @param {string} action */
export function may(channel, action) {
  const { grants = {}, tenant } = claims();
  if (view().get("tenant") && view().get("tenant") !== tenant) return false;
  const fits = (/** @type {string} */ pattern) => pattern === channel || (pattern.endsWith("*") && channel.startsWith(pattern.slice(0, -1)));
  const longest = Object.keys(grants).filter(fits).sort((one, other) => other.length - one.length)[0]; // prettier-ignore
  const allowed = grants[longest] ?? [];
  return allowed.includes(action) || allowed.includes("*");
}

/** True for the scope `operator` in the token's own tenant; in others it may only read. */
export function mayOperate() {
  const { scope = "", tenant } = claims();
  return String(scope).split(" ").includes("operator") && (view().get("tenant") ?? tenant) === tenant;
}

/** The view named by the address. @returns {URLSearchParams} */
export const view = () => new URLSearchParams(location.hash.slice(1));

/** The address of a view in the same tenant; empty values are left out. @param {Record<string, string|null>} wanted */
export function address(wanted) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...wanted, tenant: view().get("tenant") })) if (value) found.set(name, value);
  return `#${found}`;
}

/** Read a resource below /v1/. @param {string} path @param {Record<string, string>} [query] @returns {Promise<any>} */
export const read = (path, query = {}) => call("GET", path, query);

/** Append an event. @param {string} channel @param {string} type @param {object} payload */
export const append = (channel, type, payload) => call("POST", `channels/${encodeURIComponent(channel)}/events`, {}, { type, payload });

/** Call a resource below /v1/. @param {string} method @param {string} path @param {Record<string, string>} query @param {object} [body] @returns {Promise<any>} */
export async function call(method, path, query, body) {
  const url = new URL(`../v1/${path}`, location.href.split("#")[0]);
  for (const [name, value] of Object.entries({ ...query, tenant: view().get("tenant") ?? "" })) if (value) url.searchParams.set(name, value);
  const headers = { Authorization: `Bearer ${token()}`, ...(body && { "Content-Type": "application/json" }) };
  const answer = await fetch(url, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  const told = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Refused(answer.status, told.detail ?? `The hub answered ${answer.status}.`);
  return told;
}
