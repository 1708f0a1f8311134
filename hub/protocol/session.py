"""The protocol's state machine for one socket, without I/O and without a clock. Pure.

    OPENING ──init, reconnect──▶ AUTHENTICATING ──established──▶ READY ──▶ CLOSED
       │ anything else: 4001          │ refused: its code           │ a second init: 4023
       ▼                              ▼                             ▼
     CLOSED                         CLOSED                        CLOSED

`read` splits a text message into JSON values; `take` turns each, in order, into a command or an error. The caller
sends the errors, carries out the commands one after another, and calls `take` no further while the session is
AUTHENTICATING or a command that needs the log is in progress.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from pydantic_core import from_json

from hub.auth.permissions import Scope
from hub.auth.tokens import Principal
from hub.errors import ErrorDetail, HubError
from hub.limits.rates import RateLimiter, RefusalWindow
from hub.protocol.commands import Caller, Command
from streams.channel import Channel, parse_channel
from streams.envelope import Lane
from streams.errors import MalformedChannel
from streams.events import CATALOGUE, EventType, Payload
from streams.events.custom import ANY_OWN, OwnEvents
from streams.events.validation import InvalidPayload, validate
from streams.tracing import valid_traceparent

ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
ARRAY_MAX: Final = 100
_FIELDS: Final = frozenset({"type", "id", "channel", "payload", "meta"})
_READABLE_ID: Final = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,64})"')
_NO_PAYLOAD: Final[Mapping[str, object]] = {}
HANDSHAKES: Final = frozenset({"connection.init", "connection.reconnect"})
_SENDABLE: Final = {name: event for name, event in CATALOGUE.items() if event.is_inbound and event.is_served}
UNREADABLE_MAX: Final = 3
"""Messages in a row that are not JSON objects, after which a client is disconnected: it uses another protocol."""


class ClientMessage(NamedTuple):
    """One message of a client, with its fields checked; `payload` is still unchecked."""

    type: str
    id: str | None
    channel: str | None
    payload: Mapping[str, object]
    has_unknown_fields: bool = False
    traceparent: str | None = None


class Unreadable(HubError):
    """The message is not JSON, not an object, or too deep.

    Three in a row close the socket. `re` is its id if it has one.
    """

    def __init__(self, message: str, re: str | None) -> None:
        super().__init__(4005, message)
        self.re = re


class BadMessage(HubError):
    """The message is a JSON object but has a missing or malformed field."""

    def __init__(self, field: str, problem: str, re: str | None) -> None:
        super().__init__(4005, f"{field} {problem}", details=(ErrorDetail(field, problem),))
        self.re = re


class SessionState(Enum):
    """The states of a session."""

    OPENING = auto()
    AUTHENTICATING = auto()
    READY = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is answered with an error. `re` is its id if it has one."""

    error: HubError
    re: str | None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message above the rate of a class that may lose messages; answered `ack{dropped: true}` if it has an id.

    `late` is the command to carry out later, where the newest one is kept; None if it is dropped for good.
    """

    re: str | None
    channel: str | None
    late: Command | None = None


Received = Command | Refused | Dropped


class Session:
    """The state machine of one socket.

    Args:
        limiter: the node's rate limits, shared by all sessions; `take` passes it the time.
        own_events: the event types beside the catalogue.
    """

    __slots__ = ("_limiter", "_own_events", "_refusals", "_unreadable_count", "caller", "id", "state")

    def __init__(self, limiter: RateLimiter, own_events: OwnEvents = ANY_OWN) -> None:
        self.state = SessionState.OPENING
        self.id = ""
        self.caller: Caller | None = None
        self._limiter = limiter
        self._own_events = own_events
        self._refusals: RefusalWindow | None = None
        self._unreadable_count = 0

    @property
    def principal(self) -> Principal:
        """The authenticated user; available only while READY."""
        if self.caller is None:
            raise ValueError("the session is not established")
        return self.caller.principal

    def established(self, session_id: str, caller: Caller) -> None:
        """Records that the handshake was accepted: messages are commands from now on."""
        self.id = session_id
        self.caller = caller
        self.state = SessionState.READY

    def refreshed(self, caller: Caller) -> None:
        """Replaces the token by a newer one of the same user."""
        self.caller = caller

    def closed(self) -> None:
        """Ends the session: nothing more is accepted."""
        self.state = SessionState.CLOSED

    def forget_caller(self) -> None:
        """Releases the caller of a closed socket."""
        self.caller = None

    def read(self, data: bytes) -> list[object] | Refused:
        """Parses one text message into JSON values for `take`, or refuses it as a whole."""
        try:
            return read_values(data)
        except Unreadable as error:
            return self._unreadable(error)

    def take(self, value: object, now: float) -> Received:
        """Turns one JSON value into a command or a refusal. `now` is monotonic, in seconds."""
        try:
            message = read_message(value)
        except Unreadable as unreadable:  # one name for each type: a compiled function keeps the first one's
            return self._unreadable(unreadable)
        except BadMessage as bad:
            self._unreadable_count = 0
            return self._refuse(bad, bad.re)
        self._unreadable_count = 0
        if message.has_unknown_fields and message.type not in HANDSHAKES:
            unknown = BadMessage("message", "has fields other than type, id, channel, payload, meta", message.id)
            return self._refuse(unknown, message.id, message.channel)
        if self.state is not SessionState.READY:
            return self._shake(message)
        try:
            return self._command(message, now)
        except HubError as error:
            return self._refuse(error, message.id, message.channel, now)

    def _shake(self, message: ClientMessage) -> Received:
        if message.type not in HANDSHAKES or self.state is not SessionState.OPENING:
            return self._refuse(
                HubError(4001, "the first message must be connection.init or connection.reconnect"), message.id
            )
        event = CATALOGUE[message.type]
        try:
            _require_id(event, message)
            payload, data = _validated(event, message)
        except HubError as error:
            return self._refuse(error, message.id)
        self.state = SessionState.AUTHENTICATING
        return Command(event, message.id, None, payload, data, _NOBODY, message.traceparent)

    def _command(self, message: ClientMessage, now: float) -> Received:
        if message.type in HANDSHAKES:
            raise HubError(4023, "this socket is already initialised; open another one")
        caller = self.caller or _NOBODY
        event = known_event(message.type, self._own_events)
        _require_id(event, message)
        if (refusal := self._limit(event, message, now)) is not None:
            return refusal
        return check_command(event, message, caller)

    def _limit(self, event: EventType, message: ClientMessage, now: float) -> Dropped | None:
        if self._limiter.is_off or event.rate is None or self.caller is None:
            return None
        if event.rate == "auth":  # only failures count, and the verification counts them
            return None
        principal = self.caller.principal
        key: tuple[object, ...] = (principal.tenant, principal.user)
        retry_after_ms = None
        if event.rate == "control":
            key = (*key, self.id)
        elif event.rate == "live":
            # Without a limit over all channels, a user could fill the table of buckets, and Redis, with channel names.
            retry_after_ms = self._limiter.take(key, "signals", now)
            key = (*key, _known_wire(principal.tenant, message.channel), event.name)
        if retry_after_ms is None:
            retry_after_ms = self._limiter.take(key, event.rate, now, _cost(event, message))
        if retry_after_ms is None:
            return None
        if event.lane is Lane.LIVE or event.rate == "control":
            late = _late(event, message, self.caller) if event.rate == "cursor" else None
            return Dropped(message.id if event.lane is Lane.LIVE else None, message.channel, late)
        raise HubError(4004, "too many commands of this kind; retry later", retry_after_ms=retry_after_ms)

    def _refuse(self, error: HubError, re: str | None, channel: str | None = None, now: float | None = None) -> Refused:
        if error.row.name == "rate_limited" and now is not None:
            self._refusals = self._refusals or RefusalWindow()
            if not error.closes:
                error.amended(closes=self._refusals.note(now))
        if error.closes:
            self.state = SessionState.CLOSED
        return Refused(error, re, channel if re else None)

    def _unreadable(self, error: Unreadable) -> Refused:
        self._unreadable_count += 1
        error.amended(closes=self._unreadable_count >= UNREADABLE_MAX)
        return self._refuse(error, error.re)


def read_values(data: bytes) -> list[object]:
    """Parses one text message: returns the object, or the elements of the array.

    Raises:
        Unreadable: not JSON, neither object nor array, nested too deeply, or an array of none or more than 100.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        is_deep = "recursion" in str(error)
        sentence = (
            "the message is nested too deeply" if is_deep else "send one JSON object, or an array of them, in UTF-8"
        )
        raise Unreadable(sentence, _readable_id(data)) from None
    if isinstance(value, list):
        if not 1 <= len(value) <= ARRAY_MAX:
            raise Unreadable("an array must have 1 to 100 messages", None)
        return value
    return [value]


