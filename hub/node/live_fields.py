"""The live fields of a channel's state: those that are true only now and never replayed (docs/protocol.md#state)."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from projections.live import LIVE_TYPES, Live
from projections.recorded import recorded
from streams.channel import Channel, Kind
from streams.cursor import id_order
from streams.envelope import Entry, read_own_live_entries
from streams.json_bytes import to_json
from streams.records.presence import PresenceStore, ReadMarks, people_json, people_of
from streams.records.upload_store import OpenUploads, shown_uploads
from streams.redis.calls import text_pairs
from streams.redis.log import Log
from streams.redis.sights import KeyRead, Sight

READS: Final = {Kind.CONVERSATION: 5, Kind.AGENT: 3, Kind.TEAM: 3, Kind.DOCUMENT: 3, Kind.USER: 0, Kind.SYSTEM: 0}
"""The number of `LiveFields.key_reads` of each kind of channel."""
FOLDS_MAX: Final = 1_000
"""Maximum channels with a cached fold of their live lane; `projections.live` bounds the size of each."""
MARKS_MAX: Final = 200
"""Maximum read markers shown: those of the users who have read furthest."""
LANE_AT_ONCE: Final = 50
"""Maximum entries of the live lane read within a `Sight`; if there are more new ones, they are read page by page."""
_ANSWERED: Final = frozenset({Kind.CONVERSATION, Kind.AGENT})
_PASSING: Final = frozenset({Kind.CONVERSATION, Kind.DOCUMENT})
"""The kinds of channel whose live lane has typing or cursor signals."""


class LiveFields:
    """Reads presence, uploads, answers and read markers from a `Sight` of the channel, and the rest from its live lane.

    A `Sight` is the result of one round trip that reads a channel's head, floor and epoch together with other
    keys.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._presence = PresenceStore(log)
        self._marks = ReadMarks(log)
        self._uploads = OpenUploads(log)
        self._folds: OrderedDict[Channel, tuple[Live, str]] = OrderedDict()

    def key_reads(self, channel: Channel) -> tuple[KeyRead, ...]:
        """Returns the reads to add to a `Sight` of the channel; `read` uses their answers."""
        kind = channel.kind
        if not READS[kind]:
            return ()
        asked = [self._uploads.key_read(channel), *self._presence.key_reads(channel)]
        if kind in _ANSWERED:
            asked.append(self._log.replay.open_texts_read(channel))
        if kind is Kind.CONVERSATION:
            asked.append(self._marks.key_read(channel))
        if kind in _PASSING:
            _, last = self._folds.get(channel) or (None, "")
            asked.append(self._log.replay.live_read(channel, last or "-", LANE_AT_ONCE))
        return tuple(asked)

    def advance(self, channel: Channel, sight: Sight) -> bool:
        """Folds the live lane's new entries from a `Sight`; returns False if `read` must read them page by page.

        That is so if the sight does not continue the fold, because another one was folded meanwhile or the
        fold was dropped.
        """
        if channel.kind not in _PASSING:
            return True
        if sight.answers[-1] is None:  # too many bytes
            return False
        start, raw = sight.reads[-1].args[0], sight.answers[-1]
        entries = read_own_live_entries(raw)
        if not raw:
            self._folds.pop(channel, None)
            return True
        live, last = self._folds.get(channel) or (Live(channel.kind), "")
        if not entries or len(raw) == LANE_AT_ONCE or (start != "-" and (not last or entries[0].id.decode() != start)):
            return False
        new = [entry for entry in entries if not last or id_order(entry.id.decode()) > id_order(last)]
        self._keep(channel, live, new, last)
        return True

    async def read(self, channel: Channel, sight: Sight, now_ms: int, members: Iterable[str] = ()) -> bytes:
        """Returns the live fields as one JSON object.

        Args:
            channel: a channel of any kind.
            sight: a read of the channel whose last answers are those to `key_reads`.
            now_ms: the time by Redis's clock, which event ids come from.
            members: the team's members from the channel's settings.
        """
        kind = channel.kind
        if (now := self.read_now(channel, sight, now_ms)) is not None:
            return now
        uploads, people, *rest = sight.answers[-READS[kind] :]
        present = [people, *rest] if kind is Kind.TEAM else [people]
        shown: dict[str, Any] = {"uploads": shown_uploads(uploads)}
        if kind in _ANSWERED:
            shown["open_messages"] = open_messages(text_pairs(rest[0]))
        if kind in _PASSING:
            if not self.advance(channel, sight):
                await self._fold(channel)
            live, _ = self._folds.get(channel) or (Live(kind), "")
            shown |= live.render(now_ms)
        if kind is Kind.CONVERSATION:
            shown["read_markers"] = _newest(text_pairs(rest[1]))
        if kind is Kind.TEAM:
            shown["members"] = await self._presence.members(channel, present, now_ms, members)
        here = people_of(present, now_ms)
        if isinstance(here, int):
            shown["presence_count"] = here
        else:
            shown["presence"] = [person._asdict() for person in here]
        return to_json(shown)

    def read_now(self, channel: Channel, sight: Sight, now_ms: int) -> bytes | None:
        """Returns the same as `read`; None if that takes another round trip, or is a team's, whose members are looked up."""
        kind = channel.kind
        if not READS[kind]:
            return b"{}"
        if kind is Kind.TEAM or not self.advance(channel, sight):
            return None
        uploads, people, *rest = sight.answers[-READS[kind] :]
        fold = self._folds.get(channel)
        if fold is None and not uploads and not any(rest):
            told = _NOTHING[kind]
        else:
            shown: dict[str, Any] = {"uploads": shown_uploads(uploads)}
            if kind in _ANSWERED:
                shown["open_messages"] = open_messages(text_pairs(rest[0]))
            if kind in _PASSING:
                shown |= (fold[0] if fold is not None else Live(kind)).render(now_ms)
            if kind is Kind.CONVERSATION:
                shown["read_markers"] = _newest(text_pairs(rest[1]))
            told = to_json(shown)
        return _with_people(told, people)

    async def _fold(self, channel: Channel) -> None:
        """Folds all new entries of the live lane, page by page."""
        live, last = self._folds.pop(channel, (Live(channel.kind), ""))
        page = await self._log.replay.live_page(channel, last or "-")
        if last and page and page[0].id.decode() == last:
            page = page[1:] or await self._log.replay.live_page(channel, f"({last}")
        elif last:  # the lane was trimmed beyond it, or replaced: start over
            live, last = Live(channel.kind), ""
            page = await self._log.replay.live_page(channel)
        while page:
            last = self._keep(channel, live, page, last)
            page = await self._log.replay.live_page(channel, f"({last}")

    def _keep(self, channel: Channel, live: Live, entries: list[Entry], last: str) -> str:
        for entry in entries:
            if entry.type in LIVE_TYPES:
                live.apply(recorded(entry))
            last = entry.id.decode()
        self._folds[channel] = (live, last)
        self._folds.move_to_end(channel)
        if len(self._folds) > FOLDS_MAX:
            self._folds.popitem(last=False)
        return last


