"""Pages of a channel's log, shared by the subscriptions of a node that continue from the same position.

After an outage most clients of a channel have missed the same events. The page after their position is read, checked
and encoded for the first of them; the others wait for that read, and are sent the same bytes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hub.limits.slices import Slices
from hub.node.fanout import Fanout
from streams.redis.log import Log
from streams.wire_page import WirePage

SHARED_S: Final = 0.5
"""Seconds for which a page is shared after it was read."""
SHARED_BYTES_MAX: Final = 4_194_304
"""Maximum bytes of events in the shared pages of a node, about half of what they take with their frames; a page that does not fit
is not shared."""


class SharedPage:
    """Events that were read together, with their frames once they were encoded.

    Attributes:
        events: the events.
        size_bytes: total bytes of these.
    """

    __slots__ = ("_frames", "events", "size_bytes")

    def __init__(self, events: WirePage) -> None:
        self.events = events
        self.size_bytes = sum(map(len, events.lines))
        self._frames: dict[int, bytes] = {}

    def frames(self, fanout: Fanout, encoding: int) -> bytes:
        """Returns all events of the page as WebSocket frames for a client with this encoding."""
        if (made := self._frames.get(encoding)) is None:
            made = self._frames[encoding] = fanout.encode(self.events.lines, encoding)
        return made


class SharedPages:
    """Reads pages for the subscriptions of one node."""

    def __init__(self, log: Log, slices: Slices) -> None:
        self._log = log
        self._slices = slices
        self._shared: dict[Fanout, dict[tuple[str, str], SharedPage]] = {}
        self._under_way: dict[Fanout, dict[tuple[str, str], asyncio.Future[SharedPage | None]]] = {}
        self._bytes = 0

    async def read(self, fanout: Fanout, after: str, upto: str = "+") -> SharedPage:
        """Returns one page of the events after `after` and up to `upto`. An empty page means the end.

        Only pages of a replay are shared, which ends at a head: without `upto` a slow reader catches up, from a place of its own.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        key = (after, upto)
        if (page := self._shared.get(fanout, {}).get(key)) is not None:
            return page
        if upto == "+" or len(fanout.subscribers) <= 1:
            return await self._read(fanout, key)
        under_way = self._under_way.setdefault(fanout, {})
        if (reading := under_way.get(key)) is not None:
            page = await asyncio.shield(reading)
            return page or await self._read(fanout, key)
        reading = under_way[key] = asyncio.get_running_loop().create_future()
        page = None
        moves = fanout.move_count
        try:
            page = await self._read(fanout, key)
        finally:
            kept = self._under_way.get(fanout) is under_way  # nobody has told to forget pages meanwhile
            valid = kept and fanout.move_count == moves
            # Those who wait read for themselves where this read failed, was cancelled, or is of a log that has moved since.
            reading.set_result(page if valid else None)
            del under_way[key]
            if kept and not under_way:
                del self._under_way[fanout]
        if page.events.lines and valid:
            self._share(fanout, key, page)
        return page

    async def _read(self, fanout: Fanout, key: tuple[str, str]) -> SharedPage:
        (after, upto), size = key, self._slices.page()
        replay, channel = self._log.replay, fanout.channel
        return SharedPage(await replay.wire_page(channel, after, size.events, upto, limit_bytes=size.size_bytes))

    def _share(self, fanout: Fanout, key: tuple[str, str], page: SharedPage) -> None:
        if self._bytes + page.size_bytes > SHARED_BYTES_MAX or key in (shared := self._shared.setdefault(fanout, {})):
            return
        shared[key] = page
        self._bytes += page.size_bytes
        asyncio.get_running_loop().call_later(SHARED_S, self._drop, fanout, key, page)

    def forget(self, fanout: Fanout) -> None:
        """Stops sharing pages read so far in this channel, because its log may not continue from them."""
        self._under_way.pop(fanout, None)
        for page in self._shared.pop(fanout, {}).values():
            self._bytes -= page.size_bytes

    def _drop(self, fanout: Fanout, key: tuple[str, str], page: SharedPage) -> None:
        shared = self._shared.get(fanout)
        if shared is None or shared.get(key) is not page:
            return
        del shared[key]
        self._bytes -= page.size_bytes
        if not shared:
            del self._shared[fanout]
