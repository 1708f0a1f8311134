"""What a torture run writes: real IRC logs from a folder, or made-up talk of the same shape."""

from __future__ import annotations

import random
from pathlib import Path

from ops.importing.irc import date_in, drafts, parse, source_id
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft
from streams.json_bytes import to_json

Source = tuple[Channel, list[Draft]]


def irc_sources(folder: Path, tenant: str) -> list[Source]:
    """Every log of a folder as one channel."""
    found = []
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        channel = Channel(tenant, Kind.CONVERSATION, file.name.partition(".")[0])
        events = list(parse(lines, date_in(file.name)))
        found.append((channel, list(drafts(events, channel, source_id(file.name, lines[0])))))
    return found


def made_up_sources(count: int, events_each: int, tenant: str, seed: int) -> list[Source]:
    """Talk of random length by a few people."""
    chance = random.Random(seed)
    return [_made_up(Channel(tenant, Kind.CONVERSATION, f"talk-{n}"), events_each, chance) for n in range(count)]


def _made_up(channel: Channel, count: int, chance: random.Random) -> Source:
    def draft(number: int) -> Draft:
        text = "é" * chance.randint(0, 200) + f" {number}"
        data = to_json({"text": text})
        return Draft(channel, "chat.message", data, Actor("user", f"p{chance.randint(1, 9)}"))

    return channel, [draft(number) for number in range(count)]
