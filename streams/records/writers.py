"""Leases of operators' commands that write to the log, so that two that exclude each other do not run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from streams.errors import LogUnavailable, WriterExcluded
from streams.records.scripts import load
from streams.redis.calls import Calls
from streams.redis.keys import WRITERS

EVERYTHING: Final = "*"
"""The scope of a command that concerns all tenants."""
NO_TENANT: Final = "-"
"""The scope of a command that only those exclude that concern everything."""
LIFE_MS: Final = 30_000
"""Time after which the lease of a command that was killed ends."""
_RENEWALS: Final = 3
_ATTEMPTS: Final = 30
"""Into so many parts a lease's life is divided: by its renewals, and by the attempts while Redis is unreachable. What is written
between Redis's return and the renewal may be written without a lease."""
_ENDED: Final = b"-"
"""The reply of the script to a renewal of a lease that has ended."""
_LEASE: Final = load("writer_lease")


class Writer(NamedTuple):
    """A command that writes.

    Attributes:
        scope: a tenant, `EVERYTHING` or `NO_TENANT`.
        is_alone: true if no other command may write in this scope.
        name: its name, such as `hub delete`.
        by: the words by which an operator finds it.
    """

    scope: str
    is_alone: bool
    name: str
    by: str

    @classmethod
    def parse(cls, text: str) -> Writer:
        """Parse the stored form."""
        scope, how, rest = text.split(" ", 2)
        name, _, by = rest.partition(": ")
        return cls(scope, how == "alone", name, by)

    def __str__(self) -> str:
        return f"{self.scope} {'alone' if self.is_alone else 'beside'} {self.name}: {self.by}"


@asynccontextmanager
async def holding(url: str, writer: Writer, life_ms: int = LIFE_MS) -> AsyncIterator[None]:
    """Hold the lease of a command while the block runs, which is cancelled if another command has, or may have, taken its place.

    Raises:
        WriterExcluded: a command runs that excludes it; or the lease has ended, because this process was stopped or Redis was
            unreachable from here, and one may have run meanwhile.
        LogUnavailable: Redis is unreachable.
    """
    calls = Calls.at(url, "hub-writer", key=WRITERS)
    task = asyncio.current_task()
    failed: list[Exception] = []

    async def renew() -> None:
        parts = _RENEWALS
        try:
            while True:
                await asyncio.sleep(life_ms / 1_000 / parts)
                parts = _ATTEMPTS
                with suppress(LogUnavailable):  # the block finds out itself, and the lease is there until it ends
                    await _take(calls, writer, life_ms, is_renewal=True)
                    parts = _RENEWALS
        except Exception as error:
            failed.append(error)
            if task is not None:
                task.cancel()

    try:
        await _take(calls, writer, life_ms)
        renewing = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if not failed:
                raise
            if task is not None:
                task.uncancel()
            raise failed[0] from None
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            with suppress(LogUnavailable):  # then it ends by itself
                await calls.call("ZREM", WRITERS, str(writer))
    finally:
        calls.close()


async def _take(calls: Calls, writer: Writer, life_ms: int, *, is_renewal: bool = False) -> None:
    found: bytes = await calls.run(_LEASE, (WRITERS,), str(writer), life_ms, int(is_renewal))
    if found == _ENDED:
        raise WriterExcluded(f"the lease of `{writer.name}` has ended, and another command may have run: run it again")
    if found:
        other = Writer.parse(found.decode())
        of = "" if other.scope in {EVERYTHING, NO_TENANT} else f" of tenant {other.scope}"
        raise WriterExcluded(
            f"`{other.name}`{of} runs, by {other.by}: wait for its end (one that was killed counts for {life_ms // 1_000} s)"
        )
