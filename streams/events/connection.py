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
from streams.events.values import (
    ChannelName,
    Count,
    EventId,
    Int,
    Leaf,
    Maybe,
    Name,
    Ordinal,
    RunId,
    Text32,
    Text64,
    Time,
)
from streams.run_states import RunState

Level = Literal["memory", "fsync", "replicated"]
LEAF_TOLD = (
    "The event's leaf in the channel's Merkle tree, in hexadecimal; only for clients with the capability `leaf`, and not for a "
    "duplicate."
)
_STORED = frozenset({"id", "seq", "duplicate", "durability"})


class Stored(Payload):
    """The position of a stored command in its channel, and its durability: the failures that it survives."""

    id: EventId = Field(description="ID of the event that was stored; also the cursor after which a client resumes.")
    seq: Ordinal = Field(description="Position of the event in its channel: 1, 2, 3 … without holes.")
    duplicate: bool = Field(
        description="True if this command was stored before under the same command ID; nothing was stored again."
    )
    durability: Level = Field(
        description="The durability of the event: in Redis's memory (`memory`), on its disk (`fsync`), or on "
        "a replica (`replicated`)."
    )
    leaf: Maybe[Leaf] = Field(None, description=LEAF_TOLD)


class Ack(Payload):
    """The default reply: the fields of `Stored` if an event was stored, and the command's declared results."""

    id: Maybe[EventId] = Field(None, description="ID of the event that was stored; absent if the command stores none.")
    seq: Maybe[Ordinal] = Field(
        None, description="Position of the event in its channel; absent if the command stores none."
    )
    duplicate: Maybe[bool] = Field(
        None,
        description="True if this command was stored before under the same command ID; absent if the command stores none.",
    )
    durability: Maybe[Level] = Field(
        None,
        description="The durability of the stored event, as in every reply to a storing command; absent if "
        "the command stores none.",
    )
    leaf: Maybe[Leaf] = Field(None, description=LEAF_TOLD)
    dropped: Maybe[bool] = Field(
        None, description="True if the message was above its rate and was dropped; absent otherwise."
    )
    revision: Maybe[Count] = Field(
        None, description="Revision of the settings after the change; only for commands that change settings."
    )
    run_id: Maybe[RunId] = Field(
        None, description="ID of the run that the command started or refers to; only for commands of runs."
    )
    state: Maybe[RunState] = Field(
        None, description="State that the run has entered; only for commands that stop a run, and then `cancelling`."
    )
    channel: Maybe[ChannelName] = Field(None, description="Home channel of the run; only for `agent.invoke`.")
    disposition: Maybe[Literal["stored", "queued", "steering"]] = Field(
        None, description="The handling of the text; only for `agent.steer`, and then `steering`."
    )
    unread: Maybe[Count] = Field(
        None, description="Unread notifications that are left in the inbox; only for `team.notification.read`."
    )
    version: Maybe[Count] = Field(
        None,
        description="Version of the document after the update: the number of its updates; only for `document.update`.",
    )

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

    name: Maybe[Text64] = Field(None, description="Name of the client program; absent if it is not reported.")
    version: Maybe[Text32] = Field(None, description="Version of the client program; absent if it is not reported.")


class ConnectionInit(Payload):
    """The first message. `token` may be omitted if the upgrade request had an Authorization header."""

    model_config = ConfigDict(extra="ignore")

    token: Maybe[Token] = Field(
        None,
        description="The JWT that authenticates the client; absent if the upgrade request carried it as "
        "`Authorization: Bearer`.",
    )
    client_id: Maybe[Name] = Field(
        None,
        description="Name of the device, chosen by the client and kept by it; absent: the hub generates one "
        "for this connection.",
    )
    versions: Annotated[list[Int], Field(min_length=1, max_length=8)] = Field(
        description="Versions of the protocol that the client speaks; 1 must be among them, else 4014."
    )
    capabilities: Maybe[Annotated[list[Text32], Field(max_length=32)]] = Field(
        None, description="Optional features that the client supports; the hub ignores those that it does not know."
    )
    client: Maybe[ClientInfo] = Field(
        None, description="Name and version of the client program; absent if it is not reported."
    )
    channels: Maybe[Annotated[list[OpeningItem], Field(max_length=100)]] = Field(
        None,
        description="Channels to subscribe to at once, as in `channel.subscribe`; absent: none but the user's inbox.",
    )


class ConnectionReconnect(ConnectionInit):
    """The first message of a client that has cursors: it authenticates and resumes in one round trip."""

    session_id: Maybe[Text64] = Field(
        None,
        description="The session to resume, from `connection.ack`; its old socket is closed with 4020. Absent: a new "
        "session.",
    )
    cursors: Annotated[dict[ChannelText, CursorGiven], Field(max_length=200)] = Field(
        description="For each channel to resume, the position after which the client continues; a channel "
        "with a cursor need not be in `channels`."
    )


