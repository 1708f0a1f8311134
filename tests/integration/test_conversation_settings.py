"""`conversation.updated` after a change of a conversation: told once, by whoever handles it, with the edge's own revision."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.groups.handler import Effects, Outcome, Park, Source
from consumers.handlers.settings import SettingsReactions, changes_of
from streams.envelope import Actor, Draft, Guard
from streams.records.settings import settings_guard_name
from streams.redis.log import Log
from support.consumer_rig import KillAt, Rig, conversation
from support.nodes import running_node, token
from support.socket_client import client

HOME = "conversation:1"


def told(event: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
    payload = event["payload"]
    return payload["revision"], payload["changes"], payload["by"]


async def test_every_change_is_told_with_its_revision(redis_url: str, log: Log, tenant: str) -> None:
    """Title apart from settings, null for a reset, the leaf of a branch; the revision is the one the ack named."""
    changes = [{"title": "One", "model": "m"}, {"title": None}, {"temperature": 0.5}]
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(HOME)
        async with Rig(log, SettingsReactions(log)):
            acks = [await a.answer("chat.configure", {"settings": change}, HOME) for change in changes]
            leaf = (await a.say(HOME, "hello"))["payload"]["id"]
            branch = await a.answer("chat.branch", {"leaf_id": leaf}, HOME)
            while len(events := [frame for frame in a.seen if frame["type"] == "conversation.updated"]) < 4:
                await a.next()  # some came before the answer to a later change
        state = (await a.answer("channel.state", {}, HOME))["payload"]["state"]

    assert [told(event) for event in events] == [
        (1, {"title": "One", "settings": {"model": "m"}}, "a"),
        (2, {"title": None}, "a"),
        (3, {"settings": {"temperature": 0.5}}, "a"),
        (4, {"active_leaf": leaf}, "a"),
    ]
    assert [ack["payload"]["revision"] for ack in acks] == [1, 2, 3]
    causes = [ack["payload"]["id"] for ack in (*acks, branch)]
    assert [event["meta"] for event in events] == [{"correlation": cause, "causation": cause} for cause in causes]
    assert state["revision"] == 4


@pytest.mark.parametrize("point", ["before_append", "after_append", "before_ack"])
async def test_a_worker_killed_anywhere_tells_once(redis_url: str, log: Log, tenant: str, point: str) -> None:
    """The next worker tells what was not told and repeats nothing."""
    kill = KillAt(point)
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(HOME)
        async with Rig(log, SettingsReactions(log), faults=kill) as first:
            await a.answer("chat.configure", {"settings": {"title": "One"}}, HOME)
            await kill.happened.wait()
            await first.crash()
        async with Rig(log, SettingsReactions(log)):
            await a.answer("chat.configure", {"settings": {"title": "Two"}}, HOME)
            while (await a.expect("conversation.updated"))["payload"]["revision"] < 2:
                pass
        entries = await log.page(conversation(tenant, "1"))

    assert [e.payload["revision"] for e in entries if e.type == b"conversation.updated"] == [1, 2]


async def test_changes_from_before_there_was_a_teller_are_counted(redis_url: str, log: Log, tenant: str) -> None:
    """The first change that is told has the revision of the edge, not 1."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(HOME)
        for _ in range(2):
            await log.append(unheard(tenant))
        async with Rig(log, SettingsReactions(log)):
            ack = await a.answer("chat.configure", {"settings": {"title": "c"}}, HOME)
            event = await a.expect("conversation.updated")

    assert event["payload"]["revision"] == ack["payload"]["revision"] == 3


class ParkingOnce:
    """The reactions, but for one change, which is given up on."""

    name = SettingsReactions.name
    types = SettingsReactions.types
    start_from = SettingsReactions.start_from

    def __init__(self, log: Log) -> None:
        self._reactions = SettingsReactions(log)

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Park the change with the title `parked`."""
        if changes_of(source).get("title") == "parked":
            return Park("it cannot be told")
        return await self._reactions.handle(source, effects)


async def test_a_change_behind_a_parked_one_is_told_with_the_revision_of_its_ack(
    redis_url: str, log: Log, tenant: str
) -> None:
    """It was one too low, and so was every later one: a client that named it as expected was refused."""
    titles = ["one", "parked", "three", "four"]
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(HOME)
        async with Rig(log, ParkingOnce(log)):
            acks = [await a.answer("chat.configure", {"settings": {"title": title}}, HOME) for title in titles]
            while len(events := [frame for frame in a.seen if frame["type"] == "conversation.updated"]) < 3:
                await a.next()  # some came before the answer to a later change

    assert [(event["payload"]["changes"]["title"], event["payload"]["revision"]) for event in events] == [
        ("one", 1), ("three", 3), ("four", 4),
    ]  # fmt: skip # a row each
    assert [ack["payload"]["revision"] for ack in acks] == [1, 2, 3, 4]


def unheard(tenant: str) -> Draft:
    """A change as the edge stores it, for which no handler gets work."""
    place = conversation(tenant, "1")
    guard = Guard(settings_guard_name(place), increments=("revision",))
    return Draft(place, "chat.configure", b'{"settings":{"title":"x"}}', Actor("user", "a"), guards=(guard,))
