"""Turns of those who come back: a few at a time, in their order, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from hub.errors import HubError
from hub.node.turns import Turns


async def test_no_more_than_a_few_have_a_turn_and_the_first_come_first() -> None:
    """A thousand who want one at once get it in their order, four at a time."""
    turns, under_way, most, order = Turns(at_once=4), 0, 0, []

    async def come(number: int) -> None:
        nonlocal under_way, most
        async with turns:
            under_way += 1
            most = max(most, under_way)
            order.append(number)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(come(number) for number in range(1_000)))

    assert most == 4
    assert order == list(range(1_000))


async def test_a_failure_and_a_cut_give_the_turn_back() -> None:
    """Whoever has one and fails, and whoever is cut while waiting, holds nobody up."""
    turns = Turns(at_once=1)

    async def fail() -> None:
        async with turns:
            await asyncio.sleep(0)
            raise ValueError("no")

    async def come() -> str:
        async with turns:
            return "came"

    failing, cut = asyncio.create_task(fail()), asyncio.create_task(come())
    await asyncio.sleep(0)
    cut.cancel()
    with pytest.raises(ValueError, match="no"):
        await failing

    assert await come() == "came"
    assert turns.waiting_count == 0


async def test_beyond_a_bound_the_node_is_full() -> None:
    """A client that cannot even wait is told when to come again."""
    turns = Turns(at_once=1, waiting_max=1)
    async with turns:
        waiting = asyncio.create_task(turns.__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(HubError) as refused:
            await turns.__aenter__()
    await waiting

    assert refused.value.row.code == 4010
    assert refused.value.retry_after_ms
