"""The interfaces between the packages of a node, as Protocols. Pure.

- `Subscriber`: a connection, as its subscriptions see it.
- `ClientConnection`: the connection that sent a command, as a handler sees it.
- `NodePort`: the node, as handlers see it; `ConnectionOwner`: the same, with the methods that only connections call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

    from hub.auth.permissions import Lists
    from hub.auth.tokens import Principal
    from hub.auth.verifier import Verifier
    from hub.config import Settings
    from hub.errors import HubError
    from hub.limits.admission import Admission
    from hub.limits.new_channels import NewChannels
    from hub.limits.rates import RateLimiter
    from hub.limits.slices import Slices
    from hub.metrics import NodeMetrics
    from hub.protocol.commands import Append, Caller, Command, Outcome
    from hub.protocol.replies import StateAt
    from hub.protocol.session import Session
    from hub.protocol.subscription import RefusedChannel, SubscribeRequest
    from hub.rollout import RolloutDecision
    from hub.sockets import Upgrade
    from hub.uploads.requests import UploadRequests
    from projections.channel_state import ChannelState
    from streams.channel import Channel
    from streams.cursor import Look
    from streams.events.custom import OwnEvents
    from streams.records.presence import MemberStatus
    from streams.redis.log import Log
    from streams.redis.sights import KeyRead, Sight
    from streams.tracing import Tracing


class Clock(Protocol):
    """A node's clocks."""

    def monotonic(self) -> float:
        """Returns seconds that never go back."""
        ...

    def now(self) -> float:
        """Returns Unix seconds."""
        ...


class AgentCard(Protocol):
    """An agent as listed by `agent.list`."""

    @property
    def name(self) -> str:
        """The name used to invoke it."""
        ...

    def to_json(self) -> dict[str, object]:
        """Returns name, description, availability and interactivity."""
        ...


class ServedAgents(Protocol):
    """The agents that workers serve at the moment."""

    async def is_available(self, name: str) -> bool:
        """Returns True if a worker serves the agent."""
        ...

    async def cards(self) -> Sequence[AgentCard]:
        """Returns all known agents."""
        ...


class ChannelStates(Protocol):
    """The states of channels, folded from the log.

    A `Look` is a channel's head, floor and epoch as read at one moment; a `Sight` is a look together with the
    answers to further reads in the same round trip.
    """

    def key_reads(self, channel: Channel, *, live_only: bool = False) -> tuple[KeyRead, ...]:
        """Returns the reads to add to a `Sight`, enough for the channel's state if its cached fold is at the head."""
        ...

    async def read_live(self, channel: Channel, sight: Sight) -> StateAt:
        """Returns the live part as of `sight`, with open runs and questions; see `StateReader.read_live`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    async def read_from(self, channel: Channel, sight: Sight) -> StateAt:
        """Returns the state as of `sight`, which ends with the answers to `key_reads`; if the fold is behind it, as `read` does.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    def read_from_now(self, channel: Channel, sight: Sight) -> StateAt | None:
        """Returns the same as `read_from`; None if that takes another round trip."""
        ...

    def read_live_now(self, channel: Channel, sight: Sight) -> StateAt | None:
        """Returns the same as `read_live`; None if that takes another round trip."""
        ...

    async def read(self, channel: Channel, look: Look) -> StateAt:
        """Returns the state at the head of `look` or later, with the current live part.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...

    async def fold(self, channel: Channel, look: Look) -> ChannelState:
        """Returns the folded state at the head of `look` or later. Valid only until the caller's next `await`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        ...


class AccessPort(Protocol):
    """The access lists of channels, which restrict what tokens allow."""

    @property
    def change_count(self) -> int:
        """Number of calls of `forget` so far, for any channel."""
        ...

    def key_reads(self, channel: Channel) -> tuple[KeyRead, ...]:
        """Returns the reads to add to a `Sight` of the channel; `learn` processes the answers."""
        ...

    def learn(self, channel: Channel, sight: Sight, as_of: int) -> Lists:
        """Returns the lists that a followed channel's `Sight` read first; caches them unless any changed since `as_of`.

        `as_of` is `change_count` when the sight was requested.
        """
        ...

    def unfollowed(self, channel: Channel) -> None:
        """Drops the cached lists of a channel whose changes are not reported any more."""
        ...

    def refuse(self, lists: Lists, principal: Principal, action: str) -> None:
        """Refuses a user who is not on the list of an action.

        Raises:
            HubError: 4003.
        """
        ...

    async def require(self, channel: Channel, principal: Principal, action: str) -> None:
        """Refuses a user who is not on the list of an action.

        Raises:
            HubError: 4003.
            LogUnavailable: Redis is unreachable.
        """
        ...

    def decide(
        self, handler: Handler, command: Command, connection: ClientConnection | None
    ) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Calls a command's handler if the channel's lists allow the command.

        Raises:
            HubError: 4003, or the handler's refusal.
        """
        ...

    def forget(self, channel: Channel) -> None:
        """Drops the cached lists of a channel, because they may have changed."""
        ...


class OperatorCallsPort(Protocol):
    """Records the uses of tokens with a scope."""

    async def record(self, principal: Principal, call: str, channels: Iterable[str] = ()) -> None:
        """Records a call before it is answered; a token without a scope is not recorded.

        Raises:
            HubError: the call cannot be recorded, so it may not be answered.
        """
        ...

    async def record_command(self, command: Command) -> None:
        """Records a command that reads.

        Raises:
            HubError: as in `record`.
        """
        ...


class RolloutsPort(Protocol):
    """The rollouts of the tenants: which users may use WebSocket, and which have a variant."""

    async def decide(self, tenant: str, user: str) -> RolloutDecision:
        """Returns the flags of a user who connects. Valid only until the caller's next `await`."""
        ...


