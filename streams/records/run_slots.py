"""Runs that are under way at once, counted by user and tenant: each has a slot, taken before its command is stored.

A slot lapses by itself. The reaper, which looks at every run that is not over, renews it, and the end of the run gives it
back. So a slot ends soon whose command was never stored, or whose run was lost with its log.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from streams.channel import Channel
from streams.records.scripts import load
from streams.redis.keys import run_slots
from streams.redis.log import Log

LIFE_MS: Final = 120_000
"""Life of a slot that nobody renews. A run that waits is looked at every 30 s; four of that."""
_SLOT: Final = load("run_slot")


class SlotAnswer(Enum):
    """The answer to who asks for a slot."""

    TAKEN = b"taken"
    USER_IS_FULL = b"user"
    TENANT_IS_FULL = b"tenant"


class RunSlots:
    """Takes, renews and gives back slots. Every method raises LogUnavailable while Redis is away."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def take(self, channel: Channel, user: str, slot: str, user_max: int, tenant_max: int) -> SlotAnswer:
        """Take a slot, or renew it if it is held; 0 allows any number."""
        keys = run_slots(channel.tenant, user)
        args = (user, _named(channel, slot), LIFE_MS, user_max, tenant_max)
        return SlotAnswer(await self._log.calls_at(keys[0]).run(_SLOT, keys, *args))

    async def renew(self, channel: Channel, user: str, slot: str) -> None:
        """Hold the slot of a run that is not over."""
        await self.take(channel, user, slot, 0, 0)

    async def give_back(self, channel: Channel, user: str, slot: str) -> None:
        """Free the slot of a run that is over, or did not begin. Again: nothing."""
        of_tenant, of_user = run_slots(channel.tenant, user)
        name = _named(channel, slot)
        await self._log.calls_at(of_tenant).pipeline([("ZREM", of_tenant, f"{user} {name}"), ("ZREM", of_user, name)])


def _named(channel: Channel, slot: str) -> str:
    return f"{channel.wire} {slot}"