def read_message(value: object) -> ClientMessage:
    """Reads the fields of a message from a JSON value.

    Raises:
        Unreadable: not an object.
        BadMessage: a field of the message is missing or of the wrong type.
    """
    if not isinstance(value, dict):
        raise Unreadable("a message must be a JSON object", None)
    given_id = value.get("id")
    re_id = given_id if isinstance(given_id, str) and ID.fullmatch(given_id) else None
    if given_id is not None and re_id is None:
        raise BadMessage("id", "must be 1 to 64 of A-Z a-z 0-9 _ . : -", None)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise BadMessage("type", "must be a string", re_id)
    channel = value.get("channel")
    if channel is not None and not isinstance(channel, str):
        raise BadMessage("channel", "must be a string", re_id)
    payload = value.get("payload", _NO_PAYLOAD)
    if not isinstance(payload, dict) and payload is not _NO_PAYLOAD:
        raise BadMessage("payload", "must be an object", re_id)
    meta = value.get("meta")
    traceparent = None if meta is None else _read_meta(meta, re_id)
    return ClientMessage(kind, re_id, channel, payload, not _FIELDS.issuperset(value), traceparent)


def _read_meta(meta: object, re_id: str | None) -> str:
    traceparent = valid_traceparent(meta.get("traceparent")) if isinstance(meta, dict) and len(meta) == 1 else None
    if traceparent is None:
        raise BadMessage("meta", "must be an object with a `traceparent` of the W3C, version 00", re_id)
    return traceparent


