/** The types of the hub's JavaScript client. */

/** A JSON object; its shape by event type is in docs/events.md. */
export type Payload = Record<string, any>;

/** The last event seen in one channel. */
export interface Cursor {
  after: string;
  seq?: number;
  epoch?: string;
}

/** The place of an event in its channel. */
export interface Position {
  id: string;
  seq: number;
}

/** Events that cannot be replayed, and the reason. */
export interface Missing {
  reason: string;
  from_seq: number | null;
  to_seq: number | null;
}

/** A stored event, as on the wire. */
export interface HubEvent {
  id: string;
  seq: number;
  channel: string;
  type: string;
  v: number;
  actor: { kind: string; id: string; client?: string };
  meta?: Record<string, string>;
  /** A person was erased whose words it held; the payload is `{}`. */
  erased?: true;
  payload: any;
}

/** An event that is not stored: typing, presence, a delta of an answer. */
export interface HubSignal {
  channel: string;
  type: string;
  v?: number;
  actor?: { kind: string; id: string; client?: string };
  meta?: Record<string, string>;
  payload: any;
}

/** The hub's answer to a subscription, again after every resume; `replay` events follow. */
export interface Subscribed {
  kind: "subscribed";
  epoch: string;
  head: Position;
  /** null over long polls, which do not tell it. */
  floor: Position | null;
  recovered: boolean;
  replay: number;
  gap: Missing | null;
  state?: any;
  /** `live` after a resume: presence, typing and open messages only. Merge it into the state that you have. */
  state_scope?: "live" | "full";
  state_at?: number;
  cursor?: Cursor;
}

/** An event, and whether it was replayed. */
export interface EventItem {
  kind: "event";
  event: HubEvent;
  replayed: boolean;
  cursor?: Cursor;
}

/** Events that this reader can no longer get; `state` replaces them. */
export interface Gap extends Missing {
  kind: "gap";
  head: Position;
  state?: any;
  cursor?: Cursor;
}

/** The end of a replay: the range that was replayed, null where nothing was. */
export interface Receipt {
  kind: "receipt";
  from_seq: number | null;
  to_seq: number | null;
  count: number;
  gap: Missing | null;
  cursor?: Cursor;
}

/** A signal of a channel that is followed. */
export interface Signal {
  kind: "signal";
  event: HubSignal;
  cursor?: Cursor;
}

/** All that a subscription yields. */
export type Item = Subscribed | EventItem | Gap | Receipt | Signal;

/** The start (default: the stored cursor, else new events only) and options. */
export interface SubscribeOptions {
  /** An event's id, "0" for everything, "$" for new events only. */
  after?: string;
  seq?: number;
  epoch?: string;
  /** Begin with this many of the newest events. */
  rewind?: number;
  state?: boolean;
  presence?: boolean;
  /** Called for each item, instead of iterating. */
  onItem?: (item: Item) => void;
}

/** The reply to a command. */
export interface Reply {
  type: string;
  re: string;
  channel?: string;
  payload: any;
}

/** A store of your own for cursors. */
export interface CursorStore {
  load(channel: string): Cursor | null;
  save(channel: string, cursor: Cursor): void;
}

/** A command that the hub has not answered yet. */
export interface StoredCommand {
  id: string;
  channel?: string;
  text: string;
  /** The first time it may have reached the hub, in milliseconds. */
  sentAt: number | null;
}

/** A store of your own for commands that the hub has not answered yet. */
export interface OutboxStore {
  put(command: StoredCommand): Promise<void>;
  delete(id: string): Promise<void>;
  /** Takes over the commands of clients that are gone, oldest first. */
  adopt(): Promise<StoredCommand[]>;
}

/** The options of a client. */
export interface ClientOptions {
  name?: string;
  /** Keeps cursors over the end of the page. */
  cursors?: CursorStore;
  /** Keeps unanswered commands over the end of the page. */
  outbox?: OutboxStore;
  /** Further capabilities to announce, such as "reasoning". */
  capabilities?: string[];
  /** A WebSocket class in the place of the global one, for example that of the package `ws`. */
  WebSocket?: unknown;
  fetch?: typeof fetch;
  /** While HTTP serves: the first pause before WebSocket is tried again. */
  webSocketRetryMs?: number;
  /** The W3C trace that commands continue, or a function that is called for each command and returns one, or nothing. */
  traceparent?: string | (() => string | null | undefined);
}

/** The state of a client's connection. */
export type ConnectionState = "offline" | "connecting" | "ready" | "waiting" | "closed";
/** The ways to the hub; WebSocket is preferred. */
export type Transport = "websocket" | "http-stream" | "http-poll";

/** The options of an upload; `signal` ends it. */
export interface UploadOptions {
  filename?: string;
  mime?: string;
  purpose?: "attachment" | "document" | "avatar";
  onProgress?: (sent: number, total: number) => void;
  signal?: AbortSignal;
}

/** A file that the hub has verified. */
export interface UploadedFile {
  file_id: string;
  filename: string;
  size: number;
  mime: string;
  /** The payload of `file.ready`. */
  ready: any;
}

