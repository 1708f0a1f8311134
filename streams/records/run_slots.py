"""Limits on concurrent runs by user and tenant: each run takes a slot before its command is stored.

A slot expires by itself. The reaper, which inspects every unfinished run, renews it, and the end of the run frees it. So a slot
soon expires if its command was never stored or its run was lost with its log.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from streams.channel import Channel
from streams.records.scripts import load
from streams.redis.keys import run_slots
from streams.redis.log import Log

LIFE_MS: Final = 120_000
"""Lifetime of a slot that is not renewed: four times the 30 s between two inspections of a waiting run."""
_SLOT: Final = load("run_slot")


class SlotAnswer(Enum):
    """The outcome of taking a slot."""

    TAKEN = b"taken"
    USER_IS_FULL = b"user"
    TENANT_IS_FULL = b"tenant"


class RunSlots:
    """Takes, renews and frees slots. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def take(self, channel: Channel, user: str, slot: str, user_max: int, tenant_max: int) -> SlotAnswer:
        """Take a slot, or renew it if it is already held; a limit of 0 means unlimited."""
        keys = run_slots(channel.tenant, user)
        args = (user, _named(channel, slot), LIFE_MS, user_max, tenant_max)
        return SlotAnswer(await self._log.calls_at(keys[0]).run(_SLOT, keys, *args))

    async def renew(self, channel: Channel, user: str, slot: str) -> None:
        """Renew the slot of an unfinished run."""
        await self.take(channel, user, slot, 0, 0)

    async def give_back(self, channel: Channel, user: str, slot: str) -> None:
        """Free the slot of a run that has ended or did not begin. Repeating it does nothing."""
        of_tenant, of_user = run_slots(channel.tenant, user)
        name = _named(channel, slot)
        await self._log.calls_at(of_tenant).pipeline([("ZREM", of_tenant, f"{user} {name}"), ("ZREM", of_user, name)])


def _named(channel: Channel, slot: str) -> str:
    return f"{channel.wire} {slot}"
