/** Hooks for React. React is the application's own. */

import type { ClientOptions, ConnectionState, HubClient, Item, SubscribeOptions } from "../hub.js";

/** A client for as long as the component is there; another one when the URL changes. The options of the first call count. */
export function useHub(
  url: string,
  token: string | (() => string | Promise<string>),
  options?: ClientOptions,
): { hub: HubClient | null; state: ConnectionState; error: Error | null };

/** Follows a channel, and folds its items into a value. The options of the first call for the channel count. */
export function useChannel<T>(
  hub: HubClient | null,
  channel: string | null,
  fold: (value: T, item: Item) => T,
  initial: T,
  options?: SubscribeOptions,
): T;

/** The text of an answer while it grows; null: none was asked for yet. */
export function useAnswer(
  hub: HubClient | null,
  channel: string,
  asked: { payload: any } | null,
): { text: string; isOver: boolean; error: Error | null };
