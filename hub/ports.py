"""The ports between the rooms of a node, as Protocols. Pure.

- `SocketTransport` and `SocketReceiver`: a wire (WebSocket on uvicorn, the ASGI adapter) and the connection behind it.
- `Subscriber`: the connection of a subscription.
- `ClientConnection`: the connection a command came on, as a handler sees it.
- `NodePort`: the node, and `ConnectionOwner`: the same with what only its connections ask of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

    from hub.auth.tokens import Principal, TokenVerifier
    from hub.config import Settings
    from hub.errors import HubError
    from hub.limits.admission import Admission
    from hub.limits.new_channels import NewChannels
    from hub.limits.rates import RateLimiter
    from hub.metrics import NodeMetrics
    from hub.protocol.commands import Append, Caller, Command, Outcome
    from hub.protocol.replies import StateAt
    from hub.protocol.session import Session
    from hub.protocol.subscription import RefusedChannel, SubscribeRequest
    from hub.uploads.requests import UploadRequests
    from projections.channel_state import ChannelState
    from streams.channel import Channel
    from streams.cursor import Look
    from streams.records.presence import MemberStatus
    from streams.redis.log import Log
    from streams.redis.looks import KeyRead, Sight


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request that asked for a socket.

    Attributes:
        path: the request target before `?`, percent-encoding kept.
        query: the part after `?`; empty when absent.
        headers: lower-case names; repeated fields joined by a comma (RFC 9110 section 5.3).
        client: address and port of the peer, None on a Unix socket.
        subprotocol: the one chosen of those the client offered, None when none fits.
        prefix: the path the hub is mounted at, which `path` does not hold.
    """

    path: str
    query: str
    headers: Mapping[bytes, bytes]
    client: tuple[str, int] | None
    subprotocol: str | None
    prefix: str = ""


class UpgradeRefused(Exception):
    """A factory's way to answer an upgrade with an HTTP status: 404 unknown path, 503 draining.

    Attributes:
        status: the HTTP status, 400 to 599.
        text: one sentence for the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class SocketTransport(Protocol):
    """A socket as its receiver sees it. Every call is allowed at any time; after the end each does nothing."""

    @property
    def is_writable(self) -> bool:
        """False while more than the write mark waits in the buffer. Writing then still works, but costs memory."""
        ...

    @property
    def is_deflate(self) -> bool:
        """True if compressed frames may be written (`hub.websocket.deflate`); fixed once the socket is open."""
        ...

    def write(self, frames: bytes, /) -> None:
        """Send bytes that are whole frames already, one or several joined. Dropped once closing has begun."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake behind what was written; nothing is received any more.

        A peer that does not answer within the wire's deadline is aborted. `reason` is cut to 123 bytes of UTF-8.

        Raises:
            ValueError: `code` must not appear on the wire (1005, 1006, 1015, or outside the registered ranges).
        """
        ...

    def abort(self) -> None:
        """Reset the connection now; what was not sent is lost."""
        ...

    def trust(self) -> None:
        """The peer's first message was a handshake: from now on messages may have the full size."""
        ...

    def pause_reading(self) -> None:
        """Take no more from the peer. Messages of the read in hand (at most 256 KiB) still arrive."""
        ...

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        ...


class SocketReceiver(Protocol):
    """The calls of a wire, always from the event loop, never after `closed`.

    An exception out of any of these is logged once and closes the socket with 1011; the node goes on.
    """

    def opened(self, transport: SocketTransport, upgrade: Upgrade) -> None:
        """The upgrade was accepted: called once, before everything else. It may write and close already."""
        ...

    def text(self, data: bytes) -> None:
        """A whole text message, valid UTF-8, at most the message size limit."""
        ...

    def binary(self, data: bytes) -> None:
        """A whole binary message, at most the message size limit."""
        ...

    def heard(self) -> None:
        """A ping or pong came in: the peer lives. Pings are answered already; messages are signs of life themselves."""
        ...

    def writable(self, is_writable: bool) -> None:
        """False: the write buffer passed its high mark (this may come inside `write`). True: it drained below the low."""
        ...

    def draining(self) -> None:
        """The server is shutting down: announce it, then `close(1012)`. The server waits for the socket to end."""
        ...

    def closed(self, code: int) -> None:
        """The socket is gone; called exactly once, last.

        `code` is the peer's (1005 if it gave none) or ours, whoever closed first; 1006 without a closing handshake.
        """
        ...


