"""Supervision of a process's background loops: a failing loop is restarted, counted, reported, and logged once per change.

Nodes and workers run every loop through a `Loops`. The readiness check asks it which loops fail, and the metrics show how often
each has failed. `until_reachable` is for a process that may start before its Redis.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from streams.errors import CommandRefused, ConfigurationRefused, LogUnavailable, StreamsError

RETRY_MIN_S: Final = 0.25
RETRY_MAX_S: Final = 2.0
"""Longest pause before a failed loop is retried; loops that need Redis must recover well within a lease of 8 s."""
STEADY_S: Final = 2.0
"""Seconds without a failure after which a loop that has no turns counts as working again."""
STALLED_S: Final = 30.0
"""A turn that takes longer is reported by the readiness check. The longest wait within a turn is a few call timeouts of 5 s."""
WAIT_S: Final = 0.5
TELL_EVERY_S: Final = 10.0
"""Interval between two log lines about the same wait."""
_CANCELS_MAX: Final = 20
_CANCEL_AGAIN_S: Final = 0.5

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


class Loop:
    """One supervised loop: its task and its state.

    Attributes:
        error: the current failure, as reported; None while the loop works.
    """

    def __init__(self, name: str, failures: Counter[str], retry_max_s: float) -> None:
        self.name = name
        self.error: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._failures = failures
        self._failing_as: type[Exception] | None = None
        self._retry_max_s = retry_max_s
        self._retry_s = RETRY_MIN_S
        self._turn_since: float | None = None

    @property
    def trouble(self) -> str | None:
        """A sentence for the readiness check; None while the loop works."""
        if self.error is not None:
            return f"{self.name} fails: {self.error}"
        if self.task is not None and self.task.done():
            return f"{self.name} has ended"
        if self._turn_since is not None and monotonic() - self._turn_since > STALLED_S:
            return f"{self.name} has been stuck for {monotonic() - self._turn_since:.0f} s"
        return None

    async def stop(self) -> None:
        """Cancel the task and wait for its end. A client library can swallow a cancellation, so it is repeated."""
        for _ in range(_CANCELS_MAX):
            if self.task is None or self.task.done():
                return
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=_CANCEL_AGAIN_S)
        _log.error("the loop %s does not end", self.name)

    async def take_turns(self, turn: Callable[[], Awaitable[object]], every_s: float, first_after_s: float) -> None:
        """Call `turn` repeatedly, for ever, with a pause before each call."""
        pause_s = first_after_s
        while True:
            await asyncio.sleep(pause_s)
            self._turn_since = monotonic()
            try:
                await turn()
            except Exception as error:
                pause_s = self._failed(error)
            else:
                self._worked()
                pause_s = every_s
            finally:
                self._turn_since = None

    async def keep(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run work that should never end, and run it again whenever it ends."""
        while True:
            steady = asyncio.get_running_loop().call_later(STEADY_S, self._worked)
            try:
                await work()
                raise RuntimeError("it ended, but should run for ever")
            except Exception as error:
                pause_s = self._failed(error)
            finally:
                steady.cancel()
            await asyncio.sleep(pause_s)

    def _failed(self, error: Exception) -> float:
        """Count and log a failure. Returns the pause in seconds before the next attempt."""
        self._failures[self.name] += 1
        if self._failing_as is not type(error):
            is_fault = not isinstance(error, StreamsError)
            _log.log(
                logging.ERROR if is_fault else logging.WARNING, "%s failed and will be retried: %s", self.name, error,
                exc_info=error if is_fault else None,
            )  # fmt: skip # one call to read at a glance
        self._failing_as = type(error)
        self.error = (
            str(error) if isinstance(error, StreamsError | CommandRefused) else "an internal error; see the log"
        )
        pause_s, self._retry_s = self._retry_s, min(self._retry_s * 2, self._retry_max_s)
        return min(pause_s, self._retry_max_s) * random.uniform(0.75, 1.0)  # jitter against retries in step

    def _worked(self) -> None:
        if self.error is not None:
            _log.info("%s works again", self.name)
        self.error = self._failing_as = None
        self._retry_s = RETRY_MIN_S


class Loops:
    """The loops of one process.

    Attributes:
        failures: how often each loop failed, by its name.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._loops: list[Loop] = []

    def every(
        self, name: str, turn: Callable[[], Awaitable[object]], every_s: float, *, first_after_s: float | None = None,
        retry_max_s: float = RETRY_MAX_S,
    ) -> Loop:  # fmt: skip # its arguments in two groups
        """Start a loop that calls `turn` every `every_s` seconds, first after `first_after_s`.

        A turn that raises is retried after a pause.
        """
        loop = self._new(name, retry_max_s)
        loop.task = asyncio.create_task(
            loop.take_turns(turn, every_s, every_s if first_after_s is None else first_after_s), name=name
        )
        return loop

    def keep(self, name: str, work: Callable[[], Awaitable[object]]) -> Loop:
        """Start a loop that runs work without an end; the work is run again if it raises or returns, and keeps its own state."""
        loop = self._new(name, RETRY_MAX_S)
        loop.task = asyncio.create_task(loop.keep(work), name=name)
        return loop

    @property
    def working(self) -> dict[str, bool]:
        """For each loop, by name, true if it works."""
        found: dict[str, bool] = {}
        for loop in self._loops:
            found[loop.name] = found.get(loop.name, True) and loop.trouble is None
        return found

    def troubles(self) -> list[str]:
        """One sentence for each failing loop."""
        return [trouble for loop in self._loops if (trouble := loop.trouble) is not None]

    async def stop(self, *loops: Loop) -> None:
        """End these loops and stop supervising them."""
        await asyncio.gather(*(loop.stop() for loop in loops))
        self._loops = [loop for loop in self._loops if loop not in loops]

    def _new(self, name: str, retry_max_s: float) -> Loop:
        loop = Loop(name, self.failures, retry_max_s)
        self._loops.append(loop)
        self.failures[name] += 0  # so that metrics show 0 before the first failure
        return loop


async def until_reachable(attempt: Callable[[], Awaitable[T]], *, is_refusal_final: bool = True) -> T:
    """Retry an action that needs Redis until it succeeds, logging at once and then every 10 s.

    Args:
        attempt: the action; a failed attempt must leave nothing behind.
        is_refusal_final: raise if Redis is configured in a way that cannot be used; otherwise wait until that is fixed.

    Raises:
        ConfigurationRefused: see `is_refusal_final`.
    """
    told_at = -TELL_EVERY_S
    while True:
        try:
            return await attempt()
        except (LogUnavailable, ConfigurationRefused) as error:
            if is_refusal_final and isinstance(error, ConfigurationRefused):
                raise
            if monotonic() - told_at >= TELL_EVERY_S:
                told_at = monotonic()
                _log.warning("not ready, waiting for Redis: %s", error)
        await asyncio.sleep(WAIT_S * random.uniform(0.5, 1.0))  # jitter against retries in step
