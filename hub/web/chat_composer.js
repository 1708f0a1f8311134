/** The input field: Enter sends, Shift+Enter starts a new line; files by button, drop or paste; addressed to an agent or to everybody. @module chat_composer */

import { pictureOf } from "./picture.js";
import { button, showText, sizeText, textElement } from "./safe_text.js";

/** @typedef {{form: HTMLFormElement, text: HTMLTextAreaElement, send: HTMLButtonElement, steer: HTMLButtonElement, agent: HTMLSelectElement, files: HTMLElement, attach: HTMLElement,
 *    picker: HTMLInputElement, drop: HTMLElement}} Parts */
/** @typedef {{name: string, id: string|null, element: HTMLElement, stop: AbortController}} Attachment `id` is null until it is uploaded */
/** @typedef {{send(text: string, agent: string|null, parts: any[]): void, steer(run: string, text: string): void, typing(isTyping: boolean): void,
 *    upload(file: File, told: (sent: number, total: number) => void, signal: AbortSignal): Promise<string>}} Deeds */

const AGENT_KEY = "hub.console.agent";
const TYPING_EVERY_MS = 3_000;
const FILES_MAX = 8;

/** The form, shared by all conversations. */
export class Composer {
  #parts;
  /** @type {Deeds|null} */ #deeds = null;
  /** @type {Attachment[]} */ #attachments = [];
  #typedAt = 0;
  #isTyping = false;
  /** @type {string|null} */ #run = null;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    const { form, text, agent, attach, picker, drop, steer } = parts;
    steer.addEventListener("click", () => this.#steer());
    form.addEventListener("submit", (event) => [event.preventDefault(), this.#send()]);
    text.addEventListener("keydown", (event) => {
      if (event.key === "Escape") text.blur();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    text.addEventListener("input", () => this.#typed());
    text.addEventListener("paste", (event) => event.clipboardData?.files.length && [event.preventDefault(), this.#add(event.clipboardData.files)]);
    agent.addEventListener("change", () => [localStorage.setItem(AGENT_KEY, agent.value), this.#showPlaceholder()]);
    attach.addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => [this.#add(picker.files), (picker.value = "")]);
    const over = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") && [event.preventDefault(), drop.classList.add("over")];
    drop.addEventListener("dragover", over);
    drop.addEventListener("dragleave", (event) => drop.contains(/** @type {Node|null} */ (event.relatedTarget)) || drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => [event.preventDefault(), drop.classList.remove("over"), this.#add(event.dataTransfer?.files)]);
    this.#showPlaceholder();
  }

  /** Switch to another conversation. @param {Deeds} deeds */
  serve(deeds) {
    this.#deeds = deeds;
    for (const { stop } of this.#attachments) stop.abort();
    this.#attachments = [];
    this.#showFiles();
  }

  /** @param {{name: string, description: string, available: boolean}[]} agents */
  offer(agents) {
    const { agent } = this.#parts;
    const wanted = localStorage.getItem(AGENT_KEY) ?? agents.find(({ available }) => available)?.name ?? "";
    const options = agents.map(({ name, description, available }) => {
      const option = new Option(available ? name : `${name} (not running)`, name);
      option.title = description;
      return option;
    });
    agent.replaceChildren(new Option("Everybody", ""), ...options);
    agent.value = agents.some(({ name }) => name === wanted) ? wanted : "";
    this.#showPlaceholder();
  }

  /** Offer to send the text to a run in progress. @param {{run: string, agent: string}|null} run */
  steerable(run) {
    const { steer, text } = this.#parts;
    if ((run?.run ?? null) === this.#run) return;
    this.#run = run?.run ?? null;
    if (!run && document.activeElement === steer) text.focus();
    steer.hidden = run === null;
    steer.setAttribute("aria-label", run ? `steer ${run.agent}` : "steer");
    steer.title = run ? `Send this to ${run.agent} while it works` : "";
  }

  #steer() {
    const { text } = this.#parts;
    if (!text.value.trim() || this.#run === null) return text.focus();
    this.#deeds?.steer(this.#run, text.value);
    text.value = "";
    this.#stopTyping();
    text.focus();
  }

  #showPlaceholder() {
    const { agent, text } = this.#parts;
    text.placeholder = agent.value ? `Ask ${agent.value}` : "Write to everybody";
  }

  #send() {
    const { text, agent } = this.#parts;
    const parts = this.#attachments.map(({ id, name }) => ({ type: "file", file_id: id, caption: name })); // the caption names the file if `file.ready` is no longer known
    if ((!text.value.trim() && !parts.length) || this.#attachments.some(({ id }) => id === null)) return text.focus();
    this.#deeds?.send(text.value, agent.value || null, parts);
    text.value = "";
    this.#attachments = [];
    this.#showFiles();
    this.#stopTyping();
    text.focus();
  }

  #typed() {
    if (!this.#parts.text.value) return this.#stopTyping();
    const now = performance.now();
    if (this.#isTyping && now - this.#typedAt < TYPING_EVERY_MS) return;
    [this.#typedAt, this.#isTyping] = [now, true];
    this.#deeds?.typing(true);
  }

  #stopTyping() {
    if (this.#isTyping) this.#deeds?.typing(false);
    this.#isTyping = false;
  }

  /** @param {FileList|null|undefined} files */
  #add(files) {
    for (const file of [...(files ?? [])].slice(0, FILES_MAX - this.#attachments.length)) void this.#upload(file);
  }

  /** @param {File} file */
  async #upload(file) {
    const deeds = this.#deeds;
    if (!deeds) return;
    const stop = new AbortController();
    const element = document.createElement("li");
    const bar = document.createElement("progress");
    const note = textElement("span", "note", sizeText(file.size));
    bar.setAttribute("aria-label", `progress of ${file.name}`);
    [bar.max, bar.value] = [Math.max(1, file.size), 0];
    /** @type {Attachment} */ const attachment = { name: file.name, id: null, element, stop };
    element.append(textElement("span", "file-name", file.name), bar, note, button("quiet", "×", () => this.#drop(attachment), `remove ${file.name}`));
    this.#attachments.push(attachment);
    if (file.type.startsWith("image/")) pictureOf(file, file.name).then((picture) => picture && element.prepend(picture), () => {}); // without a preview it is a file like others
    this.#showFiles();
    try {
      attachment.id = await deeds.upload(file, (sent) => (bar.value = sent), stop.signal);
      bar.hidden = true;
      showText(note, `${sizeText(file.size)}, ready`);
    } catch (problem) {
      bar.hidden = true;
      element.classList.add("bad");
      showText(note, `Upload failed: ${/** @type {Error} */ (problem).message}`);
    }
    this.#showFiles();
  }

  /** @param {Attachment} attachment */
  #drop(attachment) {
    if (attachment.id === null) attachment.stop.abort();
    this.#attachments = this.#attachments.filter((other) => other !== attachment);
    this.#showFiles();
    this.#parts.text.focus();
  }

  #showFiles() {
    const { files, send } = this.#parts;
    files.replaceChildren(...this.#attachments.map(({ element }) => element));
    files.hidden = this.#attachments.length === 0;
    send.disabled = this.#attachments.some(({ id }) => id === null);
  }
}
