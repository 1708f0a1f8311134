/** One conversation: connects the client, the store, the view and the composer. @module chat */

import { ChatStore } from "./chat_store.js";
import { ChatView } from "./chat_view.js";
import { pictureOf } from "./picture.js";

/** @typedef {import("../client_js/hub.js").HubClient} HubClient */
/** @typedef {import("./chat_store.js").Draft} Draft */
/** @typedef {import("./chat_messages.js").Message} Message */

const TICK_MS = 1_000; // typing ends by time, without an event
const READ_EVERY_MS = 1_000; // at most two read marks a second are taken

/** A channel that is shown as a conversation. */
export class Chat {
  #hub;
  #channel;
  #tell;
  #view;
  #store;
  #isScheduled = false;
  #isAsking = false;
  #steerable;
  #readId = "";
  #readAt = -READ_EVERY_MS;
  #mayMark = true;
  #timer;

  /** @param {HubClient} hub @param {string} channel @param {string} user @param {import("./chat_view.js").Parts} parts
   *  @param {(error: Error) => void} tell shows a refusal @param {() => string|null} agentNow returns the selected agent
   *  @param {(run: import("./chat_store.js").Run|null) => void} steerable told of the run that a text may steer */
  constructor(hub, channel, user, parts, tell, agentNow, steerable) {
    this.#hub = hub;
    this.#channel = channel;
    this.#tell = tell;
    this.#steerable = steerable;
    this.#store = new ChatStore(user);
    const react = (/** @type {Message} */ message, /** @type {string} */ reaction) => {
      const op = message.reactions.get(reaction)?.includes(user) ? "remove" : "add";
      this.#do("chat.react", { message_id: message.id, reaction, op });
    };
    this.#view = new ChatView(parts, {
      react,
      answer: (request, response) => hub.command("tool.call.response", channel, { request_id: request.request_id, ...response }),
      regenerate: (message) => this.#do("chat.regenerate", { message_id: message.id }),
      edit: (message, text, isAgain) => this.#edit(message, text, isAgain ? agentNow() : null, isAgain),
      remove: (message) => this.#do("chat.delete", { message_id: message.id }),
      choose: (message) => this.#do("chat.branch", { leaf_id: this.#store.messages.leafBelow(message.id) }),
      download: (fileId) => this.#download(fileId),
      picture: (fileId, name) => this.#picture(fileId, name),
      retry: (draft) => this.#post(draft),
      discard: (draft) => [this.#store.discard(draft.id), this.#schedule()],
    }, (run) => this.#do("chat.cancel", { run_id: run })); // prettier-ignore
    this.#timer = setInterval(() => this.#schedule(), TICK_MS);
    this.#schedule();
  }

