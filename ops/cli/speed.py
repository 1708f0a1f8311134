"""How fast the past is played: at once, or as it happened times N."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from ops.cli.failure import EXIT_USAGE, CommandFailed

_TIMES: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)x")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the past for each second now; 0 is as fast as can be."""

    times: float

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to wait for."""
        return self.times > 0

    def due(self, begun: float, offset_s: float) -> float:
        """The loop's time at which something `offset_s` after the beginning happens."""
        return begun + offset_s / self.times if self.times else begun

    async def wait_until(self, begun: float, offset_s: float) -> None:
        """Sleep until then."""
        wait_s = self.due(begun, offset_s) - asyncio.get_running_loop().time()
        if self.is_limited and wait_s > 0:
            await asyncio.sleep(wait_s)


def pace_of(text: str) -> Pace:
    """Read `max`, `1x` or `10x`.

    Raises:
        CommandFailed: it is none of these.
    """
    found = _TIMES.fullmatch(text)
    if text != "max" and (found is None or not float(found[1])):
        raise CommandFailed("--speed must be max, or a number followed by x, such as 1x or 10x", EXIT_USAGE)
    return Pace(float(found[1]) if found else 0.0)
