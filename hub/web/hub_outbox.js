/**
 * Commands until they are answered: sent again on every new socket, under the same id, in the order given.
 *
 * Each settles once. When the hub says "later" to one, its channel's commands wait together, so that none overtakes it.
 *
 * @module hub_outbox
 */

import { HubError } from "./hub_error.js";

/** @typedef {{type: string, re: string, channel?: string, payload: any}} Reply */
/** @typedef {{id: string, channel?: string, text: string, attempts: number, resolve(reply: Reply): void,
 *    reject(error: Error): void}} Command `text` is the same at every attempt: the hub compares. */

/** Answers of "later" to one command before its caller is told: with the hub's doubling pauses about a minute. */
const ATTEMPTS_MAX = 12;

/** The unanswered commands, oldest first. */
export class Outbox {
  #write;
  #limitBytes = Infinity;
  #isOpen = false;
  /** @type {Map<string, Command>} */ #pending = new Map();
  /** @type {Map<string|undefined, any>} Channel → timer of the pause it is in. */ #pauses = new Map();

  /** @param {(text: string) => void} write sends one message over the present socket */
  constructor(write) {
    this.#write = write;
  }

  /** @param {string} id */
  get(id) {
    return this.#pending.get(id);
  }

  /** @param {Command} command */
  add(command) {
    this.#pending.set(command.id, command);
    if (this.#isOpen && !this.#pauses.has(command.channel)) this.#dispatch(command);
  }

  /** A socket is ready: send everything. @param {number} limitBytes the hub's limit for a message */
  open(limitBytes) {
    [this.#isOpen, this.#limitBytes] = [true, limitBytes];
    for (const command of [...this.#pending.values()]) this.#dispatch(command);
  }

  /** The socket is gone. */
  pause() {
    this.#isOpen = false;
    for (const timer of this.#pauses.values()) clearTimeout(timer);
    this.#pauses.clear();
  }

  /** The answer came. @param {Command} command @param {Reply} reply */
  settle(command, reply) {
    this.#pending.delete(command.id);
    command.resolve(reply);
  }

  /** An error came. @param {Command} command @param {HubError} error @param {number} delayMs @returns {boolean} it is tried again */
  refuse(command, error, delayMs) {
    const isAgain = error.isPassing && ++command.attempts < ATTEMPTS_MAX;
    if (isAgain) this.#hold(command.channel, delayMs);
    else this.#fail(command, error);
    return isAgain;
  }

  /** No answer will come any more. @param {Error} error */
  end(error) {
    this.pause();
    for (const command of [...this.#pending.values()]) this.#fail(command, error);
  }

  /** @param {string|undefined} channel @param {number} delayMs */
  #hold(channel, delayMs) {
    if (this.#pauses.has(channel)) return;
    const release = () => {
      this.#pauses.delete(channel);
      for (const command of [...this.#pending.values()]) if (command.channel === channel) this.#dispatch(command);
    };
    this.#pauses.set(channel, setTimeout(release, delayMs));
  }

  /** @param {Command} command */
  #dispatch(command) {
    const bytes = new TextEncoder().encode(command.text).length;
    if (bytes <= this.#limitBytes) return this.#write(command.text);
    const message = `this hub takes messages of up to ${this.#limitBytes} bytes, this one has ${bytes}; send less at once`;
    this.#fail(command, new HubError({ code: 4011, name: "message_too_large", message, retry: "no" }, command.channel));
  }

  /** @param {Command} command @param {Error} error */
  #fail(command, error) {
    this.#pending.delete(command.id);
    command.reject(error);
  }
}
