/**
 * The model of a conversation: built from state, events, signals and unsent messages; computes what to show.
 *
 * Pure: no sockets, no timers, no page. Times are passed in.
 *
 * @module chat_store
 */

import { AnswerText } from "../hub.js";
import { ChatMessages, timeOf } from "./chat_messages.js";

/** @typedef {import("../client_js/hub.js").HubEvent} HubEvent */
/** @typedef {import("../client_js/hub.js").Item} Item */
/** @typedef {import("./chat_messages.js").Message} Message */
/** @typedef {{id: string, text: string, agent: string|null, parent: string|undefined, parts: any[], at: number, status: "pending"|"sent"|"failed", problem: string}} Draft
 *    An own message whose event has not arrived yet; `id` is that of its command. */
/** @typedef {{id: string, run: string, message: string, name: string, title: string, args: any, state: "running"|"ok"|"denied"|"failed",
 *    progress: number|null, total: number|null, note: string, output: any}} Tool */
/** @typedef {any} Request the payload of a `tool.call.request`, with `resolution` and `by` once it is closed */
/** @typedef {{run: string, agent: string, state: string}} Run */
/** @typedef {{id: string, run: string, by: string, text: string, status: string}} Steer A text sent to a run in progress; `status` is that of its `message.status`. */
/** @typedef {{message: Message, text: string, reasoning: string, isOpen: boolean, tools: Tool[], requests: Request[], outputs: any[],
 *    steers: Steer[], readers: string[], place: number, others: Message[]}} Shown `readers` have read up to this message */

const OTHERS_MAX = 500; // maximum tool calls, requests, outputs and files, each
const TYPING_MS = 6_000;

/** The model of one channel. */
export class ChatStore {
  messages = new ChatMessages();
  /** @type {Map<string, AnswerText>} */ open = new Map();
  /** @type {Map<string, Draft>} */ drafts = new Map();
  /** @type {Map<string, Run>} */ runs = new Map();
  /** @type {Map<string, Tool>} */ tools = new Map();
  /** @type {Map<string, Request>} */ requests = new Map();
  /** @type {Map<string, any>} */ outputs = new Map();
  /** @type {Map<string, Steer>} */ steers = new Map();
  /** @type {Map<string, string>} User → ID of the newest event that the user has read. */ marks = new Map();
  /** The newest event's ID. @type {string|null} */ lastId = null;
  /** @type {Map<string, {name: string, size: number|null, mime: string}>} */ files = new Map();
  /** @type {Map<string, {status: string, devices: number}>} */ people = new Map();
  /** @type {Map<string, number>} User → time at which typing ends. */ typing = new Map();
  /** True if a part of an answer is missing: request `channel.state` once and call `refresh`. */ isBehind = false;
  /** The reason why some events cannot be replayed; null if all can. @type {string|null} */ gap = null;
  title = "";
  #seq = 0;
  #stateAt = 0;
  /** @type {string|null} */ #stateLeaf = null;

  /** @param {string} user the user of this page */
  constructor(user) {
    this.user = user;
  }

  /** Process an item of the subscription. @param {Item} item @param {number} nowMs */
  take(item, nowMs) {
    if (item.kind === "subscribed") this.#subscribed(item, nowMs);
    else if (item.kind === "event") this.#event(item.event);
    else if (item.kind === "signal") this.#signal(item.event, nowMs);
    else if (item.kind === "gap") this.gap = item.reason;
  }

  /** Process a state that was requested because something was missing. @param {any} state @param {number} nowMs */
  refresh(state, nowMs) {
    this.isBehind = false;
    this.#takeLive(state, nowMs);
  }

  /** True while the replay is at events that the state already contains. */
  get isReplaying() {
    return this.#seq < this.#stateAt;
  }

  // Own messages

  /** @param {Draft} draft */
  wrote(draft) {
    this.drafts.set(draft.id, draft);
  }

  /** @param {string} id @param {"pending"|"sent"|"failed"} status @param {string} [problem] */
  mark(id, status, problem = "") {
    const draft = this.drafts.get(id);
    if (draft) Object.assign(draft, { status, problem });
  }

  /** @param {string} id */
  discard(id) {
    this.drafts.delete(id);
  }

  // Output

