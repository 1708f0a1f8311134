/** Reads from the hub over HTTP with the tab's token. @module inspect_api */

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

/** Read a resource below /v1/. @param {string} path @param {Record<string, string>} query @returns {Promise<any>} */
export async function read(path, query = {}) {
  const url = new URL(`../v1/${path}`, location.href.split("#")[0]);
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${token()}` } });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.detail ?? `The hub answered ${answer.status}.`);
  return body;
}
