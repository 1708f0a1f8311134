"""The hub's messages to one connection, as JSON bytes: replies, errors, and the start of subscriptions. Pure.

Messages are built by joining bytes; only new parts are encoded. Stored events are not encoded here: see
`streams.envelope.Entry.wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from json.encoder import encode_basestring as _quoted  # encodes a string as json.dumps does with ensure_ascii=False
from typing import Any, Final, NamedTuple

from hub.errors import ErrorDetail, HubError
from hub.protocol.commands import Append, Command, Reply
from streams.channel import Channel
from streams.cursor import Gap, Look, Position
from streams.envelope import Appended, Guard, Lane
from streams.errors import CommandIdsFull, GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.events import EventType
from streams.json_bytes import to_json
from streams.records.runs import run_id_of

RETRY_AFTER_MS: Final = 500
IDS_FULL_RETRY_MS: Final = 60_000
BY_STATE: Final = frozenset({4007, 4018, 4021, 4022})
"""Codes of refusals that are checked after idempotency (docs/protocol.md#order-of-checks)."""
_BOOL: Final = (b"false", b"true")
_NEVER: Final = Guard("never", checks=(("never", "eq", "met"),))


def reply(type_: str, re: str | None, channel: str | None, payload: bytes) -> bytes:
    """Builds a reply or notice; `payload` is JSON. Types, ids and channels need no escaping."""
    answered = f',"re":"{re}"' if re else ""
    place = f',"channel":"{channel}"' if channel else ""
    return b'{"type":"%b"%b%b,"payload":%b}' % (type_.encode(), answered.encode(), place.encode(), payload)


def unsubscribed(channel: Channel, reason: str, re: str | None = None) -> bytes:
    """Builds `channel.unsubscribed`."""
    return reply("channel.unsubscribed", re, channel.wire, to_json({"channel": channel.wire, "reason": reason}))


def error_message(error: HubError, re: str | None = None, channel: str | None = None) -> bytes:
    """Builds `connection.error`. The channel may be any text that a client sent, so it is escaped here."""
    answered = f',"re":"{re}"' if re is not None else ""
    place = f',"channel":{_quoted(channel)}' if channel is not None else ""
    wait = f',"retry_after_ms":{error.retry_after_ms}' if error.retry_after_ms is not None else ""
    details = b""
    if error.details:
        details = b',"details":' + to_json([{"field": d.field, "problem": d.problem} for d in error.details])
    head = f'{{"type":"connection.error"{answered}{place},"payload":'.encode()
    row = error.row
    told = _error_head(row.code, row.name, error.message, error.retry.value)
    return b"%b%b%b%b}}" % (head, told, wait.encode(), details)


@lru_cache(maxsize=256)
def _error_head(code: int, name: str, message: str, retry: str) -> bytes:
    """Builds the part that all refusals of one kind share, cached; without its closing brace."""
    return to_json({"code": code, "name": name, "message": message, "retry": retry})[:-1]


# Results of appends


def stored_payload(event: EventType, append: Append, appended: Appended) -> bytes:
    """Builds the reply's payload: the event's id and seq (neither for the live lane), and the handler's results."""
    results = append.results(appended) if callable(append.results) else append.results
    extra = results if isinstance(results, bytes) else to_json(results)[1:-1] if results else b""
    if event.lane is Lane.LIVE:
        return b"{" + extra + b"}"
    leaf = f',"leaf":"{appended.leaf}"'.encode() if appended.leaf else b""
    return b'{"id":"%b","seq":%d,"duplicate":%b,"durability":"%b"%b%b%b}' % (
        appended.id.encode(),
        appended.seq,
        _BOOL[appended.is_duplicate],
        appended.durability.value.encode(),
        leaf,
        b"," if extra else b"",
        extra,
    )


def unless_stored(command: Command, error: HubError) -> Append:
    """Turns a handler's refusal into an append that ends in it, unless the command is found to have been stored before.

    A repeated command must get its first answer, whatever has changed since. A handler's check of the state is
    only an early answer: the append script alone knows what was stored. So such a refusal is decided there: by an
    append that always fails, unless the script finds the command's id.

    Raises:
        HubError: the refusal itself, if it is not about the state or the command is not stored.
    """
    if error.row.code not in BY_STATE or not command.event.is_stored:
        raise error
    return Append(command.draft(guards=(_NEVER,)), lambda appended: first_results(command, appended), lambda _: error)


def asked_for(append: Append, error: HubError) -> Append:
    """Returns an append for a tenant without room: it fails with `error`, unless the command was stored before."""
    draft = replace(append.draft, guards=(_NEVER,), open_text=None)
    return append._replace(draft=draft, refused=lambda _: error, passes_over=False)


def first_results(command: Command, appended: Appended) -> Mapping[str, Any]:
    """Returns the results of the first reply to a repeated command, from the stored results of its guards."""
    named = getattr(command.payload, "run_id", None)
    run_id = named or (run_id_of(command.place, appended.id) if appended.results else None)
    known: dict[str, Any] = {
        "disposition": "queued" if appended.results else "stored",
        "channel": command.place.wire,
        "state": "cancelling",
    }
    if appended.results:
        known["revision"] = appended.results[0]
    if run_id:
        known["run_id"] = run_id
    return {name: known[name] for name in command.event.results if name in known}


# Errors of the log


def passed_over(append: Append, error: StreamsError) -> Reply | None:
    """Returns the reply to a command that the log refused because it changes nothing; None if the refusal is an error."""
    return Reply("ack", b"{}") if append.passes_over and isinstance(error, GuardRefused) else None


def append_error(append: Append, error: StreamsError) -> HubError:
    """Returns the client's error for an event that was not stored."""
    if isinstance(error, GuardRefused):
        return append.refused(error) if append.refused else invalid_state(error.field, error.present)
    return log_error(error)


def log_error(error: StreamsError) -> HubError:
    """Returns the client's error for an error of the log."""
    if isinstance(error, IdempotencyConflict):
        return HubError(4009, "this id was used before with another body; use a new id")
    if isinstance(error, CommandIdsFull):
        text = "you sent more commands in 10 minutes than the hub can remember; retry later with the same id"
        return HubError(4004, text, retry_after_ms=IDS_FULL_RETRY_MS)
    if isinstance(error, LogUnavailable):
        return HubError(4013, "Redis is unreachable; retry with the same id", retry_after_ms=RETRY_AFTER_MS)
    return HubError(4005, str(error))


def invalid_state(field: str, present: str | None) -> HubError:
    """Returns the error 4021 with the field and its current value."""
    details = (ErrorDetail(field, f"is {present}" if present else "is not set"),)
    return HubError(4021, "the state has changed since; details give its current value", details=details)


# Openings of subscriptions

FULL_SCOPE: Final = "full"
LIVE_SCOPE: Final = "live"
"""Values of `state_scope` in `channel.subscribed`, sent to clients that announced `live_state`."""


class StateAt(NamedTuple):
    """A channel's state as JSON. Its durable part is as of exactly `position`."""

    json: bytes
    position: Position


@dataclass(slots=True)
class Opening:
    """The start of a subscription: the position to replay from, the fence (the last event to replay), and a gap.

    Attributes:
        state: the channel's state at `head` as JSON; None if not requested.
        scope: `full`, or `live` if `state` has only the live part.
    """

    look: Look
    start: Position
    head: Position
    gap: Gap | None
    state: bytes | None
    scope: str = FULL_SCOPE

    @property
    def count(self) -> int:
        """The number of events to replay."""
        return self.head.seq - self.start.seq


def subscribed(channel: Channel, opening: Opening, re: str | None, *, tells_scope: bool = False) -> bytes:
    """Builds `channel.subscribed`. The state is already JSON and inserted as bytes."""
    look = opening.look
    head, floor, gap = opening.head, look.floor, opening.gap
    scope = b',"state_scope":"%b"' % opening.scope.encode() if tells_scope and opening.state is not None else b""
    state = b',"state":%b' % opening.state if opening.state is not None else b""
    return (
        b'{"type":"channel.subscribed"%b,"channel":"%b","payload":{"epoch":"%b","head":{"id":"%b","seq":%d},'
        b'"floor":{"id":"%b","seq":%d},"recovered":%b,"replay":%d,"gap":%b,"state_at":%d%b%b}}'
    ) % (
        f',"re":"{re}"'.encode() if re else b"",
        channel.wire.encode(),
        look.epoch.encode(),
        head.id.encode(),
        head.seq,
        floor.id.encode(),
        floor.seq,
        _BOOL[gap is None],
        opening.count,
        b"null" if gap is None else to_json(gap_json(gap)),
        head.seq,
        scope,
        state,
    )


def resumed(channel: Channel, opening: Opening) -> bytes:
    """Builds `channel.resumed`, the receipt of a replay."""
    receipt = {
        "from_seq": opening.start.seq + 1 if opening.count else None,
        "to_seq": opening.head.seq if opening.count else None,
        "count": opening.count,
        "gap": gap_json(opening.gap),
    }
    return reply("channel.resumed", None, channel.wire, to_json(receipt))


def gap_json(gap: Gap | None) -> dict[str, object] | None:
    """Converts a gap to its JSON form."""
    return None if gap is None else {"reason": gap.reason.value, "from_seq": gap.from_seq, "to_seq": gap.to_seq}