def _readable_id(data: bytes) -> str | None:
    found = _READABLE_ID.search(data, 0, 4096)
    return found[1].decode() if found else None


def known_event(type_: str, own_events: OwnEvents) -> EventType:
    """Returns the declaration of an event type that clients may send.

    Raises:
        HubError: 4005: unknown or not for clients.
    """
    event = _SENDABLE.get(type_) or own_events.find(type_)
    if event is None:
        raise HubError(
            4005, "unknown type; /asyncapi.json lists what may be sent", details=(ErrorDetail("type", "is unknown"),)
        )
    return event


def check_command(event: EventType, message: ClientMessage, caller: Caller) -> Command:
    """Checks channel, permission and payload of a message, in the order of docs/protocol.md#order-of-checks.

    Raises:
        HubError: 4003, 4005, 4006, 4011.
    """
    channel = _place(event, message, caller)
    if (
        channel is not None
        and event.action is not None
        and not caller.principal.grants.allows(channel.wire, event.action)
    ):
        raise HubError(4003, f"your token does not grant `{event.action.value}` on this channel")
    if caller.principal.scope is Scope.AUDITOR and event.lane is not Lane.CONNECTION:
        raise HubError(4003, "a token with the scope auditor writes nothing")
    payload, data = _validated(event, message)
    return Command(event, message.id, channel, payload, data, caller, message.traceparent)


def _late(event: EventType, message: ClientMessage, caller: Caller) -> Command | None:
    """Converts a message above its rate to the command to carry out later. The client has had its answer already."""
    try:
        return check_command(event, message, caller)._replace(id=None)
    except HubError:
        return None


def _place(event: EventType, message: ClientMessage, caller: Caller) -> Channel | None:
    if not event.kinds:
        if message.channel is not None:
            raise HubError(4005, f"{event.name} has no channel", details=(ErrorDetail("channel", "must be absent"),))
        return None
    if message.channel is None:
        raise HubError(4005, f"{event.name} needs a channel", details=(ErrorDetail("channel", "is required"),))
    channel = channel_of(caller.principal.tenant, message.channel)
    if channel.kind not in event.kinds:
        raise HubError(
            4005,
            f"{event.name} cannot be sent to this kind of channel",
            details=(ErrorDetail("channel", "is of the wrong kind"),),
        )
    return channel


def channel_of(tenant: str, wire: str) -> Channel:
    """Returns the caller's channel with this name.

    Raises:
        HubError: 4006: malformed, or of an unknown kind.
    """
    try:
        return parse_channel(tenant, wire)
    except MalformedChannel as error:
        raise HubError(4006, str(error)) from None


def _known_wire(tenant: str, wire: str | None) -> str | None:
    """Returns a valid channel's name; None for anything else, so that all malformed names share one bucket."""
    try:
        return parse_channel(tenant, wire).wire if wire is not None else None
    except MalformedChannel:
        return None


def _require_id(event: EventType, message: ClientMessage) -> None:
    if event.is_id_required and message.id is None:
        raise BadMessage("id", "is required", None)


def _validated(event: EventType, message: ClientMessage) -> tuple[Payload, bytes]:
    try:
        payload, data = validate(event, message.payload)
    except InvalidPayload as error:
        problems = tuple(ErrorDetail(p.field, p.problem) for p in error.problems)
        raise HubError(4005, f"the payload of {event.name} does not match its schema", details=problems) from None
    if len(data) > event.limit_bytes:
        raise HubError(4011, f"the payload of {event.name} may have at most {event.limit_bytes} bytes")
    return payload, data


def _cost(event: EventType, message: ClientMessage) -> float:
    channels = message.payload.get("channels") if event.rate == "subscribe" else None
    return float(len(channels)) if isinstance(channels, list) and channels else 1.0


_NOBODY: Final = Caller(None)  # type: ignore[arg-type]  # a handshake has no caller yet; nothing reads it
