"""The stamper of checkpoints: asks a time-stamping authority (RFC 3161) about each tenant's newest one, at most once an hour.

It works beside the keeper and holds up nothing: a checkpoint is made whether it is stamped or not. An authority that fails, hangs
or lies is told in the log and in the metrics, and asked again later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from time import monotonic, time
from typing import Final, Protocol

from cryptography.x509 import Certificate

from streams.archive.heads import HeadLog
from streams.archive.objects import ArchiveObjects
from streams.archive.stamps import read_stamp, request_for
from streams.errors import StreamsError, TimestampRefused

STAMP_EVERY_S: Final = 3_600.0
"""Least time between two stamps of a tenant. What is stamped covers all checkpoints before it."""
LOOK_EVERY_S: Final = 1.0
RETRY_MIN_S: Final = 60.0
"""Pause after a failure, doubled with each until it is `STAMP_EVERY_S`."""
_LOOK_BACK: Final = 20_000
"""Checkpoints among which the last hour's stamp is looked for: an hour has fewer at the shortest interval."""
_log: Final = logging.getLogger(__name__)


class TimestampAuthority(Protocol):
    """A time-stamping authority."""

    async def ask(self, request: bytes) -> bytes:
        """The reply to a request.

        Raises:
            TimestampRefused: it does not answer, or with something else.
        """


class Stamper:
    """Stamps the newest checkpoint of each tenant.

    Args:
        tenants: returns the tenants that are archived.
        authorities: certificates that a stamp must lead to; without any, only its digest and nonce are checked.

    Attributes:
        counts: stamps stored, and attempts that failed.
    """

    def __init__(
        self,
        objects: ArchiveObjects,
        authority: TimestampAuthority,
        tenants: Callable[[], Collection[str]],
        authorities: Sequence[Certificate] = (),
    ) -> None:
        self.counts: Counter[str] = Counter(stored=0, failed=0)
        self._objects, self._authority, self._authorities = objects, authority, authorities
        self._tenants = tenants
        self._due_at: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._wait_until, self._retry_s = 0.0, RETRY_MIN_S
        self._failing_as = ""

    async def run(self, is_mine: Callable[[], bool]) -> None:
        """Look for ever, while the archive is this process's."""
        while True:
            if is_mine():
                await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Stamp the checkpoints that are due, one after the other; the first failure ends it, and is not raised."""
        tenants = set(self._tenants())
        self._due_at = {tenant: due for tenant, due in self._due_at.items() if tenant in tenants}
        self._numbers = {tenant: number for tenant, number in self._numbers.items() if tenant in tenants}
        for tenant in tenants:
            if monotonic() < self._wait_until:
                return
            if monotonic() < self._due_at.get(tenant, 0.0):
                continue
            try:
                self._due_at[tenant] = monotonic() + await self._take(tenant)
            except StreamsError as error:
                self._failed(tenant, error)
                return

    def _failed(self, tenant: str, error: StreamsError) -> None:
        self.counts["failed"] += 1
        self._wait_until = monotonic() + self._retry_s
        self._due_at[tenant] = self._wait_until  # the others first, if it is this tenant's archive that fails
        self._retry_s = min(2 * self._retry_s, STAMP_EVERY_S)
        if self._failing_as != str(error):
            _log.warning("the newest checkpoint of %s has no stamp yet, which is tried again: %s", tenant, error)
        self._failing_as = str(error)

    async def _take(self, tenant: str) -> float:
        """Stamp the newest checkpoint of a tenant if it is due; returns the time until the next look, in seconds."""
        log = HeadLog(self._objects, tenant, "")
        self._numbers[tenant] = number = await log.checkpoint_count(self._numbers.get(tenant, 0))
        stamped = await log.stamped(max(0, number - _LOOK_BACK))
        note = await log.checkpoint(number) if number else None
        if note is None or (stamped and stamped[-1] >= number):
            return STAMP_EVERY_S
        if stamped and (wait_s := await self._wait_after(log, stamped[-1])) > 0:
            return wait_s
        request = request_for(note)
        reply = await self._authority.ask(request.der)
        read_stamp(reply, note, self._authorities, request.nonce)
        await log.keep_stamp(number, reply)
        self.counts["stored"] += 1
        self._retry_s = RETRY_MIN_S
        if self._failing_as:
            _log.info("checkpoints are stamped again")
        self._failing_as = ""
        return STAMP_EVERY_S

    async def _wait_after(self, log: HeadLog, number: int) -> float:
        """The time until the next stamp after this one is due; 0 after one that is damaged."""
        reply, note = await log.stamp(number), await log.checkpoint(number)
        try:
            before_s = read_stamp(reply or b"", note or b"").time_s
        except TimestampRefused:
            return 0.0
        return min(STAMP_EVERY_S, before_s + STAMP_EVERY_S - time())
