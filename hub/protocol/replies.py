"""The messages a connection is answered with, as JSON bytes: results, errors, openings of subscriptions. Pure.

Encoding joins bytes; JSON is written for what is new only. Stored events are never encoded here: see `streams.envelope.Entry.wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from json.encoder import encode_basestring as _quoted  # as json.dumps writes a text with ensure_ascii=False
from typing import Any, Final

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
"""Refusals that stand after idempotency in the order of checks."""
_BOOL: Final = (b"false", b"true")
_NEVER: Final = Guard("never", checks=(("never", "eq", "met"),))


def reply(type_: str, re: str | None, channel: str | None, payload: bytes) -> bytes:
    """A reply or notice as JSON; `payload` is JSON already. Types, ids and channels need no escaping."""
    answered = f',"re":"{re}"' if re else ""
    place = f',"channel":"{channel}"' if channel else ""
    return b'{"type":"%b"%b%b,"payload":%b}' % (type_.encode(), answered.encode(), place.encode(), payload)


def unsubscribed(channel: Channel, reason: str, re: str | None = None) -> bytes:
    """`channel.unsubscribed`."""
    return reply("channel.unsubscribed", re, channel.wire, to_json({"channel": channel.wire, "reason": reason}))


def error_message(error: HubError, re: str | None = None, channel: str | None = None) -> bytes:
    """`connection.error` as JSON. The channel may be any text a client sent, so it is escaped here."""
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
    """The part that refusals of one kind share, written once; without its closing brace."""
    return to_json({"code": code, "name": name, "message": message, "retry": retry})[:-1]


# Results of appends


def stored_payload(event: EventType, append: Append, appended: Appended) -> bytes:
    """The reply's payload: where the event stands (nothing for the live lane), and what the handler adds."""
    results = append.results(appended) if callable(append.results) else append.results
    extra = results if isinstance(results, bytes) else to_json(results)[1:-1] if results else b""
    if event.lane is Lane.LIVE:
        return b"{" + extra + b"}"
    return b'{"id":"%b","seq":%d,"duplicate":%b,"durability":"%b"%b%b}' % (
        appended.id.encode(),
        appended.seq,
        _BOOL[appended.is_duplicate],
        appended.durability.value.encode(),
        b"," if extra else b"",
        extra,
    )


def unless_stored(command: Command, error: HubError) -> Append:
    """A handler's refusal as an append that ends in it, unless the command's id is found.

    A command that was stored before is answered as it was then, whatever has changed since. The state checks of
    handlers are courtesies that come before the append script, which alone knows what was stored. So a refusal by state is
    decided there, too: it becomes an append that no script lets through, unless it finds the command's id.

    Raises:
        HubError: the refusal itself, where it is not one by state of a command that is stored.
    """
    if error.row.code not in BY_STATE or not command.event.is_stored:
        raise error
    return Append(command.draft(guards=(_NEVER,)), lambda appended: first_results(command, appended), lambda _: error)


def asked_for(append: Append, error: HubError) -> Append:
    """An append for which there is no room: it stores nothing, and ends in the error unless its command's id is found."""
    draft = replace(append.draft, guards=(_NEVER,), open_text=None)
    return append._replace(draft=draft, refused=lambda _: error, passes_over=False)


def first_results(command: Command, appended: Appended) -> Mapping[str, Any]:
    """The results the first reply gave beside where the event stands. Its guards' increments tell if it began a run."""
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
    """The answer to a command that the log refused because it changes nothing; None where the refusal is an error."""
    return Reply("ack", b"{}") if append.passes_over and isinstance(error, GuardRefused) else None


def append_error(append: Append, error: StreamsError) -> HubError:
    """The client's error for an event that was not stored."""
    if isinstance(error, GuardRefused):
        return append.refused(error) if append.refused else invalid_state(error.field, error.present)
    return log_error(error)


def log_error(error: StreamsError) -> HubError:
    """The client's error for an error of the log."""
    if isinstance(error, IdempotencyConflict):
        return HubError(4009, "this id was used before with another body; use a new id")
    if isinstance(error, CommandIdsFull):
        text = "too many commands in 10 minutes to remember; retry later with the same id"
        return HubError(4004, text, retry_after_ms=IDS_FULL_RETRY_MS)
    if isinstance(error, LogUnavailable):
        return HubError(4013, "Redis is unreachable; retry with the same id", retry_after_ms=RETRY_AFTER_MS)
    return HubError(4005, str(error))


def invalid_state(field: str, present: str | None) -> HubError:
    """4021 with the field and its present state."""
    details = (ErrorDetail(field, f"is {present}" if present else "is not set"),)
    return HubError(4021, "the state has changed since; details give its current value", details=details)


# Openings of subscriptions

FULL_SCOPE: Final = "full"
LIVE_SCOPE: Final = "live"
"""The scopes of a state in `channel.subscribed`, told to clients that announced `live_state`."""


@dataclass(frozen=True, slots=True)
class StateAt:
    """A channel's state as JSON, exact in its durable part at `position`."""

    json: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class Opening:
    """The start of a subscription: from where the replay starts, where the fence is, and what is missing.

    Attributes:
        state: the channel's state at `head` as JSON; None where it was not asked for.
        scope: `full`, or `live` where only what was live is in it.
    """

    look: Look
    start: Position
    head: Position
    gap: Gap | None
    state: bytes | None
    scope: str = FULL_SCOPE

    @property
    def count(self) -> int:
        """Events between start and fence."""
        return self.head.seq - self.start.seq


def subscribed(channel: Channel, opening: Opening, re: str | None, *, tells_scope: bool = False) -> bytes:
    """`channel.subscribed`. The state is JSON already and joined in as bytes."""
    look = opening.look
    fields = to_json(
        {
            "epoch": look.epoch,
            "head": opening.head._asdict(),
            "floor": look.floor._asdict(),
            "recovered": opening.gap is None,
            "replay": opening.count,
            "gap": gap_json(opening.gap),
            "state_at": opening.head.seq,
        }
    )
    if opening.state is not None and tells_scope:
        fields = b'%b,"state_scope":"%b"}' % (fields[:-1], opening.scope.encode())
    if opening.state is not None:
        fields = b'%b,"state":%b}' % (fields[:-1], opening.state)
    return reply("channel.subscribed", re, channel.wire, fields)


def resumed(channel: Channel, opening: Opening) -> bytes:
    """`channel.resumed`, the receipt of a replay."""
    receipt = {
        "from_seq": opening.start.seq + 1 if opening.count else None,
        "to_seq": opening.head.seq if opening.count else None,
        "count": opening.count,
        "gap": gap_json(opening.gap),
    }
    return reply("channel.resumed", None, channel.wire, to_json(receipt))


def gap_json(gap: Gap | None) -> dict[str, object] | None:
    """A gap as the wire writes it."""
    return None if gap is None else {"reason": gap.reason.value, "from_seq": gap.from_seq, "to_seq": gap.to_seq}
