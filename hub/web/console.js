/**
 * The console: a conversation with users and agents, a button that cuts the socket to show the replay, and a view of the events.
 *
 * This file only connects the parts. Texts from the network are shown through `textContent` only.
 *
 * @module console
 */

import { BackgroundWriter } from "./background_writer.js";
import { Chat } from "./chat.js";
import { Composer } from "./chat_composer.js";
import { showRows } from "./connection_facts.js";
import { Countdown } from "./countdown.js";
import { ErrorList, adviceFor } from "./error_list.js";
import { EventLog } from "./event_log.js";
import { HubClient, HubError, LocalCursors, claimsOf } from "../hub.js";
import { ReceiptCard } from "./receipt_card.js";
import { sentence, showText } from "./safe_text.js";

const TOKEN_KEY = "hub.console.token";
const CHANNELS_KEY = "hub.console.channels";
const CHANNELS_MAX = 10;
const REWIND = 500;
const TOKEN_CODES = [4001, 4002, 4003, 4019]; // refusals that another token helps against
const BACK_AFTER_MS = 8_000; // in the conversation view the page reconnects by itself after this time, unless the user writes meanwhile

/** @type {Record<string, string>} */
const STATE_WORDS = {
  offline: "not connected", connecting: "connecting", ready: "connected", waiting: "reconnecting", closed: "closed",
  unplugged: "unplugged",
}; // prettier-ignore

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const url = new URL("ws", location.href.split("#")[0]).href.replace(/^http/, "ws");

const errors = new ErrorList(at("errors"), at("errors-empty"), at("errors-clear"));
const log = new EventLog(
  { body: at("events"), region: at("events-region"), count: at("events-count"), empty: at("events-empty") },
  () => at("stick").checked,
);
const card = new ReceiptCard(at("receipt"), {
  verdict: at("verdict"), from: at("receipt-from"), to: at("receipt-to"), count: at("receipt-count"), gap: at("receipt-gap"),
}); // prettier-ignore

/** @type {HubClient|null} */ let hub = null;
/** @type {import("../client_js/hub.js").Subscription|null} */ let subscription = null;
/** @type {BackgroundWriter|null} */ let writer = null;
/** @type {Chat|null} */ let chat = null;
const composer = new Composer({
  form: at("composer"), text: at("say"), send: at("say-send"), steer: at("steer"), agent: at("agent"), files: at("attachments"), attach: at("attach"),
  picker: at("picker"), drop: at("chat"),
}); // prettier-ignore
const countdown = new Countdown((leftMs) => showStatus(leftMs));
/** @type {any} The newest `channel.subscribed`. */ let answer = null;
let token = "";
let isUnplugged = false;
let unanswered = 0;
let reconnects = 0;
/** @type {{error: Error, willRetry: boolean}|null} */ let lastError = null;

// The token

function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  if (fragment.has("channel")) at("channel").value = fragment.get("channel");
  at("work").dataset.view = fragment.get("view") === "events" ? "events" : "chat";
  const handed = fragment.get("token");
  if (handed) showAddress(); // removes the token from the address, so that it is neither bookmarked nor shared
  return handed ?? sessionStorage.getItem(TOKEN_KEY) ?? "";
}

/** @param {string} given */
function signIn(given) {
  const claims = claimsOf(given);
  if (!claims) return noteToken("This is not a token. A token has three parts separated by dots.", "bad");
  if (claims.expiresAt && claims.expiresAt.getTime() < Date.now()) {
    return noteToken(`This token expired on ${claims.expiresAt.toLocaleString("en-GB")}. Get a new one.`, "bad");
  }
  token = given;
  sessionStorage.setItem(TOKEN_KEY, token);
  hub = new HubClient(url, token, { name: "console", capabilities: ["reasoning"], cursors: new LocalCursors(`hub:${claims.tenant}:${claims.user}:`) });
  hub.addEventListener("state", (event) => onState(/** @type {CustomEvent} */ (event).detail));
  hub.addEventListener("error", (event) => onError(/** @type {CustomEvent} */ (event).detail));
  hub.connect().then(() => startWork(claims), () => {}); // a refusal is reported by the event `error`
}