ReceiverFactory = Callable[[Upgrade], SocketReceiver]
"""Makes the receiver of one socket, or raises `UpgradeRefused`."""


class Clock(Protocol):
    """A node's clocks."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def now(self) -> float:
        """Unix seconds."""
        ...


class AgentCard(Protocol):
    """An agent as `agent.list` shows it."""

    @property
    def name(self) -> str:
        """The name it is invoked by."""
        ...

    def to_json(self) -> dict[str, object]:
        """Name, description, availability and interactivity."""
        ...


class ServedAgents(Protocol):
    """The agents that workers serve now."""

    async def is_available(self, name: str) -> bool:
        """True when a worker serves it."""
        ...

    async def cards(self) -> Sequence[AgentCard]:
        """All that are known."""
        ...


class ChannelStates(Protocol):
    """The states of channels, folded from the log."""

    def key_reads(self, channel: Channel, *, live_only: bool = False) -> tuple[KeyRead, ...]:
        """Asks beside a look for all that the state of a channel needs of Redis where its fold stands at the head."""
        ...

    async def read_live(self, channel: Channel, sight: Sight) -> StateAt:
        """The live part as it was seen, and the runs and questions that are open; see `StateReader.read_live`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    async def read_from(self, channel: Channel, sight: Sight) -> StateAt:
        """The state as it was seen, with the answers to `key_reads` as the last; where the fold has to go on first, as `read`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    async def read(self, channel: Channel, look: Look) -> StateAt:
        """The state at the look's head or later, with the live part as of now.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    async def fold(self, channel: Channel, look: Look) -> ChannelState:
        """The fold itself, at the look's head or later. For reading, before the caller's next await.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...


class AccessPort(Protocol):
    """The access lists of channels, which narrow what tokens allow."""

    @property
    def change_count(self) -> int:
        """Changes of any channel's lists so far."""
        ...

    def key_reads(self, channel: Channel) -> tuple[KeyRead, ...]:
        """Asks for the lists beside a look; `learn` takes the answers."""
        ...

    def learn(self, channel: Channel, sight: Sight, as_of: int) -> None:
        """Keep the lists of a sight, its first answer, unless some have changed since `as_of`, the count before it."""
        ...

    async def require(self, channel: Channel, principal: Principal, action: str) -> None:
        """Refuse a user who is not on the list.

        Raises:
            HubError: 4003.
            LogUnavailable: Redis is unreachable.
        """
        ...

    def decide(
        self, handler: Handler, command: Command, connection: ClientConnection | None
    ) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Have a command's handler decide, once the channel's lists allow the command.

        Raises:
            HubError: 4003, or the handler's refusal.
        """
        ...

    def forget(self, channel: Channel) -> None:
        """Read the lists anew when they are next asked for: they may have changed."""
        ...


class FollowedChannel(Protocol):
    """A node's memory of a conversation, kept for as long as somebody follows it there.

    Attributes:
        default_agent: the agent its settings name, "" for nobody; None where it is not known.
        settings_count: changes of the settings seen so far.
    """

    default_agent: str | None
    settings_count: int

    def remember_agent(self, agent: str, settings_count: int) -> None:
        """Keep the agent that was looked up, unless the settings have changed since the count was taken."""
        ...

    def settings_changed(self) -> None:
        """The settings have changed: look the agent up with the next message."""
        ...


class NodePort(Protocol):
    """The node, as handlers, subscriptions and connections see it."""

    @property
    def name(self) -> str:
        """The node's name, unlike any other's."""
        ...

    @property
    def settings(self) -> Settings:
        """The node's settings."""
        ...

    @property
    def log(self) -> Log:
        """The log."""
        ...

    @property
    def states(self) -> ChannelStates:
        """The states of channels."""
        ...

    @property
    def clock(self) -> Clock:
        """The node's clocks."""
        ...

    @property
    def metrics(self) -> NodeMetrics:
        """The node's counters."""
        ...

    @property
    def verifier(self) -> TokenVerifier:
        """Checks tokens."""
        ...

    @property
    def admission(self) -> Admission:
        """Counts connections, failed attempts and what is stored."""
        ...

    @property
    def new_channels(self) -> NewChannels:
        """The users who have begun too many channels."""
        ...

    @property
    def access(self) -> AccessPort:
        """The access lists of channels."""
        ...

    @property
    def agents(self) -> ServedAgents:
        """The agents that are served now."""
        ...

    @property
    def uploads(self) -> UploadRequests | None:
        """Authorises uploads; None on a node that takes no files."""
        ...

    @property
    def fanouts(self) -> Mapping[Channel, FollowedChannel]:
        """The channels somebody follows on this node."""
        ...

    def as_hub_error(self, error: Exception) -> HubError:
        """The error a client is given for an exception."""
        ...

    def charge(self, principal: Principal, class_: str, cost: float) -> None:
        """Charge what a command turned out to cost beside itself: the user's next ones of its rate class wait for it."""
        ...

    async def delay(self, principal: Principal, class_: str) -> None:
        """Wait until a user is out of debt in a rate class, in bounded time."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with the node at the latest."""
        ...


