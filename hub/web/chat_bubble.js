/** One message on the page: author, time, text, tools and questions, and its buttons. @module chat_bubble */

import { button, showText, sizeText, textElement } from "./safe_text.js";
import { ToolCard } from "./tool_card.js";

/** @typedef {import("./chat_store.js").Shown} Shown */
/** @typedef {import("./chat_store.js").Draft} Draft */
/** @typedef {import("./chat_messages.js").Message} Message */
/** @typedef {{answer(request: any, response: object): Promise<unknown>, regenerate(message: Message): void, edit(message: Message, text: string, isAgain: boolean): void,
 *    remove(message: Message): void, react(message: Message, reaction: string): void, choose(message: Message): void, download(fileId: string): void,
 *    picture(fileId: string, name: string): Promise<HTMLElement|null>,
 *    retry(draft: Draft): void, discard(draft: Draft): void}} Deeds The actions of the message's buttons. */

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const IMAGE_BYTES_MAX = 10 * 1024 ** 2; // larger ones are only downloaded
const NAMES_MAX = 5;
const REACTIONS = ["👍", "❤️", "😄", "🎉", "👀"];

/** The element of a message, built once and then updated. */
export class Bubble {
  element = document.createElement("li");
  #body = document.createElement("div");
  #name = textElement("span", "name", "");
  #time = document.createElement("time");
  #reasoning = document.createElement("details");
  #text = textElement("p", "text", "");
  #extras = document.createElement("div");
  #cards = document.createElement("div");
  #reactions = document.createElement("div");
  #readers = textElement("p", "note readers", "");
  #actions = document.createElement("div");
  /** @type {HTMLFormElement|null} */ #editor = null;
  /** @type {Map<string, ToolCard>} */ #tools = new Map();
  #extrasShown = "";
  #actionsShown = "";
  #deeds;
  #user;
  /** @type {Shown|null} */ #shown = null;