class FollowedChannel(Protocol):
    """A node's cache for a conversation that has a subscriber there.

    Attributes:
        default_agent: the conversation's default agent, "" for none; None if not known.
        settings_count: changes of the settings seen so far.
    """

    default_agent: str | None
    settings_count: int

    def remember_agent(self, agent: str, settings_count: int) -> None:
        """Caches the default agent, unless the settings have changed since `settings_count` was taken."""
        ...

    def settings_changed(self) -> None:
        """Drops the cached default agent, so that it is read again for the next message."""
        ...


class NodePort(Protocol):
    """The node, as handlers, subscriptions and connections see it."""

    @property
    def name(self) -> str:
        """The node's unique name."""
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
    def tracing(self) -> Tracing | None:
        """Records traces; None where that is off."""
        ...

    @property
    def verifier(self) -> Verifier:
        """Authenticates callers."""
        ...

    @property
    def admission(self) -> Admission:
        """Counts connections, failed attempts and stored bytes."""
        ...

    @property
    def new_channels(self) -> NewChannels:
        """The users who have exceeded the rate of new channels."""
        ...

    @property
    def access(self) -> AccessPort:
        """The access lists of channels."""
        ...

    @property
    def operator_calls(self) -> OperatorCallsPort:
        """The record of the uses of tokens with a scope."""
        ...

    @property
    def rollouts(self) -> RolloutsPort:
        """The rollouts of the tenants."""
        ...

    @property
    def agents(self) -> ServedAgents:
        """The agents that workers serve at the moment."""
        ...

    @property
    def uploads(self) -> UploadRequests | None:
        """Authorises uploads; None on a node that accepts no files."""
        ...

    @property
    def slices(self) -> Slices:
        """Grants the time for long work."""
        ...

    @property
    def fanouts(self) -> Mapping[Channel, FollowedChannel]:
        """The channels with a subscriber on this node."""
        ...

    def as_hub_error(self, error: Exception) -> HubError:
        """Converts an exception to the error for the client."""
        ...

    def charge(self, principal: Principal, class_: str, cost: float) -> None:
        """Charges the additional cost of a command, known only afterwards: the user's next commands of this class wait for it."""
        ...

    async def delay(self, principal: Principal, class_: str) -> None:
        """Waits, for a bounded time, until a user is out of debt in a rate class."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a background task that ends with the node at the latest."""
        ...


class Encoding:
    """The encodings of events for a socket: the sum of what its client announced and negotiated.

    Plain numbers, because an operation on an enum's flags costs a microsecond, and every delivery needs several.
    """

    PLAIN: Final = 0
    BATCH: Final = 1
    DEFLATE: Final = 2


class Subscriber(Protocol):
    """A connection, as its subscriptions see it.

    Attributes:
        is_writable: False while the write buffer is full: events then stay in the log.
        encoding: the encoding of events sent to this client.
        holds_state: True if the client keeps channel states, and after a resume needs only their live part.
        wants_reasoning: True if deltas of an agent's reasoning are sent too.
    """

    is_writable: bool
    encoding: int
    holds_state: bool
    wants_reasoning: bool

    def push(self, frames: bytes, /) -> None:
        """Queues complete frames for the next flush."""
        ...

    def send(self, message: bytes, /) -> None:
        """Queues a message for the next flush."""
        ...

    def tell(self, channel: Channel, message: bytes, /) -> None:
        """Queues a message with a channel's contents for the next flush, compressed where that was negotiated."""
        ...

    def flush(self) -> None:
        """Writes the queued output."""
        ...

    async def drained(self) -> None:
        """Waits until the write buffer has room."""
        ...

    def fail(self, error: HubError) -> None:
        """Sends an error, then closes with its code."""
        ...


