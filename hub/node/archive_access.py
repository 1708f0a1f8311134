"""A node's access to the archive for proofs and audits: a few requests at a time, apart from the reads of resuming clients.

Tenants share it in turns, so that none keeps the others waiting for longer than a turn of each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from hub.errors import HubError
from hub.node.fair_turns import FairTurns
from streams.archive.objects import ArchiveObjects
from streams.audit.proving import Prover
from streams.channel import Channel
from streams.errors import ArchiveDiffers

AT_ONCE: Final = 2
"""Requests at a time: a proof reads some forty objects, one after the other."""
WAITING_OF_ONE: Final = 64
"""Requests of one tenant that wait."""
AUDITS_AT_ONCE: Final = 2
"""Audits at a time, one for each tenant. They share the interpreter with live traffic."""
AUDITS_WAITING_OF_ONE: Final = 8
AUDIT_DEADLINE_S: Final = 30.0
"""Time for an audit of what may be verified in a node, a second or two of the interpreter; a store may need longer to answer."""
COUNTS_MAX: Final = 4_096
"""Tenants whose number of checkpoints is remembered, so that the next search for the newest one is short."""


class ArchiveAccess:
    """Reads the archive for requests.

    Args:
        objects: the archive; None if this hub has none.
    """

    def __init__(self, objects: ArchiveObjects | None) -> None:
        self._objects = objects
        self._turns = FairTurns(AT_ONCE, AT_ONCE, WAITING_OF_ONE)
        self._counts: OrderedDict[str, int] = OrderedDict()

    @asynccontextmanager
    async def objects(self, tenant: str) -> AsyncIterator[ArchiveObjects]:
        """Yields the archive for a request of a tenant.

        Raises:
            HubError: 4010: too many of its requests are waiting; 4018: there is no archive, or the block found something missing.
        """
        if self._objects is None:
            raise HubError(4018, "this hub has no archive: HUB_RETENTION is not set")
        async with self._turns.turn(tenant):
            try:
                yield self._objects
            except ArchiveDiffers as error:
                raise HubError(4018, str(error)) from error

    @asynccontextmanager
    async def prover(self, tenant: str, bundles_max: int | None = None) -> AsyncIterator[Prover]:
        """Yields what proves events of a tenant; it searches at most `bundles_max` bundles of heads.

        Raises:
            HubError: as `objects`.
        """
        async with self.objects(tenant) as objects:
            prover = Prover(objects, tenant, self._counts.pop(tenant, 0), bundles_max)
            try:
                yield prover
            finally:
                self._counts[tenant] = prover.checkpoint_count
                while len(self._counts) > COUNTS_MAX:
                    self._counts.popitem(last=False)


Verify = Callable[[Channel], Awaitable[dict[str, Any]]]
"""Opens the log and the archive, and returns the report on a channel; runs in an event loop of its own."""


class ChannelAudits:
    """Verifies channels, each in a thread of its own, because every event is read and hashed: one at a time for each tenant.

    Args:
        verify: verifies one.
        deadline_s: time for one, from the beginning of its turn.
    """

    def __init__(self, verify: Verify, deadline_s: float = AUDIT_DEADLINE_S) -> None:
        self._verify, self._deadline_s = verify, deadline_s
        self._turns = FairTurns(AUDITS_AT_ONCE, 1, AUDITS_WAITING_OF_ONE)

    async def verify(self, channel: Channel) -> dict[str, Any]:
        """The report on a channel.

        Raises:
            HubError: 4010: too many of the tenant's audits are waiting; 4013: it took too long and was ended; or what the
                verification raises.
        """
        async with self._turns.turn(channel.tenant):
            return await asyncio.to_thread(lambda: asyncio.run(self._in_thread(channel)))

    async def _in_thread(self, channel: Channel) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._verify(channel)
        except TimeoutError:
            command = f"hub audit verify {channel.wire} --tenant {channel.tenant}"
            told = f"the audit was ended after {self._deadline_s:g} s; retry later, or an operator runs `{command}`"
            raise HubError(4013, told) from None
