/**
 * The messages of a conversation as a tree with one active branch, from a state and the events after it. Pure.
 *
 * As in docs/protocol.md#state, another answer or an edit as a branch is a sibling; nothing is removed.
 *
 * @module chat_messages
 */

/** @typedef {import("../client_js/hub.js").HubEvent} HubEvent */
/** @typedef {{id: string, role: "user"|"assistant", actor: {kind: string, id: string}, text: string, parts: any[], parent: string|null,
 *    run: string|null, revision: number, isDeleted: boolean, isErased: boolean, reactions: Map<string, string[]>, finish: string|null, at: number|null,
 *    command: string|null, reasoning: string, error: string|null, isFromState: boolean}} Message
 *    `finish` is null while an answer is written; `at` is milliseconds since 1970, null if not known. */

const HELD_MAX = 2_000; // beyond it the oldest messages that are not shown are dropped
const SHOWN_MAX = 400;

/** The milliseconds in an event's id. @param {string} id @returns {number|null} */
export function timeOf(id) {
  const found = /^(\d{1,15})-\d{1,10}$/.exec(id);
  return found ? Number(found[1]) : null;
}

/** The messages, oldest first: a parent before its children. */
export class ChatMessages {
  /** @type {Map<string, Message>} */ held = new Map();
  /** @type {string|null} */ leaf = null;
  revision = 0;
  /** @type {Map<string, string|null>} Command that asked for another answer → parent of that answer. */ #again = new Map();

  /** Replace all messages by those of a state. @param {any} state */
  restore(state) {
    this.held = new Map();
    this.#again.clear();
    for (const told of state.messages ?? []) this.held.set(told.message_id, restored(told));
    this.leaf = state.active_leaf ?? [...this.held.keys()].at(-1) ?? null;
    this.revision = state.revision ?? 0;
  }

  /** Apply one event. @param {HubEvent} event @param {boolean} isPast true if the state already contains its effect */
  fold(event, isPast) {
    const { payload } = event;
    const handlers = /** @type {Record<string, () => void>} */ ({
      "chat.message": () => this.#said(event),
      "chat.edit": () => this.#edited(event, isPast),
      "chat.delete": () => this.#change(payload.message_id, isPast, (message) => this.#erase(message, payload.scope)),
      "chat.react": () => this.#change(payload.message_id, isPast, (message) => react(message, event)),
      "chat.regenerate": () => this.#askAgain(event.id, this.held.get(payload.message_id)?.parent),
      "chat.branch": () => this.#activate(payload.leaf_id, this.revision + 1, isPast),
      "chat.configure": () => (this.revision += isPast ? 0 : 1),
      "channel.configure": () => (this.revision += isPast ? 0 : 1),
      "conversation.updated": () => this.#updated(payload, isPast),
      "assistant.message.start": () => this.#began(event),
      "assistant.message.end": () => this.#ended(event, isPast),
    }); // prettier-ignore
    handlers[event.type]?.();
  }

  /** The active branch, oldest first. @param {string|null} [leaf] @returns {Message[]} */
  branch(leaf = this.leaf) {
    const path = [];
    for (let next = this.held.get(leaf ?? ""); next && path.length < SHOWN_MAX; next = this.held.get(next.parent ?? "")) path.push(next);
    return path.reverse();
  }

  /** A message and its alternatives, oldest first. @param {Message} message @returns {Message[]} */
  siblings(message) {
    return [...this.held.values()].filter((other) => other.parent === message.parent && other.role === message.role && this.#isAlternative(other, message));
  }

  /** The last message of the branch through a message. @param {string} id @returns {string} */
  leafBelow(id) {
    if (this.branch().some((message) => message.id === id)) return this.leaf ?? id;
    let last = id;
    const inside = new Set([id]);
    for (const message of this.held.values()) if (inside.has(message.parent ?? "")) inside.add((last = message.id));
    return last;
  }

  /** True if these are alternatives: answers of two runs. Answers of one run follow each other. @param {Message} one @param {Message} other */
  #isAlternative(one, other) {
    return one === other || one.run === null || one.run !== other.run;
  }