class ClientConnection(Protocol):
    """The connection that sent a command, as a handler sees it.

    Attributes:
        session: the state of the protocol: caller, grants, capabilities.
        address: the client address under which failed attempts are counted.
        upgrade: the request that opened the socket; None once the handshake is accepted.
    """

    session: Session
    address: str
    upgrade: Upgrade | None

    def send(self, message: bytes, /) -> None:
        """Queues a message for the next flush."""
        ...

    def refuse(self, error: HubError, re: str | None = None, channel: str | None = None) -> None:
        """Answers with an error, and closes the socket if the error says so."""
        ...

    def establish(self, caller: Caller, wanted_session: str | None) -> None:
        """Accepts the handshake: counts the connection, takes over the session, and watches the token's expiry.

        Raises:
            HubError: 4004 or 4010.
        """
        ...

    def refresh(self, caller: Caller) -> None:
        """Continues with a newer token of the same user."""
        ...

    def followed(self) -> list[Channel]:
        """Returns the channels that it follows."""
        ...

    async def subscribe(self, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Subscribes to channels; each gets its own answer."""
        ...

    def unsubscribe(self, channel: Channel, *, is_asked: bool = True) -> bool:
        """Unsubscribes from a channel; returns False if it was not followed.

        `is_asked` is False if the client did not ask for it: then its presence ends only after the grace
        period.
        """
        ...

    def tell_status(self, channel: Channel, status: str) -> None:
        """Sends the user's status to the channel's subscribers."""
        ...

    async def tell_member(self, channel: Channel, status: MemberStatus) -> None:
        """Stores the user's status as a member of a team, and sends it to the team's subscribers.

        Raises:
            LogUnavailable: Redis is unreachable; the status is sent once it is back.
        """
        ...

    def cursor_moved(self, wire: str) -> None:
        """Discards the client's delayed cursor in the document with this wire name, because a newer one was sent."""
        ...


Handler = Callable[["Command", ClientConnection | None], "Outcome | Coroutine[Any, Any, Outcome]"]
"""Decides the outcome of a command from a connection (None: from HTTP)."""
BinaryTaker = Callable[[ClientConnection, bytes], bool]
"""Handles a binary message; returns False if the client may send none."""
C_contra = TypeVar("C_contra", contravariant=True)


class ConnectionOwner(NodePort, Protocol[C_contra]):
    """The node, as its connections see it: a `NodePort` with the methods that only connections call."""

    @property
    def limiter(self) -> RateLimiter:
        """The rate limits, shared by all connections."""
        ...

    @property
    def own_events(self) -> OwnEvents:
        """The event types beside the catalogue."""
        ...

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handler of each row of event types that a client may send."""
        ...

    def charged(self, append: Append) -> tuple[Append, bool]:
        """Charges an event that is about to be stored; returns what to append, and True if it was charged.

        Raises:
            HubError: 4004.
        """
        ...

    async def require_written(self, channel: Channel, principal: Principal) -> None:
        """Refuses to start a channel for a user who has recently started too many.

        Raises:
            HubError: 4004: the channel has no events yet, and the user has recently started too many channels.
            LogUnavailable: Redis is unreachable.
        """
        ...

    def opened(self, connection: C_contra) -> None:
        """Counts a new connection and sets its first deadline."""
        ...

    def disconnect(self, connection: C_contra) -> None:
        """Removes a connection whose socket has closed."""
        ...

    def establish(self, connection: C_contra, caller: Caller, wanted_session: str | None) -> None:
        """Counts an authenticated connection and assigns its session.

        Raises:
            HubError: 4004 or 4010.
        """
        ...

    def token_changed(self, connection: C_contra) -> None:
        """Checks a connection's deadlines soon, because its token has changed."""
        ...

    def keep_cursor(self, connection: C_contra, command: Command) -> None:
        """Delays a document cursor that exceeded its rate: it is sent a moment later, unless a newer one is sent first."""
        ...

    def cursor_moved(self, connection: C_contra, wire: str) -> None:
        """Discards the client's delayed cursor in the document with this wire name, because a newer one was sent."""
        ...

    def take_binary(self, connection: C_contra, data: bytes) -> bool:
        """Passes a binary message to the uploads; returns False if this client may send none."""
        ...

    async def subscribe_all(self, connection: C_contra, requests: Iterable[SubscribeRequest | RefusedChannel]) -> None:
        """Subscribes a connection to channels; each gets its own answer."""
        ...

    def unsubscribe(self, connection: C_contra, channel: Channel, *, is_asked: bool) -> bool:
        """Ends a connection's subscription; returns False if it had none."""
        ...

    def tell_status(self, connection: C_contra, channel: Channel, status: str) -> None:
        """Sends a user's status to the channel's subscribers."""
        ...

    async def tell_member(self, connection: C_contra, channel: Channel, status: MemberStatus) -> None:
        """Stores a user's status as a member of a team, and sends it to the team's subscribers."""
        ...

    def catch_up(self, connection: C_contra) -> None:
        """Continues sending a connection the events that it lags behind, because its write buffer has room again."""
        ...

    def flush_soon(self, connection: C_contra) -> None:
        """Schedules writing a connection's queued output at the end of this loop iteration."""
        ...

    def drain_delay_ms(self) -> int:
        """Returns the pause in milliseconds after which a disconnected client should reconnect."""
        ...
