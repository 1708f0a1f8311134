"""A wire that one owner keeps: opened when it is first needed, opened again after it was lost."""

from __future__ import annotations

import asyncio
from typing import Final

import hiredis

from streams.errors import LogUnavailable
from streams.redis.scripts import Script
from streams.redis.wire import Reply, Wire, open_wire

_AWAY: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")


class OwnWire:
    """Calls Redis over a connection of its own. Each call fails by itself; the next one finds a new connection."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._wire: Wire | None = None
        self._opening = asyncio.Lock()

    async def get(self) -> Wire:
        """The open wire.

        Raises:
            LogUnavailable: Redis could not be reached.
        """
        if self._wire is not None and self._wire.is_open:
            return self._wire
        async with self._opening:
            if self._wire is None or not self._wire.is_open:
                self._wire = await open_wire(self._url, self._name)
            return self._wire

    async def call(self, *args: bytes | str | int, timeout_s: float = 5.0) -> Reply:
        """One command; see `Wire.call`. A server that cannot serve now counts as away."""
        wire = await self.get()
        try:
            return await wire.call(*args, timeout_s=timeout_s)
        except hiredis.ReplyError as error:
            raise _as_away(wire, error) from error

    async def run(self, script: Script, *args: bytes | str | int) -> Reply:
        """One script; see `Wire.run_script`."""
        wire = await self.get()
        try:
            return await wire.run_script(script, *args)
        except hiredis.ReplyError as error:
            raise _as_away(wire, error) from error

    def close(self) -> None:
        """Let the connection go."""
        if self._wire is not None:
            self._wire.abort()


def _as_away(wire: Wire, error: hiredis.ReplyError) -> Exception:
    if not str(error).startswith(_AWAY):
        return error
    wire.abort()  # it may be a replica now: look for the master anew
    return LogUnavailable(str(error))