def _nothing(kind: Kind) -> bytes:
    """Returns the live fields, but for presence, of a channel in which nothing is going on."""
    shown: dict[str, Any] = {"uploads": []}
    if kind in _ANSWERED:
        shown["open_messages"] = []
    if kind in _PASSING:
        shown |= Live(kind).render(0)
    if kind is Kind.CONVERSATION:
        shown["read_markers"] = {}
    return to_json(shown)


_NOTHING: Final = {kind: _nothing(kind) for kind in Kind}


def _with_people(told: bytes, people: Any) -> bytes:
    """Adds the people who are present, as the last field."""
    if not people:
        return told[:-1] + b',"presence":[]}'
    if isinstance(people, int):
        return b'%b,"presence_count":%d}' % (told[:-1], people)
    return b'%b,"presence":%b}' % (told[:-1], people_json(people))


def _newest(marks: Mapping[str, str]) -> dict[str, str]:
    newest = sorted(marks, key=lambda user: id_order(marks[user]), reverse=True)[:MARKS_MAX]
    return {user: marks[user] for user in newest}


def open_messages(fields: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the answers in progress from the fields that scripts/append.lua maintains."""
    found = []
    for message_id, head in fields.items():
        if ":" in message_id:
            continue
        message = {"message_id": message_id, **json.loads(head)}
        message["text"] = fields.get(f"{message_id}:text", "")
        message["offset"] = int(fields.get(f"{message_id}:text:n", 0))
        if f"{message_id}:reasoning" in fields:
            message["reasoning"] = fields[f"{message_id}:reasoning"]
            message["reasoning_offset"] = int(fields[f"{message_id}:reasoning:n"])
        found.append(message)
    return found