class Encoding:
    """The ways in which events may be written to a socket: what its client announced, and what was agreed on.

    Sums of plain numbers: an operation on an enum's flags costs a microsecond, and there are several to each delivery.
    """

    PLAIN: Final = 0
    BATCH: Final = 1
    DEFLATE: Final = 2


class Subscriber(Protocol):
    """A connection, as its subscriptions see it.

    Attributes:
        is_writable: false while the write buffer is full: events then stay in the log.
        encoding: the way it is sent events.
        holds_state: it keeps the states of its channels, and needs only what is live of them when it comes back.
        wants_reasoning: deltas of reasoning are sent, too.
    """

    is_writable: bool
    encoding: int
    holds_state: bool
    wants_reasoning: bool

    def push(self, frames: bytes, /) -> None:
        """Write whole frames with the next flush."""
        ...

    def send(self, message: bytes, /) -> None:
        """Write a message with the next flush."""
        ...

    def tell(self, channel: Channel, message: bytes, /) -> None:
        """Write a message of a channel's contents with the next flush, compressed where that was agreed on."""
        ...

    def flush(self) -> None:
        """Write what was pushed."""
        ...

    async def drained(self) -> None:
        """Wait until the write buffer takes more."""
        ...

    def fail(self, error: HubError) -> None:
        """Tell an error, then close with its code."""
        ...


