"""The bells of all partitions: one entry for each committed batch, naming the channels that moved.

One wire sits in XREAD BLOCK on all of them, by the last bell heard of each. What a bell means is its hearer's business.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from streams.redis.calls import CALL_TIMEOUT_S, pairs
from streams.redis.keys import CONFIG, Keys
from streams.redis.limits import Limits
from streams.redis.wire import Argument, Reply, Wire

BLOCK_MS: Final = 1_000
"""Longest wait on the bells, and how often the log's identity is checked. Smaller costs a call more a second."""

_log = logging.getLogger(__name__)


class Hearer(Protocol):
    """Who is told what rang."""

    def rung(self, event_paths: bytes, live_paths: bytes) -> None:
        """These channels moved in their events lane, these in their live lane (paths, with blanks between)."""

    def begun(self, path: bytes, epoch: str) -> None:
        """Another life of a channel began."""

    def missed(self, prefix: bytes) -> None:
        """Bells of a partition, whose keys begin with `prefix`, may have been trimmed unheard."""

    def heard(self) -> None:
        """All that one read brought was told."""


class Bells:
    """Listens for one process, and knows the bells of the batches it appended itself.

    Args:
        name: of this process's batches; no other process has it.
    """

    def __init__(self, keys: Keys, name: str, limits: Limits, hearer: Hearer) -> None:
        self._bells = [keys.bell(number) for number in range(keys.partitions)]
        self._name = name.encode()
        self._kept_entries = limits.bell_entries
        self._hearer = hearer
        self._last_ids: dict[bytes, bytes] = {}
        self._life: bytes | None = None
        self._life_due_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._batch = 0
        self._trusted_from = 1
        self.wire: Wire | None = None

    def begin_batch(self) -> bytes:
        """The label of the next batch that this process appends; its bells bear it and are not told to the hearer."""
        self._batch += 1
        return b"%b:%d" % (self._name, self._batch)

    def distrust(self) -> None:
        """The bells of the batches begun so far are told like any other's: something of them may be left to read."""
        self._trusted_from = self._batch + 1

    async def place(self, wire: Wire) -> None:
        """Stand at the end of every bell, to listen over `wire` from there."""
        commands: list[tuple[Argument, ...]] = [("XREVRANGE", bell, "+", "-", "COUNT", 1) for bell in self._bells]
        *heads, life = await wire.call_all([*commands, ("HGET", CONFIG, "life")], timeout_s=CALL_TIMEOUT_S)
        if isinstance(refusal := next((r for r in (*heads, life) if isinstance(r, Exception)), None), Exception):
            raise refusal
        self._last_ids = {bell: head[0][0] if head else b"0" for bell, head in zip(self._bells, heads, strict=True)}
        self._life = life
        self.wire = wire

    def listen(self) -> None:
        """Wait for the next bells."""
        if self.wire is None:
            return
        if self._loop.time() >= self._life_due_at:  # by the clock: bells that never cease must not put it off
            self._life_due_at = self._loop.time() + BLOCK_MS / 1000
            self.wire.send(self._life_seen, b"HGET", CONFIG, b"life")
        self.wire.send(self._rung, b"XREAD", b"BLOCK", BLOCK_MS, b"STREAMS", *self._last_ids, *self._last_ids.values())

    def _rung(self, reply: Reply) -> None:
        if isinstance(reply, Exception):
            self._give_up(str(reply))
            return
        for bell, entries in reply or ():
            self._last_ids[bell] = entries[-1][0]
            if len(entries) >= self._kept_entries:  # it may have been trimmed past us: it always keeps at least so many
                self._hearer.missed(bell.removesuffix(b"bell"))
                continue
            for _, fields in entries:
                self._tell(pairs(fields))
        self.listen()
        self._hearer.heard()

    def _tell(self, bell: dict[bytes, bytes]) -> None:
        if not self._is_known(bell.get(b"batch", b"")):
            self._hearer.rung(bell[b"events"], bell[b"live"])
        for path, epoch in pairs(bell.get(b"begun", b"").split()).items():
            self._hearer.begun(path, epoch.decode())

    def _is_known(self, label: bytes) -> bool:
        """Whether everything this bell could name was, or is being, read back behind its batch."""
        name, _, number = label.partition(b":")
        return name == self._name and int(number) >= self._trusted_from

    def _life_seen(self, reply: Reply) -> None:
        """Another life of the log is begun anew, on new wires: its owner then fixes what a new log needs."""
        if isinstance(reply, Exception):
            self._give_up(str(reply))
        elif reply != self._life:
            self._give_up("the log is another one: it was flushed or exchanged")

    def _give_up(self, why: str) -> None:
        if self.wire is not None and self.wire.is_open:
            _log.warning("the bells are heard no more: %s", why)
            self.wire.abort()
