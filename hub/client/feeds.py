"""The subscriptions of one client: routes messages to them, requests channels, and tracks slow readers. Pure.

It writes the subscription commands (through `send`) and the first message of a socket. That message carries every
channel with its cursor, so that one round trip resumes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hub.client.errors import ChannelClosed, ClientError, HubError, Retry
from hub.client.feed import Feed, Phase, Taken
from hub.client.items import Item
from hub.client.wire import Frame

_CURSORS_MAX: Final = 200
"""Maximum cursors in one `connection.reconnect` (docs/events.md#connection)."""
_CHANNELS_MAX: Final = 100
"""Maximum subscriptions in the first message (docs/events.md#connection)."""
_OWN_CHANNEL: Final = "user:"
"""The hub subscribes a connection to its user's own channel by itself, so without a cursor that one needs a separate command."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The client's description of itself in `connection.init` (docs/events.md#connection)."""

    client_id: str | None
    name: str
    version: str
    capabilities: tuple[str, ...]

    def to_wire(self) -> dict[str, object]:
        """Returns the fields of the first message that are the same on every socket."""
        wire: dict[str, object] = {
            "versions": [1],
            "capabilities": list(self.capabilities),
            "client": {"name": self.name, "version": self.version},
        }
        return wire if self.client_id is None else wire | {"client_id": self.client_id}


def first_message(
    command_id: str, token: str, identity: Mapping[str, object], session_id: str | None, feeds: Iterable[Feed]
) -> dict[str, object]:
    """Builds the first message, and marks every feed that it requests. Feeds that do not fit stay idle."""
    cursors: dict[str, object] = {}
    channels: list[dict[str, object]] = []
    for feed in feeds:
        position = feed.position
        if position is not None and feed.plain and len(cursors) < _CURSORS_MAX:
            cursors[feed.options.channel] = position.to_wire()
        elif not feed.options.channel.startswith(_OWN_CHANNEL) and len(channels) < _CHANNELS_MAX:
            channels.append(feed.subscription())
        else:
            continue
        feed.ask(command_id)
    payload: dict[str, object] = {"token": token, **identity} if token else {**identity}
    if channels:
        payload["channels"] = channels
    if session_id is None and not cursors:
        return {"type": "connection.init", "id": command_id, "payload": payload}
    if session_id is not None:
        payload["session_id"] = session_id
    return {"type": "connection.reconnect", "id": command_id, "payload": payload | {"cursors": cursors}}


_ASKED_MAX: Final = 100
"""Maximum subscriptions in one `channel.subscribe` (docs/events.md#channel)."""


class Feeds:
    """All subscriptions of one client, by channel.

    Attributes:
        ready: True while channels can be requested on the current socket; set by the core.
        full: feeds whose buffers are full; while there are any, the socket is better left unread.
    """

    __slots__ = ("_by_channel", "_later", "_new_id", "_pause_s", "_send", "full", "ready")

    def __init__(
        self, send: Callable[[Frame], None], new_id: Callable[[], str], pause_s: Callable[[int, HubError], float]
    ) -> None:
        self.ready = False
        self.full: set[Feed] = set()
        self._by_channel: dict[str, Feed] = {}
        self._later: dict[Feed, float] = {}
        self._send, self._new_id, self._pause_s = send, new_id, pause_s

    # --- readers ---

    def follow(self, feed: Feed) -> None:
        """Requests a channel, now or once connected.

        Raises:
            ValueError: the channel is followed already.
        """
        channel = feed.options.channel
        if channel in self._by_channel:
            raise ValueError(f"{channel} is already followed; share that iterator or use another client")
        self._by_channel[channel] = feed
        if self.ready:
            self._ask([feed])

    def leave(self, feed: Feed) -> None:
        """Ends a feed whose reader has stopped."""
        feed.end(None)
        self._forget(feed)

    def take(self, feed: Feed) -> Item:
        """Takes the oldest item for the reader. Once the buffer is down to half, the feed no longer counts as full."""
        item = feed.items.popleft()
        if feed in self.full and len(feed.items) <= feed.low:
            self.full.discard(feed)
            if feed.phase is Phase.SPILLED and self.ready:
                self._ask([feed])
        return item

    def end(self, error: ClientError | None) -> None:
        """Ends every feed."""
        for feed in self._by_channel.values():
            feed.end(error)
        self._by_channel.clear()
        self.full.clear()
        self._later.clear()

    def drop_buffers(self) -> None:
        """Drops all buffered items. They were not processed, so a later subscription delivers them again."""
        for feed in self._by_channel.values():
            feed.items.clear()

    # --- sockets ---

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._by_channel.values())

    def connected(self) -> None:
        """Requests the channels that the handshake did not carry."""
        self.ready = True
        idle = [feed for feed in self._by_channel.values() if feed.phase is Phase.IDLE]
        for start in range(0, len(idle), _ASKED_MAX):
            self._ask(idle[start : start + _ASKED_MAX])

    def lost(self) -> None:
        """Records the loss of the socket: every channel must be requested again on the next one."""
        self.ready = False
        self._later.clear()
        for feed in self._by_channel.values():
            feed.lost()

    def tick(self, now: float) -> None:
        """Requests again the channels whose delay has passed."""
        self._ask([feed for feed, due in self._later.items() if due <= now])

    @property
    def due(self) -> float:
        """The time at which the first delayed channel is requested again; infinity if there is none."""
        return min(self._later.values(), default=float("inf"))

    # --- frames ---

    def on_event(self, frame: Frame, text: str, start: int, end: int) -> Taken:
        """Routes a stored event to its feed. After the result `HOLE`, nothing more of this channel can be trusted."""
        feed = self._by_channel.get(frame["channel"])
        if feed is None:
            return Taken.PASSED_OVER
        taken = feed.event(frame, text, start, end)
        if len(feed.items) >= feed.high:
            self.full.add(feed)
        if taken is Taken.SPILLED:
            self._unsubscribe(feed)
        return taken if taken is Taken.YES else self._unless_ended(feed, taken)

    def on_signal(self, frame: Frame, text: str, start: int, end: int) -> None:
        """Routes a signal to its feed."""
        feed = self._by_channel.get(frame["channel"])
        if feed is not None:
            feed.signal(frame, text, start, end)

    def on_subscribed(self, frame: Frame, handshake_id: str) -> None:
        """Routes a `channel.subscribed`. Without `re` it answers the first message, or reports that the log broke off."""
        feed = self._by_channel.get(frame["channel"])
        if feed is None:
            return
        answers = feed.phase is Phase.ASKED and feed.asked_as == frame.get("re", handshake_id)
        if answers or (feed.phase is Phase.LIVE and "re" not in frame):
            feed.subscribed(frame)
            self._unless_ended(feed, Taken.YES)

    def on_resumed(self, frame: Frame) -> Taken:
        """Routes the receipt of a replay."""
        feed = self._by_channel.get(frame["channel"])
        return Taken.PASSED_OVER if feed is None else self._unless_ended(feed, feed.resumed(frame))

    def on_unsubscribed(self, frame: Frame) -> None:
        """Handles a subscription that the hub ended by itself. The answer to our own command needs no action."""
        feed = self._by_channel.get(frame["channel"])
        if feed is None or "re" in frame:
            return
        reason = frame["payload"]["reason"]
        if reason == "too_far_behind":
            self._ask([feed])
        else:
            self._close(feed, ChannelClosed(feed.options.channel, reason))

    def on_refused(self, frame: Frame, handshake_id: str, now: float) -> None:
        """Handles an error that answers a subscription: requests the channel again later, or ends its feed."""
        asked_as, channel = frame.get("re", handshake_id), frame.get("channel")
        for feed in list(self._by_channel.values()):
            if feed.phase is Phase.ASKED and feed.asked_as == asked_as and channel in (None, feed.options.channel):
                error = HubError(frame["payload"], feed.options.channel)
                if error.retry is Retry.NO:
                    self._close(feed, error)
                else:
                    self._later[feed] = now + self._pause_s(feed.refused(), error)

    # --- sending ---

    def _ask(self, feeds: list[Feed]) -> None:
        if not feeds:
            return
        command_id = self._new_id()
        wanted = []
        for feed in feeds:
            self._later.pop(feed, None)
            wanted.append(feed.subscription())
            feed.ask(command_id)
        self._send({"type": "channel.subscribe", "id": command_id, "payload": {"channels": wanted}})

    def _unsubscribe(self, feed: Feed) -> None:
        if self.ready and feed.asked_as is not None:
            payload = {"channels": [feed.options.channel]}
            self._send({"type": "channel.unsubscribe", "id": self._new_id(), "payload": payload})

    def _close(self, feed: Feed, error: ClientError) -> None:
        """Ends a feed that the hub no longer serves."""
        feed.dropped(error)
        self._forget(feed)

    def _forget(self, feed: Feed) -> None:
        if self._by_channel.get(feed.options.channel) is feed:
            del self._by_channel[feed.options.channel]
            self._unsubscribe(feed)
        self.full.discard(feed)
        self._later.pop(feed, None)

    def _unless_ended(self, feed: Feed, taken: Taken) -> Taken:
        """Returns `taken`, unless it ended the feed: then the channel is left and the socket kept."""
        if feed.phase is not Phase.ENDED:
            return taken
        self._forget(feed)
        return Taken.PASSED_OVER
