"""Turns of tenants that share something slow: round robin, one tenant's crowd waits for itself; and audits, which end in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.errors import HubError
from hub.node.archive_access import AUDITS_WAITING_OF_ONE, ChannelAudits
from hub.node.fair_turns import FairTurns
from streams.channel import Channel, parse_channel

CROWD, OTHER, THIRD = (parse_channel(tenant, "conversation:a") for tenant in ("crowd", "other", "third"))


async def test_tenants_are_served_in_turn_whoever_asks_for_more() -> None:
    """Fifty requests of one tenant come first; those of the others are served among its first."""
    turns, order = FairTurns(at_once=1, of_one=1, waiting_of_one=50), list[str]()

    async def come(tenant: str) -> None:
        async with turns.turn(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*map(come, ["crowd"] * 50 + ["other"] * 2 + ["third"]))

    assert order[:6] == ["crowd", "crowd", "other", "third", "crowd", "other"]
    assert order.count("crowd") == 50
    assert turns.waiting_count == 0


async def test_no_tenant_has_more_turns_than_its_share() -> None:
    """Half of the turns stay free for another tenant, which is served at once."""
    turns, go_on = FairTurns(at_once=2, of_one=1, waiting_of_one=5), asyncio.Event()

    async def hold() -> None:
        async with turns.turn("crowd"):
            await go_on.wait()

    crowd = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    async with turns.turn("other"):
        assert turns.waiting_count == 2
    go_on.set()
    await asyncio.gather(*crowd)


async def test_who_is_cut_while_waiting_or_fails_holds_nobody_up() -> None:
    """Its place and its turn go to the next."""
    turns = FairTurns(at_once=1, of_one=1, waiting_of_one=3)

    async def fail() -> None:
        async with turns.turn("crowd"):
            await asyncio.sleep(0)
            raise ValueError("no")

    async def come() -> str:
        async with turns.turn("crowd"):
            return "served"

    first, cut, late = (asyncio.create_task(work) for work in (fail(), come(), come()))
    await asyncio.sleep(0)
    cut.cancel()

    found = await asyncio.gather(first, cut, late, return_exceptions=True)

    assert [type(one) for one in found] == [ValueError, asyncio.CancelledError, str]
    async with turns.turn("crowd"):
        assert turns.waiting_count == 0


async def test_a_turn_granted_to_who_is_cut_goes_on_to_the_next() -> None:
    """Both happen in the same tick."""
    turns, order = FairTurns(at_once=1, of_one=1, waiting_of_one=3), list[str]()

    async def come(name: str) -> None:
        async with turns.turn("crowd"):
            order.append(name)

    async with turns.turn("crowd"):
        cut, late = asyncio.create_task(come("cut")), asyncio.create_task(come("late"))
        await asyncio.sleep(0)
    cut.cancel()
    await late
    with pytest.raises(asyncio.CancelledError):
        await cut
    assert order == ["late"]


async def test_a_crowd_of_audits_is_refused_and_others_are_not() -> None:
    """4010 for the one too many of a tenant; another tenant's audit runs meanwhile."""
    may_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def verify(channel: Channel) -> dict[str, Any]:
        if channel.tenant == "crowd":
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(may_end.wait(), loop))
        return {"channel": channel.path}

    audits = ChannelAudits(verify)
    crowd = [asyncio.create_task(audits.verify(CROWD)) for _ in range(1 + AUDITS_WAITING_OF_ONE)]
    await asyncio.sleep(0)

    with pytest.raises(HubError) as refused:
        await audits.verify(CROWD)
    assert refused.value.row.code == 4010
    assert await audits.verify(OTHER) == {"channel": OTHER.path}
    may_end.set()
    assert await asyncio.gather(*crowd) == [{"channel": CROWD.path}] * len(crowd)


async def test_an_audit_that_takes_too_long_is_ended_and_says_how_to_go_on() -> None:
    """4013, with the command that has no limit; the next audit of the tenant has its turn."""
    is_slow = True

    async def verify(channel: Channel) -> dict[str, Any]:
        if is_slow:
            await asyncio.Event().wait()
        return {"channel": channel.path}

    audits = ChannelAudits(verify, deadline_s=0.01)
    with pytest.raises(HubError) as ended:
        await audits.verify(THIRD)
    is_slow = False

    assert ended.value.row.code == 4013
    assert "hub audit verify conversation:a --tenant third" in str(ended.value)
    assert await audits.verify(THIRD) == {"channel": THIRD.path}