/** @param {{user: string, tenant: string}} claims */
function startWork(claims) {
  at("who").textContent = `${claims.user} of ${claims.tenant}`;
  at("sign-in").hidden = true;
  at("work").hidden = at("identity").hidden = at("views").hidden = false;
  at("token").value = "";
  showView();
  follow();
}

function signOut() {
  stopWriter();
  countdown.stop();
  chat?.close();
  hub?.close();
  [hub, chat, subscription, answer, isUnplugged, reconnects] = [null, null, null, null, false, 0];
  sessionStorage.removeItem(TOKEN_KEY);
  at("work").hidden = at("identity").hidden = at("views").hidden = true;
  at("sign-in").hidden = false;
  showConnection();
  at("token").focus();
}

/** @param {string} text @param {"bad"|"plain"} tone */
function noteToken(text, tone) {
  at("sign-in").hidden = false;
  at("token-note").textContent = text;
  at("token-note").dataset.tone = tone;
}

/** @param {{error: Error, willRetry: boolean}} found */
function onError(found) {
  lastError = found;
  errors.add(found.error, found.willRetry);
  if (!answer && !found.willRetry && subscription) {
    log.mark(`This channel is not followed: ${found.error.message}.`, "bad");
    tellChat(found.error);
  }
}

/** Show a refusal next to the input field. @param {Error|null} error */
function tellChat(error) {
  at("chat-trouble").hidden = error === null;
  if (!error) return;
  showText(at("chat-error"), `${sentence(error.message)} ${adviceFor(error, false)}`);
  const isToken = error instanceof HubError && TOKEN_CODES.includes(error.code);
  at("chat-help").textContent = isToken ? "Use another token" : "Dismiss";
  at("chat-help").onclick = isToken ? signOut : () => tellChat(null);
}

// The channel

/** @returns {import("../client_js/hub.js").SubscribeOptions} */
function chosenStart() {
  /** @type {Record<string, import("../client_js/hub.js").SubscribeOptions>} */
  const starts = { rewind: { rewind: REWIND }, all: { after: "0" }, live: { after: "$" }, stored: {} };
  return starts[at("start").value];
}

function follow() {
  const channel = at("channel").value.trim();
  if (!channel || !hub) return at("channel").focus();
  subscription?.close();
  stopWriter();
  answer = null;
  log.clear();
  card.clear("No replay yet.");
  showState();
  at("sent").textContent = "";
  at("events-channel").textContent = channel;
  showText(at("chat-channel"), channel);
  talk(hub, channel);
  subscription = hub.subscribe(channel, { ...chosenStart(), presence: true, onItem: (item) => onItem(channel, item) });
  rememberChannel(channel);
  showAddress();
}

/** Show the channel as a conversation. @param {HubClient} client @param {string} channel */
function talk(client, channel) {
  chat?.close();
  tellChat(null);
  const parts = {
    list: at("messages"), region: at("chat-region"), empty: at("chat-empty"), latest: at("latest"), activity: at("activity"),
    people: at("people"), announce: at("announce"), title: at("chat-title"), gap: at("chat-gap"),
  }; // prettier-ignore
  const made = new Chat(client, channel, client.welcome.user, parts, tellChat, () => at("agent").value || null, (run) => composer.steerable(run));
  composer.serve({
    send: (text, agent, files) => [tellChat(null), made.send(text, agent, files)],
    steer: (run, text) => [tellChat(null), made.steer(run, text)],
    typing: (isTyping) => [countdown.restart(), made.typing(isTyping)],
    upload: (file, told, signal) => made.upload(file, told, signal),
  }); // prettier-ignore
  chat = made;
}

async function offerAgents() {
  try {
    composer.offer(/** @type {any} */ (await hub?.command("agent.list")).payload.agents);
  } catch (problem) {
    errors.add(/** @type {Error} */ (problem), false);
  }
}

