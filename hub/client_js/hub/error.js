/** The errors of the hub, with its advice on retrying. @module hub/error */

/** @typedef {"no"|"refresh"|"backoff"|"now"} Retry The hub's advice on retrying: never, with a new token, after a pause, at once. */

/** Close code → advice, if no error message arrived. Any other code: "backoff". @type {Record<number, Retry>} */
const CLOSE_ADVICE = {
  ...{ 4001: "no", 4003: "no", 4005: "no", 4014: "no", 4019: "no", 4020: "no", 4023: "no" },
  ...{ 4002: "refresh", 4012: "now", 4016: "now" },
};

/** An error sent by the hub. The client has already followed the advice in `retry` when a caller sees it. */
export class HubError extends Error {
  /** @param {Record<string, any>} told the payload of `connection.error` @param {string} [channel] the channel it concerns */
  constructor(told, channel) {
    super(told.message ?? "the hub gave no reason");
    this.told = told;
    this.name = String(told.name ?? "internal_error");
    this.code = Number(told.code ?? 4030);
    /** @type {Retry} */
    this.retry = told.retry ?? "backoff";
    /** @type {number|undefined} */
    this.retryAfterMs = told.retry_after_ms;
    /** @type {{field: string, problem: string}[]} */
    this.details = told.details ?? [];
    this.channel = channel;
  }

  /** True if a later retry may succeed without a change. */
  get isPassing() {
    return this.retry === "backoff" || this.retry === "now";
  }
}

/** Make the error for a URL with which no attempt can succeed. @param {unknown} problem @returns {HubError} */
export function cannotConnect(problem) {
  return new HubError({ code: 1006, name: "cannot_connect", message: `no socket can be opened: ${problem}`, retry: "no" });
}

/** Make the error for a socket that closed without a reason from the hub. @param {number} code the close code @param {string} [message] @returns {HubError} */
export function connectionLost(code, message = `the socket was closed (${code})`) {
  return new HubError({ code, name: "connection_lost", message, retry: CLOSE_ADVICE[code] });
}

/** Read a response over HTTP. @param {Response} response @returns {Promise<string>} @throws {HubError} a refusal of the hub @throws {Error} a response that is not the hub's */
export async function textOf(response) {
  const text = await response.text();
  if (response.ok) return text;
  const { code, name, detail, retry, retry_after_ms, details } = problemIn(text);
  if (typeof code !== "number") throw new Error(`HTTP ${response.status}`);
  throw new HubError({ code, name, message: detail, retry, retry_after_ms, details });
}

/** @param {string} text @returns {any} */
function problemIn(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // an error page of a proxy
  }
}

/** Report an exception in the application's own code, which must not end the connection. @param {unknown} problem */
export function reportFault(problem) {
  if (globalThis.reportError) globalThis.reportError(problem);
  else console.error(problem); // Node
}
