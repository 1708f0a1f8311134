"""`HubClient`: one user's connection to a hub, with any number of subscriptions and commands over one socket."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, overload

from hub.client.core import Core
from hub.client.cursors import CursorStore, MemoryCursors
from hub.client.driver import Driver, Token, TokenSource
from hub.client.errors import ClientError, HubClosed, HubUnreachable, OutboxFull, Wait
from hub.client.feed import SubscribeOptions
from hub.client.feeds import Identity
from hub.client.items import LIVE_ONLY, ChannelState, Cursor, Event, History, Item, Payload, Reply, Stored
from hub.client.outbox import Command, Outcome
from hub.client.recovery import Fallback
from hub.client.subscription import Subscription
from hub.client.uploads import OnProgress, UploadedFile, upload
from hub.client.wire import elements, encode, member, read_event

VERSION: Final = "0.2.0"
"""The version of the client, which it tells the hub."""
CAPABILITIES: Final = ("batch", "live_state")
"""Capabilities announced by default (docs/protocol.md#opening)."""
OnGap = Literal["raise", "report"]


class HubClient:
    """A client of the hub, used as `async with HubClient(url, token) as hub`.

    It stays connected by itself: after any loss it reconnects, resumes every channel from its cursor in one round
    trip, and sends unanswered commands again under the same ids.

    Args:
        url: `http://host:8000` or `wss://host/ws`; several are tried in turn.
        token: a JWT, or a function (plain or async) that returns a fresh one.
        client_id: a name for this device; by default the hub assigns one.
        cursors: the store of cursors; memory by default.
        buffer: maximum events buffered for a slow reader before the client stops reading the socket.
        max_pending: maximum unanswered commands; one more raises `OutboxFull`.
        connect_timeout_s: seconds for the first connection; None tries without end.
        capabilities: announced to the hub.
        on_wait: called whenever a command must wait for the user's rate limit, or because the hub cannot store it now. Such
            waits are also logged.
        jitter: returns a random number in [0, 1), for back-off.
        new_id: returns command ids that are unique for this user within ten minutes.
        traceparent: the W3C trace that commands continue, or a function that is called for each command and returns one, or None.
            The hub refuses a malformed one (4005).
    """

    def __init__(
        self,
        url: str | Sequence[str],
        token: Token,
        *,
        client_id: str | None = None,
        cursors: CursorStore | None = None,
        buffer: int = 1024,
        max_pending: int = 10_000,
        connect_timeout_s: float | None = 10.0,
        capabilities: Iterable[str] = CAPABILITIES,
        on_wait: Callable[[Wait], None] | None = None,
        websocket_retry_s: float = 5.0,
        jitter: Callable[[], float] = random.random,
        new_id: Callable[[], str] | None = None,
        traceparent: str | Callable[[], str | None] | None = None,
    ) -> None:
        source = TokenSource(token)
        identity = Identity(client_id, "hub-python", VERSION, tuple(capabilities))
        self._new_id = new_id or _id_maker()
        self._core = Core(identity, new_id=self._new_id, jitter=jitter, can_refresh=source.renewable)
        urls, fallback = [url] if isinstance(url, str) else url, Fallback(websocket_retry_s)
        self._driver = Driver(self._core, urls, source, on_wait, fallback=fallback, jitter=jitter)
        self._store = MemoryCursors() if cursors is None else cursors
        self._buffer = buffer
        self._max_pending = max_pending
        self._traceparent = traceparent if callable(traceparent) else lambda: traceparent
        self._connect_timeout_s = connect_timeout_s
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def connect(self) -> None:
        """Connects and stays connected; returns after the hub's `connection.ack`.

        Raises:
            ConnectionRefused: the hub refuses this client.
            HubUnreachable: no connection was made within `connect_timeout_s`.
        """
        self._running = asyncio.create_task(self._driver.run(), name="hub-client")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._driver.settled.wait()
        except TimeoutError:
            trouble = self._driver.trouble
            await self.aclose()
            reason = str(trouble or "it did not answer in time") or repr(trouble)
            raise HubUnreachable(f"no connection to the hub at {self._driver.place}: {reason}") from trouble
        except BaseException:
            await self.aclose()
            raise
        if self._core.over is not None:
            await self.aclose()
            raise self._core.over

    async def aclose(self) -> None:
        """Closes with code 1000. Unanswered commands fail with `HubClosed`, iterators end, and cursors are saved."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        self._core.close()
        self._store.flush()

    # --- reading ---

    @overload
    def subscribe(
        self, channel: str, *, after: str | Cursor | None = None, rewind: int | None = None, state: bool = True
    ) -> Subscription[Event]: ...

    @overload
    def subscribe(
        self,
        channel: str,
        *,
        after: str | Cursor | None = None,
        rewind: int | None = None,
        state: bool = True,
        presence: bool = False,
        signals: bool = False,
        on_gap: OnGap = "raise",
        with_receipts: bool = False,
    ) -> Subscription[Item]: ...

    def subscribe(
        self,
        channel: str,
        *,
        after: str | Cursor | None = None,
        rewind: int | None = None,
        state: bool = True,
        presence: bool = False,
        signals: bool = False,
        on_gap: OnGap = "raise",
        with_receipts: bool = False,
    ) -> Subscription[Any]:
        """Follows a channel: `async for event in hub.subscribe("conversation:42")`. Starts at once, not at the first read.

        Args:
            channel: `kind:name`.
            after: a cursor or event id; `"0"` for everything stored, `"$"` for new events only. None: the saved cursor if there
                is one, else new events only.
            rewind: starts with this many of the newest events (at most 1,000) instead.
            state: True asks the hub to send the channel's state with its answer.
            presence: True also yields joins and leaves, as signals.
            signals: True also yields events that are not stored (typing, deltas); a slow reader may miss some.
            on_gap: `"raise"` raises `GapError` where events are permanently missing; `"report"` yields a `Gap` and continues.
            with_receipts: True also yields `Subscribed` and `Receipt` items.

        Raises:
            ValueError: this client follows the channel already.
        """
        start = self._start(channel, after, rewind)
        options = SubscribeOptions(channel, start, rewind, state, presence, signals, on_gap == "raise")
        return Subscription(
            self._core, self._driver, self._store, options, buffer=self._buffer, with_receipts=with_receipts
        )

    def _start(self, channel: str, after: str | Cursor | None, rewind: int | None) -> Cursor | None:
        if isinstance(after, Cursor):
            return after
        if after is None:
            return None if rewind is not None else self._store.load(channel)
        return None if after == LIVE_ONLY else Cursor(after)

    async def history(
        self,
        channel: str,
        *,
        after: str | None = None,
        before: str | None = None,
        from_time: str | None = None,
        to_time: str | None = None,
        types: Sequence[str] | None = None,
        limit: int = 100,
    ) -> History:
        """Returns a page of stored events between ids or RFC 3339 times, at most 1,000.

        Raises:
            HubError: the hub refused.
        """
        asked: dict[str, object] = {
            "after": after,
            "before": before,
            "from_time": from_time,
            "to_time": to_time,
            "types": types,
            "limit": limit,
        }
        wanted = {name: value for name, value in asked.items() if value is not None}
        reply = await self.command("channel.history", channel, wanted)
        text = reply.raw.decode()
        placed, _ = elements(text, member(text, member(text, 0, "payload"), "events"))
        events = tuple(read_event(frame, text[start:end].encode(), None) for frame, start, end in placed)
        return History(events, reply.payload["next"], reply.payload.get("gap"))

    async def state(self, channel: str) -> ChannelState:
        """Returns the current state of a channel.

        Raises:
            HubError: the hub refused.
        """
        found = (await self.command("channel.state", channel, {})).payload
        return ChannelState(channel, found.get("epoch"), found["state"], found["state_at"])

    # --- writing ---

    async def send(self, channel: str, text: str, **fields: object) -> Stored:
        """Sends a message to a conversation and returns once it is stored.

        `fields` are those of `chat.message` (docs/events.md).

        If the user's rate limit is reached, it waits and sends again; `on_wait` and the log report this.

        Raises:
            HubError: refused; nothing was stored.
        """
        return (await self.command("chat.message", channel, {"text": text, **fields})).stored

    async def command(
        self, kind: str, channel: str | None = None, payload: Payload | None = None, *, command_id: str | None = None
    ) -> Reply:
        """Sends any command and waits for its reply, however often the connection is lost.

        Cancelling the wait leaves open whether the command was stored; the same `command_id` may be sent
        again.

        Raises:
            HubError: the hub refused for good, or too often with "retry later".
            ConnectionRefused: the hub refuses this client.
            HubClosed: the client was closed first.
        """
        return await self.submit(kind, channel, payload, command_id=command_id)

    async def upload(
        self,
        channel: str,
        path: Path | str,
        *,
        on_progress: OnProgress | None = None,
        filename: str | None = None,
        mime: str | None = None,
        strategy: str = "auto",
        purpose: str = "attachment",
        resume_key: str | None = None,
    ) -> UploadedFile:
        """Uploads a file and waits until the hub has verified it; see `hub.client.uploads.upload`."""
        return await upload(
            self,
            channel,
            path,
            on_progress=on_progress,
            filename=filename,
            mime=mime,
            strategy=strategy,
            purpose=purpose,
            resume_key=resume_key,
        )

    def submit(
        self, kind: str, channel: str | None = None, payload: Payload | None = None, *, command_id: str | None = None
    ) -> asyncio.Future[Reply]:
        """Like `command`, without waiting: commands are sent in the order of the calls.

        Raises:
            OutboxFull: `max_pending` commands are unanswered.
            ValueError: the payload cannot be written as JSON, or another unanswered command has this id.
        """
        if len(self._core.outbox) >= self._max_pending:
            raise OutboxFull(f"{self._max_pending} commands are unanswered; wait for answers before sending more")
        command_id = command_id or self._new_id()
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        trace = self._traceparent()
        meta = {} if trace is None else {"meta": {"traceparent": trace}}
        wire = _frame(kind, channel, payload, {"id": command_id, **meta})
        self._core.submit(Command(command_id, wire, channel, partial(_answer, answer)))
        answer.add_done_callback(partial(self._given_up, command_id))
        self._driver.stir()
        return answer

    def _given_up(self, command_id: str, answer: asyncio.Future[Reply]) -> None:
        if answer.cancelled():
            self._core.outbox.forget(command_id)

    def publish_nowait(self, kind: str, channel: str, payload: Payload | None = None) -> bool:
        """Sends a message without an id (`chat.typing`, `document.cursor`): it is not answered and never sent again.

        Returns:
            True if there was a connection to send it on.
        """
        handed_over = self._core.signal(_frame(kind, channel, payload, {}))
        self._driver.stir()
        return handed_over

    # --- the connection ---

    @property
    def welcome(self) -> Payload:
        """The payload of the newest `connection.ack`: session, user, tenant, limits, node.

        Raises:
            RuntimeError: the client has never been connected.
        """
        if self._core.welcome is None:
            raise RuntimeError("the client is not connected yet; enter it with `async with`")
        return self._core.welcome

    @property
    def transport(self) -> str | None:
        """The current way to the hub: `websocket`, `http-stream` or `http-poll`; None while there is none."""
        return self._driver.transport

    @property
    def hub_faults(self) -> tuple[int, int]:
        """Counts of events that the hub left out, and of events it repeated.

        The client repaired each of them. A correct hub leaves both counts at 0.
        """
        return self._core.hole_count, self._core.repeat_count

    def cut(self) -> None:
        """Resets the TCP connection without a close frame, for tests. The client recovers as from any loss."""
        self._driver.cut()


def _frame(kind: str, channel: str | None, payload: Payload | None, extra: dict[str, object]) -> bytes:
    frame: dict[str, object] = {"type": kind, **extra}
    if channel is not None:
        frame["channel"] = channel
    frame["payload"] = {} if payload is None else payload
    return encode(frame)


def _answer(future: asyncio.Future[Reply], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, ClientError):
        future.set_exception(outcome)
        if isinstance(outcome, HubClosed):
            future.exception()  # the caller closed the client; asyncio must not report it as never retrieved
    else:
        future.set_result(outcome)


def _id_maker() -> Callable[[], str]:
    """Returns a function that makes command ids no other client of this user makes: a random prefix and a counter."""
    prefix, count = secrets.token_hex(6), itertools.count(1)
    return lambda: f"{prefix}.{next(count)}"