/** @param {string} channel @param {import("../client_js/hub.js").Item} item */
function onItem(channel, item) {
  if (channel !== subscription?.channel) return; // another channel was selected meanwhile
  chat?.take(item);
  if (item.kind === "event") onEvent(item);
  else if (item.kind === "subscribed") onSubscribed(item);
  else if (item.kind === "gap") log.mark(`Gap: ${item.reason}. The missing events cannot be replayed.`, "warn");
  else if (item.kind === "receipt") onReceipt(item);
  showFacts();
}

/** @param {import("../client_js/hub.js").EventItem} item */
function onEvent({ event, replayed }) {
  if (replayed) card.arrived(event.seq);
  log.add(event, replayed);
}

/** @param {import("../client_js/hub.js").Subscribed} told */
function onSubscribed(told) {
  answer = told;
  card.begin(Boolean(told.state?.open_messages?.length));
  if (told.state_scope === "live") void refreshState();
  else if (told.state !== undefined) showState(told.state, told.state_at);
}

/** @param {import("../client_js/hub.js").Receipt} receipt */
function onReceipt(receipt) {
  const { text, tone } = card.show(receipt);
  log.mark(text, tone);
}

async function refreshState() {
  const channel = subscription?.channel;
  try {
    const { payload } = /** @type {any} */ (await hub?.command("channel.state", channel));
    if (channel === subscription?.channel) showState(payload.state, payload.state_at);
  } catch (problem) {
    errors.add(/** @type {Error} */ (problem), false);
  }
}

async function send() {
  const text = at("text").value;
  if (!text.trim() || !hub || !subscription) return at("text").focus();
  at("text").value = "";
  unanswered += 1;
  at("sent").textContent = isUnplugged ? `${unanswered} kept until you plug in again` : "sending";
  try {
    const { payload } = await hub.send(subscription.channel, text);
    at("sent").textContent = `stored as seq ${payload.seq} (${payload.durability}${payload.duplicate ? ", sent twice but stored once" : ""})`;
  } catch (problem) {
    const error = /** @type {Error} */ (problem);
    errors.add(error, false);
    at("sent").textContent = `not stored: ${error.message} ${adviceFor(error, false)}`;
    at("text").value ||= text;
  } finally {
    unanswered -= 1;
  }
}

// The plug and the second writer

function turnPlug() {
  isUnplugged = !isUnplugged;
  if (isUnplugged) {
    log.mark(`Unplugged after seq ${subscription?.cursor?.seq ?? "?"}. The hub stores what is written meanwhile.`, "warn");
    card.clear("Unplugged. The receipt appears when you plug in again.");
    hub?.suspend();
    if (at("work").dataset.view === "chat") countdown.start(BACK_AFTER_MS, turnPlug);
  } else {
    countdown.stop();
    hub?.connect();
  }
  at("plug").classList.toggle("on", isUnplugged);
  at("plug").textContent = isUnplugged ? "Plug it in again" : "Pull the plug";
  showConnection();
}

function turnWriter() {
  if (writer) return stopWriter();
  if (!subscription) return;
  writer = new BackgroundWriter(url, token, subscription.channel, (error) => errors.add(error, true), showWriter);
  showWriter();
}

function stopWriter() {
  writer?.stop();
  writer = null;
  showWriter();
}

function showWriter() {
  at("writer").classList.toggle("on", writer !== null);
  at("writer").textContent = writer ? "Stop the second writer" : "Start a second writer";
  if (writer) at("writer-note").textContent = `${writer.stored.toLocaleString("en")} messages stored by the second writer.`;
}

// The view

/** @param {{state: string, delayMs?: number}} now */
function onState({ state, delayMs }) {
  if (delayMs !== undefined) countdown.start(delayMs);
  else if (!isUnplugged) countdown.stop();
  if (state === "ready") {
    reconnects += 1;
    void offerAgents();
  }
  showConnection();
}

function showConnection() {
  showStatus(countdown.leftMs);
  if (hub?.state === "closed" && lastError && !lastError.willRetry) {
    noteToken(`${sentence(lastError.error.message)} ${adviceFor(lastError.error, false)}`, "bad");
    at("sign-in").hidden = false;
  }
  showFacts();
}

