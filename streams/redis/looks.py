"""Looks: consistent reads of a channel's head, floor and epoch, together with any records beside its log.

A server has one script call under way (in a Cluster, a partition). The looks requested meanwhile share the next one, and equal
ones for a channel are merged: a thousand sockets that reconnect at once cost a few round trips, not thousands, and a lone look
waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from streams.channel import Channel
from streams.cursor import Look, Position
from streams.errors import CommandRefused
from streams.redis.calls import Calls
from streams.redis.keys import Keys, Limits
from streams.redis.scripts import load
from streams.redis.sights import KeyRead, Sight
from streams.redis.wire import Argument, Reply

LOOK: Final = load("look")
AT_ONCE: Final = 64
"""Maximum number of channels per script call: about 2 ms, in which Redis serves nobody else."""
_LOOK_FIELDS: Final = 12


_Waiters = list[asyncio.Future[Sight]]


class _Wanted(NamedTuple):
    channel: Channel
    after: str | None
    reads: tuple[KeyRead, ...]
    waiters: _Waiters


class Looks:
    """Looks at channels.

    Args:
        keys: builds the names of all keys.
        calls_in: the calls to the server of a partition.
        life_of: the identity of a partition's data.
        new_epoch: makes a random epoch, for a channel whose log starts over.
        limits: the lengths of the bells.
    """

    def __init__(
        self,
        keys: Keys,
        calls_in: Callable[[int], Calls],
        life_of: Callable[[int], str],
        new_epoch: Callable[[], str],
        limits: Limits,
    ) -> None:
        self._keys = keys
        self._calls_in = calls_in
        self._life_of = life_of
        self._new_epoch = new_epoch
        self._limits = limits
        self._wanted: dict[Calls, dict[Channel, list[_Wanted]]] = {}
        self._under_way: dict[Calls, asyncio.Task[None]] = {}

    def ask(self, channel: Channel, after: str | None = None, reads: tuple[KeyRead, ...] = ()) -> asyncio.Future[Sight]:
        """Request head, floor, epoch, the events around `after`, and the keys of `reads`, all at one moment.

        A channel that was never written to gets no key. The future raises LogUnavailable if Redis is unreachable.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Sight] = loop.create_future()
        calls = self._calls_in(self._keys.of(channel).partition)
        wanted = self._wanted.get(calls)
        if wanted is None:
            wanted = self._wanted[calls] = {}
            if calls not in self._under_way:
                loop.call_soon(self._begin, calls)
        several = wanted.setdefault(channel, [])
        for one in several:
            if one.after == after and one.reads == reads:
                one.waiters.append(waiter)
                return waiter
        several.append(_Wanted(channel, after, reads, [waiter]))
        return waiter

    def _begin(self, calls: Calls) -> None:
        if calls not in self._under_way and calls in self._wanted:
            self._under_way[calls] = asyncio.create_task(self._call_all(calls))

    async def _call_all(self, calls: Calls) -> None:
        """Make calls until nothing is wanted."""
        try:
            while (by_channel := self._wanted.pop(calls, None)) is not None:
                wanted = [one for several in by_channel.values() for one in several]
                for start in range(0, len(wanted), AT_ONCE):
                    await self._call(calls, wanted[start : start + AT_ONCE])
        finally:
            del self._under_way[calls]

    async def _call(self, calls: Calls, several: list[_Wanted]) -> None:
        try:
            sights = await self._look(calls, several)
        except CommandRefused as error:
            if len(several) > 1:  # an invalid key of one of them must not fail the others
                for one in several:
                    await self._call(calls, [one])
                return
            _fail(several[0].waiters, error)
            return
        except Exception as error:  # raised by the calls that wait for it
            for wanted in several:
                _fail(wanted.waiters, error)
            return
        for wanted, sight in zip(several, sights, strict=True):
            for waiter in wanted.waiters:
                if not waiter.done():
                    waiter.set_result(sight)

    async def _look(self, calls: Calls, several: list[_Wanted]) -> list[Sight]:
        keys: list[bytes] = []
        args: list[Argument] = [self._new_epoch(), self._limits.bell_entries]
        for channel, after, reads, _ in several:
            names = self._keys.of(channel)
            at = names.partition
            keys += (
                self._keys.bell(at),
                names.stream,
                names.meta,
                names.live,
                self._keys.directory(at, channel.tenant, channel.kind),
            )
            args += (after or "", names.path, channel.name, self._life_of(at), len(reads))
            for read in reads:
                keys.append(read.key)
                args += (read.command, len(read.args), *read.args)
        replies = await calls.run(LOOK, keys, *args)
        return [_read(raw, wanted) for raw, wanted in zip(replies, several, strict=True)]


def _fail(waiters: _Waiters, error: Exception) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(error)


def _read(raw: list[Reply], wanted: _Wanted) -> Sight:
    epoch, head, floor = raw[0].decode(), _position(raw[1], raw[2]), _position(raw[3], raw[4])
    around = _maybe(raw[5], raw[6]), _maybe(raw[7], raw[8])
    look = Look(epoch, head, floor, *around, raw[9].decode(), raw[10].decode(), is_after_deletion=bool(raw[11]))
    return Sight(look, wanted.reads, raw[_LOOK_FIELDS:], len(wanted.waiters) > 1)


def _position(event_id: bytes, seq: bytes) -> Position:
    return Position(event_id.decode(), int(seq))


def _maybe(event_id: bytes, seq: bytes) -> Position | None:
    return _position(event_id, seq) if event_id else None