class ClientConnection(Protocol):
    """The connection a command came on, as a handler sees it.

    Attributes:
        session: the state of the protocol: caller, grants, capabilities.
        address: the address failed attempts count against.
        upgrade: the request that opened the socket; None once the handshake is accepted.
    """

    session: Session
    address: str
    upgrade: Upgrade | None

    def send(self, message: bytes, /) -> None:
        """Write a message with the next flush."""
        ...

    def refuse(self, error: HubError, re: str | None = None, channel: str | None = None) -> None:
        """Answer with an error, and close if it closes."""
        ...

    def establish(self, caller: Caller, wanted_session: str | None) -> None:
        """Accept the handshake: count the connection, take the session over, watch the token's end.

        Raises:
            HubError: 4004 or 4010.
        """
        ...

    def refresh(self, caller: Caller) -> None:
        """Go on with the same person's newer token."""
        ...

    def followed(self) -> list[Channel]:
        """The channels it follows."""
        ...

    async def subscribe(self, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Follow channels; each is answered for itself."""
        ...

    def unsubscribe(self, channel: Channel, *, is_asked: bool = True) -> bool:
        """Leave a channel; false when it was not followed. Unasked, its presence there ends only after a while."""
        ...

    def tell_status(self, channel: Channel, status: str) -> None:
        """Tell the followers of a channel the person's status."""
        ...

    async def tell_member(self, channel: Channel, status: MemberStatus) -> None:
        """Keep the person's status in a team, and tell its followers.

        Raises:
            LogUnavailable: Redis is unreachable; it is told when it is back.
        """
        ...

    def cursor_moved(self, wire: str) -> None:
        """A newer cursor is told in a document: drop the one that waits."""
        ...


Handler = Callable[["Command", ClientConnection | None], "Outcome | Coroutine[Any, Any, Outcome]"]
"""Takes a command and the connection it came on (None: over HTTP); decides its outcome."""
BinaryTaker = Callable[[ClientConnection, bytes], bool]
"""Takes a binary message; false where the client may send none."""
C_contra = TypeVar("C_contra", contravariant=True)


class ConnectionOwner(NodePort, Protocol[C_contra]):
    """The node, as its connections see it: besides, all that changes with them."""

    @property
    def limiter(self) -> RateLimiter:
        """The rate limits, shared by all connections."""
        ...

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handler of each event a client may send."""
        ...

    def charged(self, append: Append) -> tuple[Append, bool]:
        """Charge an event about to be stored. Returns what to append, and true when it was charged.

        Raises:
            HubError: 4004.
        """
        ...

    async def require_written(self, channel: Channel, principal: Principal) -> None:
        """Refuse a user who has begun too many channels one that nobody has written.

        Raises:
            HubError: 4004.
            LogUnavailable: Redis is away.
        """
        ...

    def opened(self, connection: C_contra) -> None:
        """The socket of a connection is open: count it, and give it its first deadline."""
        ...

    def disconnect(self, connection: C_contra) -> None:
        """The socket of a connection is gone."""
        ...

    def establish(self, connection: C_contra, caller: Caller, wanted_session: str | None) -> None:
        """Count an authenticated connection and give it its session.

        Raises:
            HubError: 4004 or 4010.
        """
        ...

    def token_changed(self, connection: C_contra) -> None:
        """Look at a connection's deadlines soon: its token has changed."""
        ...

    def keep_cursor(self, connection: C_contra, command: Command) -> None:
        """Send a cursor that came too fast a moment later."""
        ...

    def cursor_moved(self, connection: C_contra, wire: str) -> None:
        """Drop the cursor that waits in a document."""
        ...

    def take_binary(self, connection: C_contra, data: bytes) -> bool:
        """Hand a binary message to the uploads; false when this client may send none."""
        ...

    async def subscribe_all(self, connection: C_contra, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Subscribe a connection to channels; each is answered for itself."""
        ...

    def unsubscribe(self, connection: C_contra, channel: Channel, *, is_asked: bool) -> bool:
        """End a connection's subscription; false when it had none."""
        ...

    def tell_status(self, connection: C_contra, channel: Channel, status: str) -> None:
        """Tell the followers of a channel a person's status."""
        ...

    async def tell_member(self, connection: C_contra, channel: Channel, status: MemberStatus) -> None:
        """Keep a person's status in a team, and tell its followers."""
        ...

    def catch_up(self, connection: C_contra) -> None:
        """The socket takes more again: catch up what the connection is behind in."""
        ...

    def flush_soon(self, connection: C_contra) -> None:
        """Write what was pushed to a connection at the end of this tick."""
        ...

    def drain_delay_ms(self) -> int:
        """The pause after which a client that is sent away comes back."""
        ...
