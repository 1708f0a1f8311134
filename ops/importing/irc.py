"""IRC logs as irssi and the #ubuntu corpus write them, read line by line. Pure.

It reads `[HH:MM] <nick> text`, `[HH:MM] * nick action`, `=== nick [host] has joined #c`, `… has left #c` and `=== nick is now
known as other`. Every other line (topics, modes, services) is passed over and counted, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

_SAID: Final = re.compile(r"\[(\d\d):(\d\d)\] <([^>]+)>(?: (.*))?")
_RELAYED: Final = re.compile(r"\[(\d\d):(\d\d)\] \(([^/)\s]+)/[^)\s]+\) (.*)")
_ACTION: Final = re.compile(r"\[(\d\d):(\d\d)\] +\* (\S+) ?(.*)")
_MOVED: Final = re.compile(r"=== (\S.*?) +\[[^@]*@[^\]]*\] +has (joined|left) .*")
_RENAMED: Final = re.compile(r"=== (\S+) is now known as (\S+)")
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_HALF_A_DAY: Final = timedelta(hours=12)
_NO_DATE: Final = date(1, 1, 1)


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody wrote `text`; as an action (`/me`) where `is_action`. The text may be empty."""

    line: int
    at: datetime
    nick: str
    text: str
    is_action: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody came or went. Such lines carry no time: `at` is that of the message before."""

    line: int
    at: datetime
    nick: str
    is_join: bool


IrcEvent = Said | Moved


def date_in(file_name: str) -> date | None:
    """The day a log begins, where its name tells: `2005-02-27.train-c.raw.txt`."""
    found = _DATE.search(file_name)
    try:
        return date(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def parse(lines: Iterable[str], first_day: date | None = None) -> Iterator[IrcEvent]:
    """The log's events in order, with the number of the line each came from (a rename gives a leave and a join)."""
    clock = _Clock(first_day or _NO_DATE)
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        if said := _SAID.fullmatch(line) or _RELAYED.fullmatch(line):
            yield Said(number, clock.read(said), _nick(said[3]), said[4] or "")
        elif action := _ACTION.fullmatch(line):
            yield Said(number, clock.read(action), action[3], action[4], is_action=True)
        elif moved := _MOVED.fullmatch(line):
            yield Moved(number, clock.now, _nick(moved[1]), moved[2] == "joined")
        elif renamed := _RENAMED.fullmatch(line):
            yield Moved(number, clock.now, renamed[1], is_join=False)
            yield Moved(number, clock.now, renamed[2], is_join=True)


def _nick(text: str) -> str:
    """The corpus' tools put a blank behind a bracket (`[cc] smart`); a nick has none (RFC 2812, 2.3.1)."""
    return text.replace(" ", "")


class _Clock:
    """Turns the log's hours and minutes into moments that never go back: a fall of half a day is midnight."""

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
    """When each event is due, in seconds after the first: those of one minute are spread evenly over it."""
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
    """The nick as a user's name.

    Letters a name may not have become `~` and two hex digits for each UTF-8 byte, and no nick holds `~` (RFC 2812, 2.3.1),
    so two nicks never become one user.
    """
    return "".join(letter if _is_name_letter(letter) else _escaped(letter) for letter in nick)[:128]


def _is_name_letter(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter in "_.@|+-")


def _escaped(letter: str) -> str:
    return "".join(f"~{byte:02x}" for byte in letter.encode())