  /** @param {Message} message @param {boolean} [isActive] */
  #add(message, isActive = true) {
    if (!this.held.has(message.id)) this.held.set(message.id, message);
    if (isActive) this.leaf = message.id;
    if (this.held.size <= HELD_MAX) return;
    const kept = new Set([...this.branch().map(({ id }) => id), ...[...this.held.keys()].slice(-HELD_MAX / 2)]);
    this.held = new Map([...this.held].filter(([id]) => kept.has(id)));
  }

  /** @param {HubEvent} event */
  #said(event) {
    const { text = "", parts = [], parent_id } = event.payload;
    const parent = parent_id === undefined ? this.leaf : this.held.has(parent_id) ? parent_id : null;
    this.#add({ ...blank(event.id, "user", event.actor), text, parts, parent, at: timeOf(event.id), command: event.meta?.command ?? null, isErased: event.erased === true });
  }

  /** @param {HubEvent} event @param {boolean} isPast */
  #edited(event, isPast) {
    const { message_id, text, mode = "branch", rerun = true } = event.payload;
    const message = this.held.get(message_id);
    if (!message || (message.isDeleted && !isPast)) return;
    const parts = event.payload.parts ?? message.parts;
    if (mode === "replace") {
      if (rerun && message.role === "user") this.#askAgain(event.id, message_id);
      this.#change(message_id, isPast, () => Object.assign(message, { text, parts, revision: message.revision + 1 }));
      return;
    }
    const finish = message.role === "assistant" ? (message.finish ?? "stop") : null;
    this.#add({ ...blank(event.id, message.role, event.actor), text, parts, finish, parent: message.parent, at: timeOf(event.id) });
  }

  /** @param {HubEvent} event */
  #began(event) {
    const { message_id, run_id, parent_id } = event.payload;
    const held = this.held.get(message_id);
    if (held) {
      held.at ??= timeOf(event.id);
      if (held.isFromState) this.leaf = message_id;
      return;
    }
    const command = this.#commandOf(event, parent_id);
    let [parent, isActive] = [this.leaf, true];
    if (command !== undefined) {
      parent = this.#again.get(command) ?? null;
      this.#again.delete(command);
    } else if (parent_id !== undefined && this.held.has(parent_id)) {
      parent = this.leafBelow(parent_id);
      isActive = parent === this.leaf;
    }
    this.#add({ ...blank(message_id, "assistant", event.actor), parent, run: run_id, at: timeOf(event.id) }, isActive);
  }

  /** The command that asked for this answer, if it is not the first. @param {HubEvent} event @param {string|undefined} parent @returns {string|undefined} */
  #commandOf(event, parent) {
    const named = [event.meta?.correlation, event.meta?.causation, parent].find((id) => id !== undefined && this.#again.has(id));
    return named ?? [...this.#again].find(([, below]) => below === (parent ?? null))?.[0];
  }

  /** @param {HubEvent} event @param {boolean} isPast */
  #ended(event, isPast) {
    const { message_id, run_id, text = "", finish_reason, parts, text_ref, reasoning, error } = event.payload;
    if (!this.held.has(message_id)) this.#add({ ...blank(message_id, "assistant", event.actor), parent: this.leaf, run: run_id });
    const message = /** @type {Message} */ (this.held.get(message_id));
    message.at ??= timeOf(event.id);
    Object.assign(message, { reasoning: reasoning ?? message.reasoning, error: error?.message ?? null });
    const file = text_ref ? [{ type: "file", file_id: text_ref, name: "answer.txt" }] : [];
    const all = [...(parts ?? []), ...file];
    this.#change(message_id, isPast, () => {
      message.finish = finish_reason;
      if (!message.isDeleted) Object.assign(message, { text, parts: all.length ? all : message.parts });
    });
  }

  /** @param {string} command @param {string|null|undefined} parent undefined: the message is not known */
  #askAgain(command, parent) {
    if (parent !== undefined) this.#again.set(command, parent);
    if (this.#again.size > 100) this.#again.delete([...this.#again.keys()][0]);
  }

  /** @param {string} leaf @param {number} revision @param {boolean} isPast */
  #activate(leaf, revision, isPast) {
    if (!isPast) this.revision = revision;
    if (this.held.has(leaf)) this.leaf = leaf;
  }

  /** @param {any} payload @param {boolean} isPast */
  #updated({ revision, changes }, isPast) {
    if (!isPast && revision > this.revision) this.#activate(changes?.active_leaf ?? "", revision, isPast);
  }

  /** @param {Message} message @param {string|undefined} scope */
  #erase(message, scope) {
    const erased = new Set([message.id]);
    for (const other of this.held.values()) {
      if (scope === "subtree" && erased.has(other.parent ?? "")) erased.add(other.id);
      if (erased.has(other.id)) Object.assign(other, { isDeleted: true, text: "", parts: [], reactions: new Map(), reasoning: "" });
    }
  }

  /** Change a message, unless the state it came with already contains the change. @param {string} id @param {boolean} isPast @param {(message: Message) => void} change */
  #change(id, isPast, change) {
    const message = this.held.get(id);
    if (message && !(isPast && message.isFromState)) change(message);
  }
}

/** @param {string} id @param {"user"|"assistant"} role @param {{kind: string, id: string}} actor @returns {Message} */
function blank(id, role, actor) {
  return {
    id, role, actor, text: "", parts: [], parent: null, run: null, revision: 0, isDeleted: false, isErased: false, reactions: new Map(),
    finish: null, at: null, command: null, reasoning: "", error: null, isFromState: false,
  }; // prettier-ignore
}

/** @param {any} told a message in a state @returns {Message} */
function restored(told) {
  return {
    ...blank(told.message_id, told.role, told.actor), text: told.text, parts: told.parts ?? [], parent: told.parent_id ?? null,
    run: told.run_id ?? null, revision: told.revision, isDeleted: told.deleted, isErased: told.erased === true, finish: told.finish_reason ?? null,
    reactions: new Map(Object.entries(told.reactions ?? {})), at: timeOf(told.message_id), isFromState: true,
  }; // prettier-ignore
}

/** @param {Message} message @param {HubEvent} event */
function react(message, { payload: { reaction, op }, actor }) {
  const users = (message.reactions.get(reaction) ?? []).filter((user) => user !== actor.id);
  if (op === "add") users.push(actor.id);
  if (users.length) message.reactions.set(reaction, users);
  else message.reactions.delete(reaction);
}