/** The events of a client, for `addEventListener`. */
export interface HubClientEvents {
  /** `delayMs`: until the next attempt, in the state `waiting`. */
  state: CustomEvent<{ state: ConnectionState; delayMs?: number }>;
  error: CustomEvent<{ error: HubError; willRetry: boolean }>;
  /** The outcome of a command that an outbox store kept from an earlier page. */
  settled: CustomEvent<{ id: string; reply?: Reply; error?: Error }>;
}

/** A channel that is followed: iterate it with `for await`, or give `onItem` to `subscribe`. */
export interface Subscription extends AsyncIterable<Item> {
  readonly channel: string;
  readonly cursor: Cursor | undefined;
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined>;
}

/** One user's connection. */
export class HubClient extends EventTarget {
  /** `url`: such as "https://hub.example" or "wss://hub.example/ws". `token`: a token, or a function that returns one for each connect. */
  constructor(url: string, token: string | (() => string | Promise<string>), options?: ClientOptions);
  readonly state: ConnectionState;
  /** The way to the hub; null while there is none. */
  readonly transport: Transport | null;
  /** The newest `connection.ack`; null before the first. */
  readonly welcome: any;
  /** Connects and stays connected; fails with an error that reconnecting cannot cure. */
  connect(): Promise<any>;
  /** Cuts the connection until `connect`; subscriptions and unanswered commands are kept. */
  suspend(): void;
  /** Closes for good: iterations end, unanswered commands fail. */
  close(): void;
  subscribe(channel: string, options?: SubscribeOptions): Subscription;
  /** Writes a chat message; settles once it is stored. */
  send(channel: string, text: string): Promise<Reply>;
  /** Sends a command, and again under the same id until the hub has answered; fails with a `HubError`. */
  command(type: string, channel?: string, payload?: object, id?: string): Promise<Reply>;
  /** Uploads a file; settles once the hub has verified it. */
  upload(channel: string, file: Blob, options?: UploadOptions): Promise<UploadedFile>;
  addEventListener<K extends keyof HubClientEvents>(
    type: K,
    listener: (event: HubClientEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof HubClientEvents>(
    type: K,
    listener: (event: HubClientEvents[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** A refusal of the hub. By the time a caller sees it, the client has followed the advice in `retry`. */
export class HubError extends Error {
  constructor(told: Payload, channel?: string);
  readonly code: number;
  readonly retry: "no" | "refresh" | "backoff" | "now";
  readonly retryAfterMs: number | undefined;
  readonly details: { field: string; problem: string }[];
  readonly channel: string | undefined;
  /** The payload of the `connection.error`. */
  readonly told: Payload;
  /** True if the same thing may succeed by itself, later. */
  readonly isPassing: boolean;
}

/** Yields the whole text of an answer so far whenever it has changed; throws `AnswerFailed`. */
export function answers(
  hub: HubClient,
  channel: string,
  asked: { payload: any },
  options?: { signal?: AbortSignal },
): AsyncGenerator<string, void, undefined>;

/** An agent's run ended without its whole answer. */
export class AnswerFailed extends Error {
  constructor(complete: Payload);
  readonly outcome: "failed" | "expired" | "cancelled";
  readonly runId: string;
  readonly isRetryable: boolean;
}

/** One run's answer, put together from the items and states of its channel. */
export class Answer {
  constructor(asked: { run_id?: string });
  readonly runId: string;
  readonly text: string;
  readonly reasoning: string;
  /** The payload of the run's `agent.complete`; null while it goes on. */
  readonly complete: any;
  /** True if a piece is missing: `takeState` of a `channel.state` mends it. */
  readonly isBehind: boolean;
  /** Returns true if the item belongs to this run. */
  take(item: Item): boolean;
  takeState(state: any): void;
}

/** The text of one message while it is written: deltas are applied by offset, in code points. */
export class AnswerText {
  readonly attempt: number;
  readonly tracks: Record<string, { text: string; end: number }>;
  /** Returns false if something is missing before the delta. */
  append(delta: Payload): boolean;
  /** Returns false if less is held than is kept. */
  reset(told: Payload): boolean;
  take(open: Payload): void;
}

/** Keeps cursors in the browser: for the tab in sessionStorage, for new tabs in localStorage. */
export class LocalCursors implements CursorStore {
  /** `prefix`: one for each user of the browser, such as "hub:acme:alice:". */
  constructor(prefix: string);
  load(channel: string): Cursor | null;
  save(channel: string, cursor: Cursor): void;
}

/** Keeps unanswered commands in IndexedDB; a tab takes over those of tabs that are gone. */
export class IndexedDbOutbox implements OutboxStore {
  /** `name`: one for each user of the browser, such as "hub:acme:alice". */
  constructor(name: string);
  put(command: StoredCommand): Promise<void>;
  delete(id: string): Promise<void>;
  adopt(): Promise<StoredCommand[]>;
}

/** Reads a token's claims for display; null if it is no JWT. The hub verifies them. */
export function claimsOf(token: string): { user: string; tenant: string; expiresAt: Date | null } | null;