  /** @param {Deeds} deeds @param {string} user the user of this page */
  constructor(deeds, user) {
    this.#deeds = deeds;
    this.#user = user;
    this.element.className = "message";
    this.#body.className = "bubble";
    this.#reactions.className = "reactions";
    this.#actions.className = "actions";
    this.#extras.className = "extras";
    this.#reasoning.className = "reasoning";
    this.#reasoning.append(textElement("summary", "", "Reasoning"), textElement("p", "text", ""));
    const head = document.createElement("div");
    head.className = "head";
    head.append(this.#name, this.#time, this.#actions);
    this.#body.append(this.#reasoning, this.#text, this.#extras);
    this.element.append(head, this.#body, this.#cards, this.#reactions, this.#readers);
  }

  /** @param {Shown} shown @param {Map<string, {name: string, size: number|null, mime: string}>} files */
  show(shown, files) {
    const { message } = (this.#shown = shown);
    this.element.dataset.id = message.id;
    this.element.dataset.kind = message.role === "assistant" ? "agent" : message.actor.id === this.#user ? "mine" : "person";
    showText(this.#name, message.actor.id);
    showTime(this.#time, message.at);
    this.#showText(shown);
    this.#showExtras(shown, files);
    this.#showCards(shown);
    this.#showReactions(message);
    showText(this.#readers, shown.readers.length ? `Read by ${namesText(shown.readers)}` : "");
    this.#showActions(shown);
  }

  /** @param {Shown} shown */
  #showText({ message, text, reasoning, isOpen }) {
    this.#body.dataset.open = String(isOpen);
    this.#body.classList.toggle("deleted", message.isDeleted || message.isErased);
    showText(this.#text, message.isDeleted ? "This message was deleted." : message.isErased ? "This message was erased with its author." : text);
    this.#text.hidden = !this.#text.textContent && !isOpen;
    this.#text.setAttribute("aria-busy", String(isOpen));
    this.#reasoning.hidden = !reasoning;
    if (reasoning) showText(/** @type {HTMLElement} */ (this.#reasoning.lastElementChild), reasoning);
    const isBare = this.#text.hidden && !message.parts.some((part) => part.type !== "tool_call") && !message.error && !reasoning;
    this.#body.hidden = isBare || this.#editor !== null;
  }

  /** Files, outputs, errors and marks. @param {Shown} shown @param {Map<string, any>} files */
  #showExtras({ message, outputs, steers }, files) {
    const parts = message.parts.filter((part) => part.type !== "tool_call" && part.type !== "mention");
    const key = JSON.stringify([parts, outputs, steers, message.error, message.revision, message.finish, parts.map((part) => files.get(part.file_id))]);
    if (key === this.#extrasShown) return;
    this.#extrasShown = key;
    const made = parts.map((part) => (part.type === "file" ? this.#file(part, files.get(part.file_id)) : valueCard(part.title ?? part.name ?? part.mime ?? part.type, part.value ?? part.text ?? part.url ?? part.quote)));
    for (const output of outputs) made.push(output.ref ? this.#file({ file_id: output.ref, name: output.name }, files.get(output.ref)) : valueCard(output.name ?? output.kind, output.value?.text ?? output.value));
    for (const { by, text, status } of steers) made.push(textElement("p", "note steer", `${by} steered: ${text} (${status})`));
    if (message.error) made.push(textElement("p", "note bad", message.error));
    if (message.finish === "cancelled") made.push(textElement("p", "note", "stopped"));
    if (message.finish === "length") made.push(textElement("p", "note", "cut off: the answer was too long"));
    if (message.revision && !message.isDeleted) made.push(textElement("p", "note", "edited"));
    this.#extras.replaceChildren(...made);
  }

  /** @param {any} part @param {{name: string, size: number|null}|undefined} known @returns {HTMLElement} */
  #file(part, known) {
    const name = known?.name ?? part.name ?? part.caption ?? "file";
    const made = button("file", "", () => this.#deeds.download(part.file_id));
    made.append(textElement("span", "file-name", name), textElement("span", "note", known?.size == null ? "" : sizeText(known.size)));
    made.title = "Download";
    if (!IMAGES.has(known?.mime ?? "") || (known?.size ?? Infinity) > IMAGE_BYTES_MAX) return made;
    const both = document.createElement("div");
    const show = button("quiet", "Show", async () => {
      show.disabled = true;
      const picture = await this.#deeds.picture(part.file_id, name);
      show.replaceWith(picture ?? textElement("span", "note", "It cannot be shown here. Download it."));
    }, `show ${name}`); // prettier-ignore
    both.append(made, show);
    return both;
  }

  /** @param {Shown} shown */
  #showCards({ tools, requests }) {
    const wanted = tools.map((tool) => ({ id: tool.id, tool, request: requests.find(({ tool_call_id }) => tool_call_id === tool.id) ?? null }));
    const alone = requests.filter((request) => !tools.some(({ id }) => id === request.tool_call_id));
    const all = [...wanted, ...alone.map((request) => ({ id: request.request_id, tool: null, request }))];
    for (const { id, tool, request } of all) {
      const card = this.#tools.get(id) ?? new ToolCard((asked, response) => this.#deeds.answer(asked, response));
      if (!this.#tools.has(id)) this.#cards.append(card.element);
      this.#tools.set(id, card);
      card.show(tool, request);
    }
    for (const [id, card] of this.#tools) if (!all.some((one) => one.id === id)) [card.element.remove(), this.#tools.delete(id)];
  }

  /** @param {Message} message */
  #showReactions(message) {
    const key = JSON.stringify([...message.reactions]);
    if (key === this.#reactions.dataset.key) return;
    this.#reactions.dataset.key = key;
    this.#reactions.replaceChildren(...[...message.reactions].map(([reaction, users]) => {
      const chip = button("chip", "", () => this.#deeds.react(message, reaction), `${reaction}, ${users.length}`);
      chip.append(textElement("bdi", "", reaction), ` ${users.length}`);
      chip.title = users.join(", ");
      chip.setAttribute("aria-pressed", String(users.includes(this.#user)));
      return chip;
    })); // prettier-ignore
  }

  /** @param {Shown} shown */
  #showActions({ message, others, place, isOpen }) {
    const isMine = message.actor.id === this.#user && message.role === "user";
    const key = `${isMine} ${isOpen} ${message.isDeleted} ${place}/${others.map(({ id }) => id).join()}`;
    if (key === this.#actionsShown) return;
    this.#actionsShown = key;
    /** @type {HTMLElement[]} */ const made = [];
    if (!isOpen && !message.isDeleted) {
      made.push(this.#picker());
      if (message.role === "assistant") made.push(button("quiet", "Regenerate", () => this.#deeds.regenerate(this.#now)));
      if (isMine) made.push(button("quiet", "Edit", () => this.#edit()), this.#remover());
    }
    if (others.length > 1) made.push(this.#branches(others, place));
    this.#actions.replaceChildren(...made);
  }

  /** @returns {Message} */
  get #now() {
    return /** @type {Shown} */ (this.#shown).message;
  }

  /** @param {Message[]} others @param {number} place */
  #branches(others, place) {
    const made = document.createElement("span");
    made.className = "branches";
    const earlier = button("quiet", "‹", () => this.#deeds.choose(others[place - 1]), "earlier version");
    const later = button("quiet", "›", () => this.#deeds.choose(others[place + 1]), "later version");
    [earlier.disabled, later.disabled] = [place === 0, place === others.length - 1];
    made.append(earlier, `${place + 1}/${others.length}`, later);
    return made;
  }

  #picker() {
    const made = document.createElement("span");
    made.className = "picker";
    const opener = button("quiet", "React", () => open(choices.hidden));
    const choices = document.createElement("span");
    const open = (/** @type {boolean} */ isOpen) => [(choices.hidden = !isOpen), opener.setAttribute("aria-expanded", String(isOpen))];
    open(false);
    choices.append(...REACTIONS.map((reaction) => button("quiet", reaction, () => [open(false), this.#deeds.react(this.#now, reaction)], `react with ${reaction}`)));
    made.addEventListener("keydown", (event) => event.key === "Escape" && !choices.hidden && [open(false), opener.focus()]);
    made.append(opener, choices);
    return made;
  }

  #remover() {
    const made = document.createElement("span");
    const ask = button("quiet", "Delete", () => [made.replaceChildren(yes, no), no.focus()]);
    const yes = button("quiet bad", "Delete for everybody", () => this.#deeds.remove(this.#now));
    const no = button("quiet", "Keep", () => [made.replaceChildren(ask), ask.focus()]);
    made.addEventListener("keydown", (event) => event.key === "Escape" && [made.replaceChildren(ask), ask.focus()]);
    made.append(ask);
    return made;
  }

  #edit() {
    if (this.#editor) return;
    const form = (this.#editor = document.createElement("form"));
    form.className = "editor";
    const area = document.createElement("textarea");
    area.dir = "auto";
    area.value = this.#now.text;
    area.setAttribute("aria-label", "Edit your message");
    const close = () => [form.remove(), (this.#editor = null), (this.#body.hidden = false)];
    const save = (/** @type {boolean} */ isAgain) => {
      if (area.value.trim()) this.#deeds.edit(this.#now, area.value, isAgain);
      close();
    };
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    buttons.append(button("primary", "Save", () => save(false)), button("", "Ask again as a new branch", () => save(true)), button("quiet", "Cancel", close));
    form.addEventListener("submit", (event) => event.preventDefault());
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      save(false);
    });
    form.append(area, buttons);
    this.#body.hidden = true;
    this.#body.before(form);
    area.focus();
  }
}

/** @param {string[]} names */
const namesText = (names) => names.slice(0, NAMES_MAX).join(", ") + (names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} others` : "");

/** An own message that is not stored yet. @param {Draft} draft @param {Deeds} deeds @param {string} user @returns {HTMLElement} */
export function draftElement(draft, deeds, user) {
  const made = document.createElement("li");
  made.className = "message draft";
  made.dataset.kind = "mine";
  made.dataset.status = draft.status;
  const head = textElement("p", "head", "");
  head.append(textElement("span", "name", user), textElement("span", "status", draft.status === "failed" ? "failed" : draft.status === "sent" ? "sent" : "pending"));
  const body = document.createElement("div");
  body.className = "bubble";
  body.append(textElement("p", "text", draft.text || draft.parts.map((part) => part.caption).join(", ")));
  made.append(head, body);
  if (draft.status === "failed") {
    const actions = document.createElement("div");
    actions.className = "actions shown";
    actions.append(button("quiet", "Try again", () => deeds.retry(draft)), button("quiet", "Discard", () => deeds.discard(draft)));
    made.append(textElement("p", "note bad", draft.problem), actions);
  }
  return made;
}

/** @param {HTMLTimeElement} element @param {number|null} at */
function showTime(element, at) {
  element.hidden = at === null;
  if (at === null) return;
  const when = new Date(at);
  const isToday = when.toDateString() === new Date().toDateString();
  element.dateTime = when.toISOString();
  element.title = when.toLocaleString("en-GB");
  const clock = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  element.textContent = isToday ? clock : `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock}`;
}

/** @param {string} title @param {unknown} value */
function valueCard(title, value) {
  const made = document.createElement("details");
  made.className = "output";
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  made.append(textElement("summary", "", title), textElement("pre", "mono", text ?? ""));
  return made;
}
