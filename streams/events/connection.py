"""The payloads of connection.* and `ack` (docs/events.md#connection): handshake, heartbeat, token refresh, errors. Pure.

Only `connection.init` and `connection.reconnect` ignore unknown fields; so a newer client can connect to an older hub.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from streams.envelope import Lane
from streams.events.channels import ChannelText, CursorGiven, OpeningItem
from streams.events.declaration import NO_CHANNEL, Direction, EventType, Payload, broken
from streams.events.values import ChannelName, Count, EventId, Int, Maybe, Name, Ordinal, RunId, Text32, Text64, Time
from streams.run_states import RunState

Level = Literal["memory", "fsync", "replicated"]
_STORED = frozenset({"id", "seq", "duplicate", "durability"})


class Stored(Payload):
    """The position of a stored command in its channel, and its durability: the failures that it survives."""

    id: EventId
    seq: Ordinal
    duplicate: bool
    durability: Level


class Ack(Payload):
    """The default reply: the fields of `Stored` if an event was stored, and the command's declared results."""

    id: Maybe[EventId] = None
    seq: Maybe[Ordinal] = None
    duplicate: Maybe[bool] = None
    durability: Maybe[Level] = None
    dropped: Maybe[bool] = None
    revision: Maybe[Count] = None
    run_id: Maybe[RunId] = None
    state: Maybe[RunState] = None
    channel: Maybe[ChannelName] = None
    disposition: Maybe[Literal["stored", "queued", "steering"]] = None
    unread: Maybe[Count] = None
    version: Maybe[Count] = None

    @model_validator(mode="after")
    def _stored_whole(self) -> Ack:
        """Require the four fields of `Stored` together or not at all."""
        if len(_STORED & self.model_fields_set) not in (0, len(_STORED)):
            raise broken("must have id, seq, duplicate and durability, or none of them")
        return self


Token = Annotated[str, Field(max_length=8192)]
HANDSHAKE_ERRORS = (4001, 4002, 4008, 4010, 4014, 4019, 4023, 4024)


class ClientInfo(Payload):
    """Name and version of the client program, for logs and support."""

    model_config = ConfigDict(extra="ignore")

    name: Maybe[Text64] = None
    version: Maybe[Text32] = None


class ConnectionInit(Payload):
    """The first message. `token` may be omitted if the upgrade request had an Authorization header."""

    model_config = ConfigDict(extra="ignore")

    token: Maybe[Token] = None
    client_id: Maybe[Name] = None
    versions: Annotated[list[Int], Field(min_length=1, max_length=8)]
    capabilities: Maybe[Annotated[list[Text32], Field(max_length=32)]] = None
    client: Maybe[ClientInfo] = None
    channels: Maybe[Annotated[list[OpeningItem], Field(max_length=100)]] = None


class ConnectionReconnect(ConnectionInit):
    """The first message of a client that has cursors: it authenticates and resumes in one round trip."""

    session_id: Maybe[Text64] = None
    cursors: Annotated[dict[ChannelText, CursorGiven], Field(max_length=200)]


class ReconnectPolicy(Payload):
    """The bounds of the client's reconnect back-off, in milliseconds."""

    min_ms: Count
    max_ms: Count


class ConnectionAck(Payload):
    """The connection is open: its identity, the negotiated version and capabilities, and its limits."""

    session_id: Text64
    client_id: Name
    user: Name
    tenant: str
    version: Ordinal
    capabilities: list[str]
    heartbeat_interval_ms: Ordinal
    message_size_limit_bytes: Ordinal
    max_subscriptions: Ordinal
    token_expires_at: Time
    node: str
    server_time: Time
    reconnect: ReconnectPolicy
    variant: Maybe[str] = None


class ConnectionHeartbeat(Payload):
    """Shows that the client is alive; the payload is empty."""


class HeartbeatAnswer(Payload):
    """The answer to a heartbeat. `cursors` is reserved (cursors that keep idle clients above the floor) and is not sent yet."""

    server_time: Time
    cursors: Maybe[dict[str, EventId]] = None


class ErrorField(Payload):
    """An invalid field and its problem."""

    model_config = ConfigDict(title="ErrorDetail")

    field: str
    problem: str


class ConnectionError_(Payload):  # noqa: N801 - ConnectionError is Python's own
    """An error: of one command if the message has `re`, otherwise of the connection, which is then closed."""

    code: Annotated[int, Field(ge=4001, le=4099)]
    name: str
    message: str
    retry: Literal["no", "refresh", "backoff", "now"]
    retry_after_ms: Maybe[Count] = None
    details: Maybe[list[ErrorField]] = None


class ConnectionRefresh(Payload):
    """A new token for the same user and tenant."""

    token: Token


class ConnectionRefreshed(Payload):
    """The connection now uses the new token."""

    token_expires_at: Time


class ConnectionExpiring(Payload):
    """The token is about to expire; refresh it, or the connection closes with 4002."""

    in_ms: Count


class ConnectionDrain(Payload):
    """This node is about to restart: reconnect after the given, randomised time. Close code 1012 follows."""

    reconnect_after_ms: Count


_row = partial(EventType, lane=Lane.CONNECTION, kinds=NO_CHANNEL)
_from_hub = partial(_row, direction=Direction.OUT)

EVENTS: tuple[EventType, ...] = (
    EventType(
        name="ack",
        model=Ack,
        direction=Direction.OUT,
        lane=Lane.CONNECTION,
        kinds=NO_CHANNEL,
        summary="A command was accepted; with the fields of Stored, it is in the stream.",
    ),
    _row(
        name="connection.init",
        model=ConnectionInit,
        direction=Direction.IN,
        rate="auth",
        reply="connection.ack",
        errors=HANDSHAKE_ERRORS,
        summary="Authenticates the connection; may subscribe at once.",
    ),
    _row(
        name="connection.reconnect",
        model=ConnectionReconnect,
        direction=Direction.IN,
        rate="auth",
        reply="connection.ack",
        errors=(*HANDSHAKE_ERRORS, 4003, 4006),
        summary="Authenticates and resumes every channel from its cursor.",
    ),
    _from_hub(name="connection.ack", model=ConnectionAck, ag_ui="capabilities", summary="The connection is open."),
    _row(
        name="connection.heartbeat",
        model=ConnectionHeartbeat,
        direction=Direction.IN,
        rate="control",
        reply="connection.heartbeat",
        reply_model=HeartbeatAnswer,
        errors=(4016,),
        is_id_required=False,
        summary="Shows that the client is alive; answered with the hub's time.",
    ),
    _from_hub(
        name="connection.error",
        model=ConnectionError_,
        ag_ui="RUN_ERROR",
        summary="An error of one command or of the connection.",
    ),
    _row(
        name="connection.refresh",
        model=ConnectionRefresh,
        direction=Direction.IN,
        rate="auth",
        reply="connection.refreshed",
        errors=(4001, 4002, 4019),
        summary="Gives the connection a new token.",
    ),
    _from_hub(name="connection.refreshed", model=ConnectionRefreshed, summary="The new token is in use."),
    _from_hub(name="connection.expiring", model=ConnectionExpiring, summary="The token expires soon."),
    _from_hub(name="connection.drain", model=ConnectionDrain, summary="The node restarts; reconnect as advised."),
)