  /** The messages of the active branch, with their tools, requests and outputs. @returns {Shown[]} */
  shown() {
    const branch = this.messages.branch(this.isReplaying ? this.#stateLeaf : this.messages.leaf);
    const last = new Map(branch.map((message) => [message.run, message.id]));
    const readers = this.#readers(branch);
    return branch.map((message) => {
      const isLast = message.run !== null && last.get(message.run) === message.id;
      const tools = [...this.tools.values()].filter((tool) => tool.message === message.id);
      const requests = [...this.requests.values()].filter((request) => request.run_id === message.run);
      const outputs = isLast ? [...this.outputs.values()].filter((output) => output.run_id === message.run) : [];
      const others = this.messages.siblings(message);
      return {
        message, tools, outputs, others, readers: readers.get(message.id) ?? [],
        steers: isLast ? [...this.steers.values()].filter(({ run }) => run === message.run) : [],
        ...this.#words(message),
        requests: requests.filter((request) => (this.tools.has(request.tool_call_id) ? tools.some(({ id }) => id === request.tool_call_id) : isLast)),
        place: others.indexOf(message),
      }; // prettier-ignore
    });
  }

  /** Runs that have not ended, oldest first. @returns {Run[]} */
  activeRuns() {
    return [...this.runs.values()];
  }

  /** Other users who are typing. @param {number} nowMs @returns {string[]} */
  typists(nowMs) {
    return [...this.typing].filter(([user, untilMs]) => user !== this.user && untilMs > nowMs).map(([user]) => user);
  }

  /** The newest message of the branch that each other user has read. @param {Message[]} branch @returns {Map<string, string[]>} */
  #readers(branch) {
    /** @type {Map<string, string[]>} */ const found = new Map();
    for (const [user, mark] of this.marks) {
      const upTo = timeOf(mark) ?? 0;
      const read = branch.filter(({ at }) => at !== null && at <= upTo).at(-1);
      if (read && user !== this.user && user !== read.actor.id) found.set(read.id, [...(found.get(read.id) ?? []), user]);
    }
    return found;
  }

