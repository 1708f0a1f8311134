"""Parses IRC logs in the formats of irssi and the #ubuntu corpus and converts them to drafts. Pure.

It reads `[HH:MM] <nick> text`, `[HH:MM] * nick action`, `=== nick [host] has joined #c`, `… has left #c` and `=== nick is now
known as other`. All other lines (topics, modes, services) are skipped. Messages become `chat.message`, joins and leaves
`channel.presence`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from streams.channel import Channel
from streams.envelope import Actor, Draft, Lane
from streams.json_bytes import to_json

_MESSAGE: Final = re.compile(r"\[(\d\d):(\d\d)\] <([^>]+)>(?: (.*))?")
_RELAYED: Final = re.compile(r"\[(\d\d):(\d\d)\] \(([^/)\s]+)/[^)\s]+\) (.*)")
_ACTION: Final = re.compile(r"\[(\d\d):(\d\d)\] +\* (\S+) ?(.*)")
_MOVE: Final = re.compile(r"=== (\S.*?) +\[[^@]*@[^\]]*\] +has (joined|left) .*")
_RENAMED: Final = re.compile(r"=== (\S+) is now known as (\S+)")
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_HALF_A_DAY: Final = timedelta(hours=12)
_NO_DATE: Final = date(1, 1, 1)
_PREFIX_LENGTH = 16


@dataclass(frozen=True, slots=True)
class IrcMessage:
    """A message with `text`, which may be empty; `is_action` is true for `/me`."""

    line: int
    at: datetime
    nick: str
    text: str
    is_action: bool = False


@dataclass(frozen=True, slots=True)
class IrcMove:
    """A join or a leave. Such lines have no time: `at` is the time of the preceding message."""

    line: int
    at: datetime
    nick: str
    is_join: bool


IrcEvent = IrcMessage | IrcMove


def date_in(file_name: str) -> date | None:
    """The first day of a log, from a file name such as `2005-02-27.train-c.raw.txt`; None if it contains no date."""
    found = _DATE.search(file_name)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def parse(lines: Iterable[str], first_day: date | None = None) -> Iterator[IrcEvent]:
    """The log's events in order, with their line numbers. A renaming gives two: a leave and a join."""
    clock = _Clock(first_day or _NO_DATE)
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        if message := _MESSAGE.fullmatch(line) or _RELAYED.fullmatch(line):
            yield IrcMessage(number, clock.read(message), _nick(message[3]), message[4] or "")
        elif action := _ACTION.fullmatch(line):
            yield IrcMessage(number, clock.read(action), action[3], action[4], is_action=True)
        elif moved := _MOVE.fullmatch(line):
            yield IrcMove(number, clock.now, _nick(moved[1]), moved[2] == "joined")
        elif renamed := _RENAMED.fullmatch(line):
            yield IrcMove(number, clock.now, renamed[1], is_join=False)
            yield IrcMove(number, clock.now, renamed[2], is_join=True)


def _nick(text: str) -> str:
    """The nick without the space that the corpus inserts after a bracket (`[cc] smart`); nicks have none (RFC 2812, 2.3.1)."""
    return text.replace(" ", "")


class _Clock:
    """Converts hours and minutes to times that never go back: a jump back by half a day or more is midnight."""

    def __init__(self, first_day: date) -> None:
        self.now = datetime.combine(first_day, time())

    def read(self, found: re.Match[str]) -> datetime:
        hour, minute = min(int(found[1]), 23), min(int(found[2]), 59)
        moment = self.now.replace(hour=hour, minute=minute)
        if self.now - moment > _HALF_A_DAY:
            moment += timedelta(days=1)
        self.now = max(self.now, moment)
        return self.now


def offsets_s(events: Sequence[IrcEvent]) -> list[float]:
    """Seconds from the first event to each event; events within the same minute are spread evenly over it."""
    due: list[float] = []
    begin = 0
    while begin < len(events):
        end = begin
        while end < len(events) and events[end].at == events[begin].at:
            end += 1
        minute_s = (events[begin].at - events[0].at).total_seconds()
        due += [minute_s + 60.0 * place / (end - begin) for place in range(end - begin)]
        begin = end
    return due


def user_of(nick: str) -> str:
    """The user name for a nick.

    Letters that a user name may not contain become `~` and two hex digits for each UTF-8 byte. Nicks contain no `~` (RFC 2812,
    2.3.1), so two nicks never give the same user.
    """
    return "".join(letter if _is_name_letter(letter) else _escaped(letter) for letter in nick)[:128]


def _is_name_letter(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter in "_.@|+-")


def _escaped(letter: str) -> str:
    return "".join(f"~{byte:02x}" for byte in letter.encode())


def source_id(file_name: str, first_line: str) -> str:
    """The log's name in idempotency keys, from its file name and first line; it stays the same when the log grows."""
    return hashlib.sha256(f"{file_name}\n{first_line}".encode()).hexdigest()[:_PREFIX_LENGTH]


def drafts(events: Iterable[IrcEvent], channel: Channel, source: str) -> Iterator[Draft]:
    """One draft per event.

    Its command ID consists of the log's name and the line number, with `b` for a renaming's second event.
    """
    line_before = 0
    for event in events:
        again = "b" if event.line == line_before else ""
        line_before = event.line
        draft = _message(event, channel) if isinstance(event, IrcMessage) else _presence(event, channel)
        draft.command = f"irc:{source}:{event.line}{again}"
        yield draft


def _message(event: IrcMessage, channel: Channel) -> Draft:
    payload: dict[str, object] = {"text": event.text}
    if not event.text:  # only a message with parts may have an empty text
        payload["parts"] = [{"type": "data", "mime": "text/plain", "value": ""}]
    moment = event.at.isoformat(timespec="minutes") if event.at.year > 1 else event.at.strftime("%H:%M")
    payload["metadata"] = {"said_at": moment} | ({"form": "action"} if event.is_action else {})
    return Draft(channel, "chat.message", to_json(payload), Actor("user", user_of(event.nick)))


def _presence(event: IrcMove, channel: Channel) -> Draft:
    """A join or leave as an event of the durable lane, because it is history here."""
    user = user_of(event.nick)
    payload = {"user": user, "status": "joined" if event.is_join else "left", "devices": int(event.is_join)}
    return Draft(channel, "channel.presence", to_json(payload), Actor("user", user), Lane.EVENTS)
