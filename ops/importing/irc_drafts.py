"""IRC events as drafts of the log: what is said as `chat.message`, who comes and goes as `channel.presence`. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from ops.importing.irc import IrcEvent, Moved, Said, user_of
from streams.channel import Channel
from streams.envelope import Actor, Draft, Lane
from streams.json_bytes import to_json

_PREFIX_LENGTH = 16


def source_id(file_name: str, first_line: str) -> str:
    """What names this log in idempotency keys: its name and first line, so that a log that grew stays the same log."""
    return hashlib.sha256(f"{file_name}\n{first_line}".encode()).hexdigest()[:_PREFIX_LENGTH]


def drafts(events: Iterable[IrcEvent], channel: Channel, source: str) -> Iterator[Draft]:
    """One draft for each event; the command id is the log's and the line's, with `b` for a rename's second event."""
    line_before = 0
    for event in events:
        again = "b" if event.line == line_before else ""
        line_before = event.line
        draft = _said(event, channel) if isinstance(event, Said) else _moved(event, channel)
        draft.command = f"irc:{source}:{event.line}{again}"
        yield draft


def _said(event: Said, channel: Channel) -> Draft:
    payload: dict[str, object] = {"text": event.text}
    if not event.text:  # a message may be without text only when it has a part (EVENTS 5)
        payload["parts"] = [{"type": "data", "mime": "text/plain", "value": ""}]
    moment = event.at.isoformat(timespec="minutes") if event.at.year > 1 else event.at.strftime("%H:%M")
    payload["metadata"] = {"said_at": moment} | ({"form": "action"} if event.is_action else {})
    return Draft(channel, "chat.message", to_json(payload), Actor("user", user_of(event.nick)))


def _moved(event: Moved, channel: Channel) -> Draft:
    """Joins and leaves as history (DESIGN 7): events of the durable lane."""
    user = user_of(event.nick)
    payload = {"user": user, "status": "joined" if event.is_join else "left", "devices": int(event.is_join)}
    return Draft(channel, "channel.presence", to_json(payload), Actor("user", user), Lane.EVENTS)
