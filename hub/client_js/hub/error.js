/** The hub's refusals, with its advice. @module hub/error */

/** @typedef {"no"|"refresh"|"backoff"|"now"} Retry The hub's advice: never, with a new token, after a pause, at once. */

/** Close code → advice, for a lost error message. Any other code: "backoff". @type {Record<number, Retry>} */
const CLOSE_ADVICE = {
  ...{ 4001: "no", 4003: "no", 4005: "no", 4014: "no", 4019: "no", 4020: "no", 4023: "no", 4024: "no" },
  ...{ 4002: "refresh", 4012: "now", 4016: "now" },
};

/** A refusal. By the time a caller sees it, the client has followed the advice in `retry`. */
export class HubError extends Error {
  /** @param {Record<string, any>} told the payload of `connection.error` @param {string} [channel] the channel it concerns */
  constructor(told, channel) {
    super(told.message ?? "the hub gave no reason");
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

  /** True if the same thing may succeed by itself, later. */
  get isPassing() {
    return this.retry === "backoff" || this.retry === "now";
  }
}

/** Make the error of an environment, or of an address, with which no try can succeed. @param {unknown} problem what `new WebSocket` threw @returns {HubError} */
export function cannotConnect(problem) {
  const message = globalThis.WebSocket
    ? `no socket can be opened: ${problem}`
    : "there is no WebSocket in this environment (Node has one from version 22 on): set globalThis.WebSocket, for example to that of the package ws";
  return new HubError({ code: 1006, name: "cannot_connect", message, retry: "no" });
}

/** Make the error of a socket that ended without a reason from the hub. @param {number} code the close code @param {string} [message] @returns {HubError} */
export function connectionLost(code, message = `the socket was closed (${code})`) {
  return new HubError({ code, name: "connection_lost", message, retry: CLOSE_ADVICE[code] });
}