/** @param {number|null} leftMs until the next try */
function showStatus(leftMs) {
  const state = isUnplugged ? "unplugged" : (hub?.state ?? "offline");
  const left = leftMs === null ? "" : `next try in ${(leftMs / 1000).toFixed(leftMs < 10_000 && !isUnplugged ? 1 : 0)} s`;
  at("status").dataset.state = state;
  if (at("status-word").textContent !== STATE_WORDS[state]) at("status-word").textContent = STATE_WORDS[state]; // set only on a change, so that it is announced once
  at("status-left").textContent = left;
}

/** Show the view named in the address. */
function showView() {
  const { view } = at("work").dataset;
  for (const name of ["chat", "events"]) at(`to-${name}`).setAttribute("aria-current", name === view ? "page" : "false");
  for (const id of ["chat-region", ...(at("stick").checked ? ["events-region"] : [])]) at(id).scrollTop = at(id).scrollHeight; // a hidden region cannot be scrolled
}

/** Write view and channel into the address. */
function showAddress() {
  const fragment = new URLSearchParams({ view: at("work").dataset.view, channel: at("channel").value.trim() });
  history.replaceState(null, "", `#${decodeURIComponent(fragment.toString())}`);
}

/** Handle a link or the browser's back button. */
function onAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  at("work").dataset.view = fragment.get("view") === "events" ? "events" : "chat";
  const channel = fragment.get("channel");
  showView();
  if (!channel || channel === subscription?.channel) return showAddress();
  at("channel").value = channel;
  follow();
}

function showFacts() {
  const ack = hub?.welcome;
  const cursor = subscription?.cursor;
  const facts = {
    Session: ack?.session_id,
    Client: ack?.client_id,
    Node: ack?.node,
    Heartbeat: ack && `every ${ack.heartbeat_interval_ms / 2000} s`,
    "Token expires": ack && new Date(ack.token_expires_at).toLocaleString("en-GB"),
    Connects: reconnects || undefined,
    "Cursor after": cursor?.after,
    "Cursor seq": cursor?.seq,
    Epoch: answer?.epoch,
    "Head at resume": answer && `${answer.head.id} (seq ${answer.head.seq})`,
    Floor: answer && `${answer.floor.id} (seq ${answer.floor.seq})`,
  };
  showRows(at("connection"), facts);
}

/** @param {unknown} [state] @param {number} [seq] */
function showState(state, seq) {
  at("state").textContent = state === undefined ? "–" : JSON.stringify(state, null, 2);
  at("state-at").textContent = seq === undefined ? "" : `as of seq ${seq}`;
}

/** @param {string} channel */
function rememberChannel(channel) {
  const known = JSON.parse(localStorage.getItem(CHANNELS_KEY) ?? "[]");
  const channels = [channel, ...known.filter((/** @type {string} */ other) => other !== channel)].slice(0, CHANNELS_MAX);
  localStorage.setItem(CHANNELS_KEY, JSON.stringify(channels));
  showChannels(channels);
}

/** @param {string[]} channels */
function showChannels(channels) {
  at("channels").replaceChildren(...channels.map((channel) => new Option(channel, channel)));
}

/** @param {string} id @param {string} type @param {() => void} act */
function on(id, type, act) {
  at(id).addEventListener(type, (/** @type {Event} */ event) => {
    if (type === "submit") event.preventDefault();
    act();
  });
}

on("sign-in", "submit", () => signIn(at("token").value.trim()));
on("sign-out", "click", signOut);
on("follow", "submit", follow);
on("compose", "submit", send);
on("plug", "click", turnPlug);
on("writer", "click", turnWriter);
on("state-refresh", "click", refreshState);
on("agent", "focus", offerAgents);
addEventListener("hashchange", onAddress);
showChannels(JSON.parse(localStorage.getItem(CHANNELS_KEY) ?? "[]"));
showFacts();
const handed = takeToken();
at("sign-in").hidden = handed !== "";
if (handed) signIn(handed);
