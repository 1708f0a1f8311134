/**
 * Commands until they are answered: sent again on every new socket, under the same id and in order.
 *
 * Each is settled once. If the hub refuses one with "later", its channel's newer commands wait behind it.
 *
 * @module hub/outbox
 */

import { HubError, reportFault } from "./error.js";

/** @typedef {{type: string, re: string, channel?: string, payload: any}} Reply */
/** @typedef {{id: string, channel?: string, text: string, sentAt?: number|null, resolve(reply: Reply): void, reject(error: Error): void}} Wanted */
/** @typedef {Wanted & {attempts: number, isSent: boolean}} Command `text` is the same at every attempt: the hub compares. */
/** @typedef {import("./indexed_db_outbox.js").StoredCommand} StoredCommand */
/** @typedef {{put(command: StoredCommand): Promise<void>, delete(id: string): Promise<void>, adopt(): Promise<StoredCommand[]>}} OutboxStore */
/** @typedef {{timer?: any, probe?: Command}} Pause A channel's commands wait for the time, then for the answer to the oldest one. */

/** Refusals with "later" after which a command is rejected. The hub doubles its pauses, so this takes about a minute. */
const ATTEMPTS_MAX = 12;

/** The unanswered commands, oldest first. */
export class Outbox {
  #write;
  #limitBytes = Infinity;
  #isOpen = false;
  #store;
  #sockets = 0;
  /** Settles with the last write to the store; writes are in the order of sending. */
  #storing = Promise.resolve();
  /** @type {Map<string, Command>} */ #pending = new Map();
  /** @type {Map<string|undefined, Pause>} By channel. */ #pauses = new Map();

  /** @param {(text: string) => void} write sends one message over the current socket @param {OutboxStore} [store] keeps commands after the page is closed */
  constructor(write, store) {
    [this.#write, this.#store] = [write, store];
  }

  /** @param {string} id */
  get(id) {
    return this.#pending.get(id);
  }

  /** @param {Wanted} wanted */
  add(wanted) {
    const command = { sentAt: null, ...wanted, attempts: 0, isSent: false };
    this.#pending.set(command.id, command);
    this.#keep(command);
    if (this.#isOpen && !this.#pauses.has(command.channel)) this.#send(command);
  }

  /** Send all commands over a new socket. @param {number} limitBytes the hub's limit for a message */
  open(limitBytes) {
    [this.#isOpen, this.#limitBytes] = [true, limitBytes];
    this.#sockets += 1;
    for (const command of [...this.#pending.values()]) this.#send(command);
  }

  /** Record the loss of the socket: commands sent over it must be sent again. */
  close() {
    this.#isOpen = false;
    this.#sockets += 1;
    for (const pause of this.#pauses.values()) clearTimeout(pause.timer);
    this.#pauses.clear();
    for (const command of this.#pending.values()) command.isSent = false;
  }

  /** Settle a command by its answer. @param {Command} command @param {Reply} reply */
  settle(command, reply) {
    this.#forget(command);
    command.resolve(reply);
  }

  /** Handle an error. @param {Command} command @param {HubError} error @param {number} delayMs until it is sent again
   *  @returns {boolean} true if it will be */
  refuse(command, error, delayMs) {
    const isAgain = error.isPassing && ++command.attempts < ATTEMPTS_MAX;
    if (isAgain) this.#hold(command, delayMs);
    else this.#fail(command, error);
    return isAgain;
  }

  /** Reject all commands: no more answers will come. @param {Error} error */
  end(error) {
    this.close();
    this.#store = undefined; // its commands are left for the next client
    for (const command of [...this.#pending.values()]) this.#fail(command, error);
  }

  /** @param {Command} command @param {number} delayMs */
  #hold(command, delayMs) {
    command.isSent = false;
    const present = this.#pauses.get(command.channel);
    if (present && present.probe !== command) return;
    this.#pauses.set(command.channel, { timer: setTimeout(() => this.#probe(command.channel), delayMs) });
  }

  /** End a pause: the oldest is sent alone, the rest follows its answer. @param {string|undefined} channel */
  #probe(channel) {
    const oldest = [...this.#pending.values()].find((command) => command.channel === channel && !command.isSent);
    if (!oldest) return this.#pauses.delete(channel);
    this.#pauses.set(channel, { probe: oldest });
    this.#send(oldest);
  }

  /** Send the commands that wait in a channel. @param {string|undefined} channel */
  #dispatch(channel) {
    const waiting = [...this.#pending.values()].filter((command) => command.channel === channel && !command.isSent);
    for (const command of waiting) this.#send(command);
  }

  /** @param {Command} command */
  #send(command) {
    command.isSent = true;
    const bytes = new TextEncoder().encode(command.text).length;
    if (bytes <= this.#limitBytes) return this.#hand(command);
    const message = `this hub takes messages of up to ${this.#limitBytes} bytes, this one has ${bytes}; send less at once`;
    this.#fail(command, new HubError({ code: 4011, name: "message_too_large", message, retry: "no" }, command.channel));
  }

  /** Write to the socket, once the store knows that it may have been sent. @param {Command} command */
  #hand(command) {
    if (!this.#store) return this.#write(command.text);
    const socket = this.#sockets;
    command.sentAt ??= Date.now();
    this.#keep(command);
    this.#storing = this.#storing.then(() => {
      if (socket === this.#sockets && this.#pending.has(command.id)) this.#write(command.text);
    });
  }

  /** @param {Command} command */
  #keep({ id, channel, text, sentAt }) {
    this.#change((store) => store.put({ id, channel, text, sentAt }));
  }

  /** A store that fails must not cost a command. @param {(store: OutboxStore) => Promise<void>} change */
  #change(change) {
    const store = this.#store;
    if (store) this.#storing = this.#storing.then(() => change(store)).catch(reportFault);
  }

  /** @param {Command} command @param {Error} error */
  #fail(command, error) {
    this.#forget(command);
    command.reject(error);
  }

  /** @param {Command} command */
  #forget(command) {
    this.#pending.delete(command.id);
    this.#change((store) => store.delete(command.id));
    if (this.#pauses.get(command.channel)?.probe !== command) return;
    this.#pauses.delete(command.channel);
    this.#dispatch(command.channel);
  }
}