  /** The number of messages that the hub has not answered yet. */
  get pending() {
    return [...this.#store.drafts.values()].filter(({ status }) => status === "pending").length;
  }

  /** @param {import("../client_js/hub.js").Item} item */
  take(item) {
    this.#store.take(item, Date.now());
    if (this.#store.isBehind) void this.#catchUp();
    this.#schedule();
  }

  /** @param {string} text @param {string|null} agent @param {any[]} parts */
  send(text, agent, parts) {
    this.#write({ text, agent, parts });
  }

  /** Send a text to a run in progress. @param {string} run @param {string} text */
  steer(run, text) {
    this.#do("agent.steer", { run_id: run, text });
  }

  /** @param {boolean} isTyping */
  typing(isTyping) {
    if (this.#hub.state !== "ready") return; // sent later, it would be outdated
    this.#hub.command("chat.typing", this.#channel, { state: isTyping ? "start" : "stop" }).catch(() => {}); // may be lost; a refusal is reported by the event `error`
  }

  /** @param {File} file @param {(sent: number, total: number) => void} told @param {AbortSignal} signal @returns {Promise<string>} */
  async upload(file, told, signal) {
    return (await this.#hub.upload(this.#channel, file, { onProgress: told, signal })).file_id;
  }

  /** Stop drawing. */
  close() {
    clearInterval(this.#timer);
  }

  /** @param {Message} message @param {string} text @param {string|null} agent @param {boolean} isAgain */
  #edit(message, text, agent, isAgain) {
    if (!isAgain) return this.#do("chat.edit", { message_id: message.id, text, mode: "replace", rerun: false });
    if (agent && message.parent) return this.#write({ text, agent, parts: message.parts, parent: message.parent });
    this.#do("chat.edit", { message_id: message.id, text, mode: "branch", rerun: false });
  }

  /** @param {{text: string, agent: string|null, parts: any[], parent?: string}} wanted */
  #write({ text, agent, parts, parent }) {
    const id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join(".");
    this.#post({ id, text, agent, parts, parent, at: Date.now(), status: "pending", problem: "" });
  }

  /** Send a message. Repeated under the same id, the hub stores it once. @param {Draft} draft */
  #post(draft) {
    const { id, text, agent, parts, parent } = draft;
    this.#store.wrote({ ...draft, status: "pending" });
    this.#schedule();
    const payload = { text, ...(agent && { agent }), ...(parts.length && { parts }), ...(parent && { parent_id: parent }) };
    this.#hub.command("chat.message", this.#channel, payload, id).then(
      () => this.#store.mark(id, "sent"),
      (error) => this.#store.mark(id, "failed", error.message),
    ).finally(() => this.#schedule()); // prettier-ignore
  }

  /** @param {string} type @param {object} payload */
  #do(type, payload) {
    this.#hub.command(type, this.#channel, payload).catch(this.#tell);
  }

  /** @param {string} fileId */
  async #download(fileId) {
    try {
      const { payload } = await this.#hub.command("file.url", this.#channel, { file_id: fileId });
      const link = document.createElement("a");
      [link.href, link.rel] = [payload.url, "noreferrer"];
      if (/^https?:$/.test(link.protocol)) link.click(); // served as an attachment, so the page stays
    } catch (problem) {
      this.#tell(/** @type {Error} */ (problem));
    }
  }

  /** @param {string} fileId @param {string} name */
  async #picture(fileId, name) {
    try {
      const { payload } = await this.#hub.command("file.url", this.#channel, { file_id: fileId });
      if (new URL(payload.url).origin !== location.origin) return null; // the page may load from the hub alone
      return await pictureOf(await (await fetch(payload.url)).blob(), name);
    } catch {
      return null; // the bubble says so
    }
  }

  /** Tell the others how far this user has read: to the newest event, while it is in view. */
  async #markRead() {
    const { lastId, isReplaying } = this.#store;
    const isSeen = this.#view.isNewestSeen && document.visibilityState === "visible" && this.#hub.state === "ready";
    if (!lastId || lastId === this.#readId || isReplaying || !isSeen || !this.#mayMark) return;
    if (performance.now() - this.#readAt < READ_EVERY_MS) return; // the next tick does it
    [this.#readId, this.#readAt] = [lastId, performance.now()];
    try {
      await this.#hub.command("channel.read", this.#channel, { up_to: lastId });
    } catch (refused) {
      if (/** @type {any} */ (refused).code === 4003) this.#mayMark = false; // a token that only reads leaves no marks
    }
  }

  /** Request the state, once, because a part of an answer is missing. */
  async #catchUp() {
    if (this.#isAsking || this.#hub.state !== "ready") return;
    this.#isAsking = true;
    try {
      const { payload } = await this.#hub.command("channel.state", this.#channel);
      this.#store.refresh(payload.state, Date.now());
    } catch (problem) {
      this.#tell(/** @type {Error} */ (problem));
    } finally {
      this.#isAsking = false;
      this.#schedule();
    }
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#view.draw(this.#store, Date.now());
      this.#steerable(this.#store.activeRuns().find(({ state }) => state === "running") ?? null);
      void this.#markRead();
    });
  }
}