class ReconnectPolicy(Payload):
    """The bounds of the client's reconnect back-off, in milliseconds."""

    min_ms: Count = Field(description="Shortest wait before a new attempt to connect, in milliseconds.")
    max_ms: Count = Field(description="Longest wait before a new attempt to connect, in milliseconds.")


class ConnectionAck(Payload):
    """The connection is open: its identity, the negotiated version and capabilities, and its limits."""

    session_id: Text64 = Field(
        description="ID of this session, to be given to `connection.reconnect`; it grants no access without a token."
    )
    client_id: Name = Field(
        description="Name of the device: the one that the client gave, or one that the hub generated."
    )
    user: Name = Field(description="The authenticated user: the token's `sub`.")
    tenant: str = Field(description="The user's tenant, from the token.")
    version: Ordinal = Field(description="The protocol version that both sides use from now on.")
    capabilities: list[str] = Field(description="The client's capabilities that this hub supports.")
    heartbeat_interval_ms: Ordinal = Field(
        description="Milliseconds after which the client must send a heartbeat if it has sent nothing else; "
        "after two intervals of silence the hub closes with 4016."
    )
    message_size_limit_bytes: Ordinal = Field(
        description="Largest message that the hub accepts, in bytes; a larger one closes the connection with 1009."
    )
    max_subscriptions: Ordinal = Field(
        description="Channels that this connection may follow at a time; beyond it a subscription is refused with 4015."
    )
    token_expires_at: Time = Field(
        description="Time at which the token expires; without a refresh the connection is then closed with 4002."
    )
    node: str = Field(description="Name of the node that serves the connection, for logs and support.")
    server_time: Time = Field(description="The hub's time when it sent this message.")
    reconnect: ReconnectPolicy = Field(description="Bounds of the delay before the client reconnects after a loss.")
    variant: Maybe[str] = Field(
        None, description="Name of the variant of the hub that serves this user; absent if there is only one."
    )


class ConnectionHeartbeat(Payload):
    """Shows that the client is alive; the payload is empty."""


class HeartbeatAnswer(Payload):
    """The answer to a heartbeat. `cursors` is reserved (cursors that keep idle clients above the floor) and is not sent yet."""

    server_time: Time = Field(description="The hub's time when it sent this message.")
    cursors: Maybe[dict[str, EventId]] = Field(
        None,
        description="Reserved, and not sent yet: the newest position that the hub knows of this client, by channel.",
    )


class ErrorField(Payload):
    """An invalid field and its problem."""

    model_config = ConfigDict(title="ErrorDetail")

    field: str = Field(description="Path of the field in the payload, such as `parts.0.file_id`.")
    problem: str = Field(description="The problem, as the end of a sentence that begins with the field.")


class ConnectionError_(Payload):  # noqa: N801 - ConnectionError is Python's own
    """An error: of one command if the message has `re`, otherwise of the connection, which is then closed."""

    code: Annotated[int, Field(ge=4001, le=4099)] = Field(
        description="The code from the table of errors, for programs."
    )
    name: str = Field(description="The name that belongs to the code.")
    message: str = Field(description="The problem and its remedy, for people; it repeats nothing that the client sent.")
    retry: Literal["no", "refresh", "backoff", "now"] = Field(
        description="The client's next step: give up (`no`), get a new token (`refresh`), wait and try again "
        "(`backoff`), or reconnect at once (`now`)."
    )
    retry_after_ms: Maybe[Count] = Field(
        None,
        description="Milliseconds to wait before trying again; absent if the hub has no better figure than the client's "
        "own back-off.",
    )
    details: Maybe[list[ErrorField]] = Field(
        None, description="The fields at fault, ten at most; absent if no field is."
    )


class ConnectionRefresh(Payload):
    """A new token for the same user and tenant."""

    token: Token = Field(description="The new JWT, for the same user and tenant; another user's is refused with 4001.")


class ConnectionRefreshed(Payload):
    """The connection now uses the new token."""

    token_expires_at: Time = Field(description="Time at which the new token expires.")


class ConnectionExpiring(Payload):
    """The token is about to expire; refresh it, or the connection closes with 4002."""

    in_ms: Count = Field(description="Milliseconds until the token expires and the connection is closed with 4002.")


class ConnectionDrain(Payload):
    """This node lets the connection go: reconnect after the given, randomised time. Close code 1012 follows."""

    reconnect_after_ms: Count = Field(
        description="Milliseconds to wait before connecting again; random, so that clients do not return all at once."
    )
    reason: Maybe[Literal["websocket_off"]] = Field(
        None,
        description="Reason other than a restart: `websocket_off` if the user may not use WebSocket any more.",
    )


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
