"""A node's access to the archive for proofs and audits: a few requests at a time, apart from the reads of resuming clients."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from hub.errors import HubError
from hub.node.turns import Turns
from streams.archive.objects import ArchiveObjects
from streams.audit.proving import Prover
from streams.channel import Channel
from streams.errors import ArchiveDiffers

AT_ONCE: Final = 2
"""Requests at a time: a proof reads some forty objects, one after the other."""
WAITING_MAX: Final = 64
AUDITS_WAITING_MAX: Final = 16
COUNTS_MAX: Final = 4_096
"""Tenants whose number of checkpoints is remembered, so that the next search for the newest one is short."""


class ArchiveAccess:
    """Reads the archive for requests.

    Args:
        objects: the archive; None if this hub has none.
    """

    def __init__(self, objects: ArchiveObjects | None) -> None:
        self._objects = objects
        self._turns = Turns(AT_ONCE, WAITING_MAX)
        self._counts: OrderedDict[str, int] = OrderedDict()

    @asynccontextmanager
    async def objects(self) -> AsyncIterator[ArchiveObjects]:
        """Yields the archive.

        Raises:
            HubError: 4010: too many requests are waiting; 4018: there is no archive, or the block found something missing.
        """
        if self._objects is None:
            raise HubError(4018, "this hub has no archive: HUB_RETENTION is not set")
        async with self._turns:
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
        async with self.objects() as objects:
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
    """Verifies channels, one at a time, each in a thread of its own: it reads and hashes every event.

    Args:
        verify: verifies one.
    """

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._turns = Turns(1, AUDITS_WAITING_MAX)

    async def verify(self, channel: Channel) -> dict[str, Any]:
        """The report on a channel.

        Raises:
            HubError: 4010: too many are waiting; or what the verification raises.
        """
        async with self._turns:
            return await asyncio.to_thread(lambda: asyncio.run(self._in_thread(channel)))

    async def _in_thread(self, channel: Channel) -> dict[str, Any]:
        return await self._verify(channel)
