/**
 * The hub's client for JavaScript: follows channels without a hole, stores commands once, reconnects after every loss.
 *
 * Plain ES modules for browsers and Node 20 or newer: no dependencies, no build. It keeps no channel state: it yields events,
 * gaps and receipts in order, and the application folds them.
 *
 *     const hub = new HubClient("https://hub.example", () => fetchToken());
 *     hub.connect();
 *     for await (const item of hub.subscribe("conversation:42", { after: "0" })) {
 *       if (item.kind === "event") show(item.event);
 *       if (item.kind === "gap") reload(item.state);
 *     }
 *
 * @module hub
 */

export { AnswerText } from "./hub/answer_text.js";
export { Answer, AnswerFailed, answers } from "./hub/answers.js";
export { HubClient } from "./hub/client.js";
export { HubError } from "./hub/error.js";
export { IndexedDbOutbox } from "./hub/indexed_db_outbox.js";
export { LocalCursors } from "./hub/local_cursors.js";
export { claimsOf } from "./hub/token_claims.js";
