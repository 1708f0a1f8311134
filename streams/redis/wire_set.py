"""Wires that are opened, used and lost together, and opened again by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import hiredis

from streams.errors import LogUnavailable
from streams.redis.calls import in_our_words
from streams.redis.wire import Wire, open_wire

RECONNECT_MIN_S: Final = 0.05
RECONNECT_MAX_S: Final = 1.0
CHECK_INTERVAL_S: Final = 0.5
HUNG_AFTER_CHECKS: Final = {"append": 10, "query": 10, "bell": 6, "tail": 4}
"""By wire: the number of consecutive checks with a reply due and no byte received, after which the socket counts as half-open.
A blocked read of a bell is silent for `BLOCK_MS`.
"""

_log = logging.getLogger(__name__)


class WireSet:
    """Opens several wires, and opens all of them again when one is lost or hangs.

    Args:
        names: the wires, among the names in `HUNG_AFTER_CHECKS`.
        where: names the server in log lines.
        locate: finds the URL of the server, once for all wires.
        attach: uses the new wires; if it raises, they are closed, and opened again later.
        detach: called when the wires are lost, before they are closed.
        on_away: called after each failed attempt to open them.

    Attributes:
        url: the server that the wires lead to.
    """

    def __init__(
        self,
        names: Sequence[str],
        where: str,
        locate: Callable[[], Awaitable[str]],
        attach: Callable[[Sequence[Wire]], Awaitable[None]],
        detach: Callable[[], None],
        on_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._names = names
        self._where = where
        self._locate = locate
        self.url = ""
        self._attach = attach
        self._detach = detach
        self._on_away = on_away
        self._wires: list[Wire] = []
        self._lost = asyncio.Event()

    async def connect(self) -> None:
        """Open all wires and attach them.

        Raises:
            LogUnavailable: Redis could not be reached, or cannot serve now.
            ConfigurationRefused: see `attach`.
        """
        self._lost.clear()
        wires: list[Wire] = []
        try:
            self.url = await self._locate()
            for name in self._names:  # one by one, so that those that are open are closed if the next one fails
                wires.append(await open_wire(self.url, f"hub-{name}"))  # noqa: PERF401
            await self._attach(wires)
        except BaseException as error:
            self._detach()
            for wire in wires:
                wire.abort()
            if isinstance(error, hiredis.ReplyError):  # LOADING after a restart, READONLY after a failover
                raise in_our_words(error) from error
            raise
        self._wires = wires
        for wire in wires:
            wire.on_lost = self._lost.set
        if not all(wire.is_open for wire in wires):
            self._lost.set()

    async def supervise(self) -> None:
        """Wait for a loss and connect again, for ever."""
        while True:
            await self._loss()
            _log.warning("lost Redis at %s; reconnecting", self._where)
            self.close()
            await self._reconnect()
            _log.info("Redis is back at %s", self._where)

    def renew(self) -> None:
        """Give up the wires and open others, because another server holds the keys now."""
        self._lost.set()

    def close(self) -> None:
        """Close all wires."""
        self._detach()
        for wire in self._wires:
            wire.on_lost = _ignore  # closed on purpose: must not be taken for the loss of its successor
            wire.abort()

    async def _loss(self) -> None:
        """Wait until a wire is lost, and abort any that hangs."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._lost.wait()
            for name, wire in zip(self._names, self._wires, strict=True):
                if wire.check() >= HUNG_AFTER_CHECKS[name]:
                    wire.abort()

    async def _reconnect(self) -> None:
        delay_s = RECONNECT_MIN_S
        while True:
            try:
                await self.connect()
            except (LogUnavailable, OSError) as error:
                _log.debug("Redis is still unreachable: %s", error)
            except Exception:
                _log.exception("Redis is back, but cannot be used as configured; trying again")
            else:
                return
            self._on_away()
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # jitter, so that nodes do not come back in step
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)


def _ignore() -> None:
    """Do nothing."""
