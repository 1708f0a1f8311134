"""A log with all kinds of keys: events, an archive, command ids, runs, work, presence, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consumers.groups.handler import Effects, Outcome, Park, Source
from consumers.worker import running
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.records.presence import PresenceChange, PresenceStore, marking
from streams.redis.groups import Groups
from streams.redis.keys import NODES
from streams.redis.log import Log
from support.archive_rig import SIGNER, keeper, write
from support.consumer_rig import Recorder, Rig, say
from support.run_rig import Client, options

TENANT = "acme"
TALKS = [parse_channel(TENANT, f"conversation:{number}") for number in range(24)]
TEAM, NOTES = parse_channel(TENANT, "team:blue"), parse_channel(TENANT, "document:notes")
WAITING, UNREAD = parse_channel(TENANT, "conversation:waiting"), parse_channel(TENANT, "conversation:unread")
CHANNELS = [*TALKS, TEAM, NOTES, WAITING, UNREAD]
KEPT = "kept-1"
"""A command id that is sent again afterwards."""


async def asking(ctx: Any, given: Any) -> Any:
    """An agent that asks, and says what was answered."""
    answer = await ctx.ask("Go on?")
    yield f"answered {answer.value}"


def kept(number: int) -> Draft:
    return Draft(TALKS[number], "chat.message", b'{"text":"kept"}', Actor("user", "alice"), command=f"{KEPT}-{number}")


async def fill(log: Log, folder: Path) -> dict[int, str]:
    """Events, an archive, command ids, a run that waits for a person, parked and unread work, people, a read mark."""
    for number, channel in enumerate(TALKS):
        await write(log, channel, 3 + 10 * (number % 3))
    ids = {number: (await log.append(kept(number))).id for number in range(len(TALKS))}
    await log.append(Draft(TEAM, "custom.note", b"{}", Actor("user", "alice")))
    await log.append(Draft(NOTES, "custom.note", b"{}", Actor("user", "bob")))
    await log.append(
        Draft(TALKS[0], "channel.read", b"{}", Actor("user", "bob"), guards=(marking(TALKS[0], "bob", ids[0]),))
    )
    store = PresenceStore(log)
    await store.follow([TEAM])
    await store.renew("n-dead", wants_dead=False)
    await store.apply("n-dead", [PresenceChange("join", TEAM, "d1", "bob", "c")])
    await log.calls_at(NODES).call("ZADD", NODES, 1, "n-dead")

    def react(_source: Source, _effects: Effects) -> Outcome:
        return Park("for now")

    recorder = Recorder(react, tenant=TENANT)
    async with Rig(log, recorder):
        for channel in TALKS[:5]:
            await say(log, channel, "park me")
        while len(await Groups(log).parked()) < 5:
            pass  # each look is a round trip
    async with running(options(log.url, {"a": asking}), log):
        await Client(log, WAITING).ask("x")
        await Client(log, WAITING).until("tool.call.request", kind="input")
    await Client(log, UNREAD).ask("x")
    (folder / "audit.key").write_text(str(SIGNER))
    await keeper(log, folder / "archive").turn()
    return ids