  /** @param {Message} message */
  #words(message) {
    const isOpen = message.role === "assistant" && message.finish === null && !message.isDeleted;
    const held = isOpen ? this.open.get(message.id) : undefined;
    return { isOpen, text: held ? held.tracks.text.text : message.text, reasoning: held ? held.tracks.reasoning.text : message.reasoning };
  }

  // Input

  /** @param {import("../client_js/hub.js").Subscribed} told @param {number} nowMs */
  #subscribed(told, nowMs) {
    this.#seq = told.gap ? told.head.seq : told.head.seq - told.replay;
    if (told.head.seq) this.lastId = told.head.id;
    this.gap = null;
    const state = told.state;
    if (!state) return;
    if (told.state_scope !== "live") {
      this.messages.restore(state);
      [this.#stateAt, this.#stateLeaf, this.title] = [told.state_at, this.messages.leaf, state.title ?? ""];
      if (this.isReplaying) this.messages.leaf = null; // the replay starts in the middle; its last event sets the right branch
      if (told.gap) for (const held of [this.tools, this.requests, this.outputs, this.open]) held.clear();
    }
    this.#takeLive(state, nowMs);
  }

  /** @param {any} state @param {number} nowMs */
  #takeLive(state, nowMs) {
    for (const told of state.open_messages ?? []) this.#answer(told.message_id).take(told);
    for (const [user, mark] of Object.entries(state.read_markers ?? {})) put(this.marks, user, mark);
    if (state.typing) this.typing = new Map(state.typing.map((/** @type {string} */ user) => [user, nowMs + TYPING_MS]));
    if (state.presence) this.people = new Map(state.presence.map((/** @type {any} */ one) => [one.user, one]));
    if (state.active_runs) this.runs = new Map(state.active_runs.map((/** @type {any} */ one) => [one.run_id, { run: one.run_id, agent: one.agent, state: one.state }]));
    for (const request of state.pending_requests ?? []) if (!this.requests.has(request.request_id)) put(this.requests, request.request_id, request);
  }

  /** @param {HubEvent} event */
  #event(event) {
    const { type, payload, actor } = event;
    const isPast = event.seq <= this.#stateAt;
    this.#seq = event.seq;
    this.lastId = event.id;
    this.messages.fold(event, isPast);
    if (isPast && event.seq === this.#stateAt) this.messages.leaf = this.#stateLeaf;
    if (event.meta?.command) this.drafts.delete(event.meta.command);
    if (type === "chat.message") this.typing.delete(actor.id);
    else if (type === "conversation.updated" && payload.changes?.title !== undefined) this.title = payload.changes.title ?? "";
    else if (type === "assistant.message.start") this.#answer(payload.message_id).attempt ||= payload.attempt;
    else if (type === "assistant.message.reset") this.#note(this.#answer(payload.message_id).reset(payload));
    else if (type === "assistant.message.end") this.open.delete(payload.message_id);
    else if (type.startsWith("tool.call.")) this.#tool(type, payload);
    else if (type === "agent.status") this.runs.set(payload.run_id, { run: payload.run_id, agent: payload.agent, state: payload.state });
    else if (type === "agent.output") put(this.outputs, `${payload.run_id} ${payload.index}`, payload);
    else if (type === "agent.complete") this.runs.delete(payload.run_id);
    else if (type === "agent.steer") put(this.steers, event.id, { id: event.id, run: payload.run_id, by: actor.id, text: payload.text, status: "sent" });
    else if (type === "message.status") this.#steered(payload);
    else if (type === "file.ready") put(this.files, payload.file_id, { name: payload.filename, size: payload.size, mime: payload.detected_mime });
  }

  /** @param {string} type @param {any} told */
  #tool(type, told) {
    if (type === "tool.call.start") {
      const { tool_call_id: id, run_id: run, message_id: message, name, title = "", args } = told;
      if (!this.tools.has(id)) put(this.tools, id, { id, run, message, name, title, args, state: "running", progress: null, total: null, note: "", output: undefined });
      return;
    }
    if (type === "tool.call.request") return put(this.requests, told.request_id, { ...told, ...this.requests.get(told.request_id) });
    if (type === "tool.call.resolved") {
      const request = this.requests.get(told.request_id);
      if (request) this.requests.set(told.request_id, { ...request, resolution: told.resolution, by: told.by, edited: told.edited });
      return;
    }
    const tool = this.tools.get(told.tool_call_id);
    if (!tool) return;
    if (type === "tool.call.complete") Object.assign(tool, { state: told.outcome, output: told.output });
    if (type === "tool.call.error") Object.assign(tool, { state: "failed", note: told.message });
  }

  /** @param {any} signal @param {number} nowMs */
  #signal({ type, payload }, nowMs) {
    if (type === "assistant.message.delta") this.#delta(payload);
    else if (type === "tool.call.progress") this.#progress(payload);
    else if (type === "chat.typing" && payload.state === "start") put(this.typing, payload.user, nowMs + (payload.ttl_ms ?? TYPING_MS));
    else if (type === "chat.typing") this.typing.delete(payload.user);
    else if (type === "channel.read") put(this.marks, payload.user, payload.up_to);
    else if (type === "channel.presence") this.#present(payload);
  }

  /** @param {any} told */
  #steered({ message_id: id, status, reason }) {
    const steer = this.steers.get(id);
    if (steer) put(this.steers, id, { ...steer, status: reason ? `${status}: ${reason}` : status });
  }

  /** @param {any} delta */
  #delta(delta) {
    const message = this.messages.held.get(delta.message_id);
    if (message && message.finish !== null) return; // its final text is known
    this.#note(this.#answer(delta.message_id).append(delta));
  }

  /** @param {any} told */
  #progress(told) {
    const tool = this.tools.get(told.tool_call_id);
    if (!tool || told.progress < (tool.progress ?? 0)) return;
    Object.assign(tool, { progress: told.progress, total: told.total ?? null, note: told.message ?? tool.note });
  }

  /** @param {any} told */
  #present({ user, status, devices }) {
    if (status === "left" || !devices) [this.people.delete(user), this.typing.delete(user)];
    else put(this.people, user, { status: status === "joined" ? (this.people.get(user)?.status ?? "active") : status, devices });
  }

  /** @param {string} id @returns {AnswerText} */
  #answer(id) {
    const held = this.open.get(id) ?? new AnswerText();
    put(this.open, id, held);
    return held;
  }

  /** @param {boolean} isWhole */
  #note(isWhole) {
    if (!isWhole) this.isBehind = true;
  }
}

/** Set an entry, and drop the oldest if there are too many. @template V @param {Map<string, V>} map @param {string} name @param {V} value */
function put(map, name, value) {
  map.set(name, value);
  if (map.size > OTHERS_MAX) map.delete([...map.keys()][0]);
}
