/**
 * Hooks for React: `useHub`, `useChannel`, `useAnswer`. React is the application's own: nothing of it is in this package.
 *
 * @module hub/react
 */

import { useEffect, useRef, useState } from "react";

import { answers } from "./answers.js";
import { HubClient } from "./client.js";

/** @typedef {import("./client.js").ClientOptions} ClientOptions */
/** @typedef {import("./feed.js").Item} Item */
/** @typedef {import("./feed.js").SubscribeOptions} SubscribeOptions */

/**
 * A client for as long as the component is there; another one when the address changes. The newest `token` is asked at each connect.
 * @param {string} url @param {string | (() => string | Promise<string>)} token @param {ClientOptions} [options] those of the first call count
 * @returns {{hub: HubClient|null, state: string, error: Error|null}} `error`: the newest one, null once connected
 */
export function useHub(url, token, options) {
  const [shown, show] = useState(/** @type {any} */ ({ hub: null, state: "offline", error: null }));
  const newest = useRef({ token, options });
  newest.current.token = token;
  const isProvider = typeof token === "function";
  useEffect(() => {
    const ask = () => /** @type {any} */ (newest.current.token)();
    const hub = new HubClient(url, isProvider ? ask : /** @type {string} */ (newest.current.token), newest.current.options);
    const changed = (/** @type {any} */ { detail: { state } }) => show((/** @type {any} */ old) => ({ hub, state, error: state === "ready" ? null : old.error }));
    hub.addEventListener("state", changed);
    hub.addEventListener("error", (/** @type {any} */ { detail: { error } }) => show((/** @type {any} */ old) => ({ ...old, error })));
    hub.connect().catch(() => {}); // reported by the event `error`
    return () => {
      hub.removeEventListener("state", changed);
      hub.close();
    };
  }, [url, isProvider]);
  return shown;
}

/**
 * Follow a channel, and fold its items into a value. `fold` is called for every item, in order, and returns the next value.
 * @template T @param {HubClient|null} hub @param {string|null} channel null: none for now @param {(value: T, item: Item) => T} fold @param {T} initial
 * @param {SubscribeOptions} [options] those of the first call for the channel count
 * @returns {T}
 */
export function useChannel(hub, channel, fold, initial, options) {
  const [value, setValue] = useState(initial);
  const newest = useRef({ fold, initial, options });
  newest.current.fold = fold;
  useEffect(() => {
    if (!hub || !channel || hub.state === "closed") return undefined;
    setValue(newest.current.initial);
    const onItem = (/** @type {Item} */ item) => setValue((old) => newest.current.fold(old, item));
    const subscription = hub.subscribe(channel, { ...newest.current.options, onItem });
    return () => subscription.close();
  }, [hub, channel]);
  return value;
}

/**
 * The text of an answer while it grows.
 * @param {HubClient|null} hub a client that does not follow the channel otherwise @param {string} channel
 * @param {{payload: any}|null} asked the reply to the question; null: none was asked yet
 * @returns {{text: string, isOver: boolean, error: Error|null}}
 */
export function useAnswer(hub, channel, asked) {
  const [answer, setAnswer] = useState(/** @type {any} */ ({ text: "", isOver: false, error: null }));
  useEffect(() => {
    if (!hub || !asked) return undefined;
    setAnswer({ text: "", isOver: false, error: null });
    const gone = new AbortController();
    const texts = answers(hub, channel, asked, { signal: gone.signal });
    (async () => {
      for await (const text of texts) if (!gone.signal.aborted) setAnswer({ text, isOver: false, error: null });
    })().then(
      () => gone.signal.aborted || setAnswer((/** @type {any} */ old) => ({ ...old, isOver: true })),
      (error) => gone.signal.aborted || setAnswer((/** @type {any} */ old) => ({ ...old, isOver: true, error })),
    );
    return () => gone.abort();
  }, [hub, channel, asked]);
  return answer;
}
