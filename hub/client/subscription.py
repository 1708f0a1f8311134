"""The iterator that a reader uses: yields the items of one channel and saves its cursor."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from hub.client.core import Core
from hub.client.cursors import CursorStore
from hub.client.errors import HubClosed
from hub.client.feed import Feed, Phase, SubscribeOptions
from hub.client.items import Cursor, Event, Gap, Item, Receipt, Subscribed

ItemT = TypeVar("ItemT", bound=Item)


class Stirrable(Protocol):
    """The interface of the driver: it must be woken when the core has new work."""

    def stir(self) -> None:
        """Wakes the driver, so that it carries out the core's new work."""
        ...


class Wakeup:
    """Wakes readers that wait for items.

    Separate from the iterator, so that the core does not keep an abandoned one alive.
    """

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Wakes all waiting readers."""
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def wait(self) -> None:
        """Waits until woken."""
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        try:
            await sleeper
        finally:
            self._sleepers.remove(sleeper)


class Subscription(Generic[ItemT]):
    """The items of one channel, in order, each once.

    Asking for the next item confirms that the previous one was processed; only then is its cursor saved. Leaving
    the loop unsubscribes, at the latest when the iterator is garbage-collected; `aclose` or `async with` does so
    at once.
    """

    def __init__(
        self,
        core: Core,
        driver: Stirrable,
        store: CursorStore,
        options: SubscribeOptions,
        *,
        buffer: int,
        with_receipts: bool,
    ) -> None:
        self._wakeup = Wakeup()
        self._feed = Feed(options, buffer, self._wakeup.wake)
        self._core, self._driver, self._store = core, driver, store
        self._with_receipts = with_receipts
        self._reading = self._over = False
        self._handed_out: Cursor | None = None
        self._cursor = options.start
        core.subscribe(self._feed)
        driver.stir()
        self._abandon = weakref.finalize(self, _abandon, asyncio.get_running_loop(), core, driver, self._feed)
        self._abandon.atexit = False

    @property
    def channel(self) -> str:
        """The channel that is followed."""
        return self._feed.options.channel

    @property
    def cursor(self) -> Cursor | None:
        """The cursor after the newest processed item; None before one is known."""
        return self._cursor

    async def ready(self) -> Subscribed:
        """Waits for the hub's answer (state, head, floor). No events are lost meanwhile.

        Raises:
            ClientError: the subscription was refused.
        """
        while self._feed.answer is None:
            if self._feed.phase is Phase.ENDED:
                raise self._feed.error or HubClosed("the subscription was closed before the hub answered it")
            await self._wait()
        return self._feed.answer

    def commit(self) -> None:
        """Counts the last yielded item as processed and saves its cursor, without asking for the next item."""
        if self._handed_out is not None:
            self._cursor, self._handed_out = self._handed_out, None
            self._store.save(self.channel, self._cursor)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        if self._reading:
            raise RuntimeError("this subscription is being read by another task; give each channel one reader")
        self.commit()
        while True:
            while self._feed.items:
                item = self._take()
                if item is not None:
                    return item  # type: ignore[return-value]  # the overloads of `subscribe` say which items can come
            if self._feed.phase is Phase.ENDED:
                self._end()
            self._reading = True
            try:
                await self._wait()
            finally:
                self._reading = False

    def _take(self) -> Item | None:
        """Takes the next item; returns None if the reader did not ask for its kind."""
        feed = self._feed
        item = self._core.feeds.take(feed)
        if len(feed.items) == feed.low:  # there is room in the buffer again: see Feeds.take
            self._driver.stir()
        if type(item) is Event:
            self._handed_out = item.cursor
        elif type(item) is Gap:
            self._handed_out = item.head
        elif type(item) is Subscribed or type(item) is Receipt:
            self._note(item)
            return item if self._with_receipts else None
        return item

    def _note(self, item: Item) -> None:
        """Saves a first cursor for a reader that starts at the live end, even if no event ever arrives."""
        if isinstance(item, Subscribed) and self._cursor is None and not item.replay:
            self._handed_out = item.head
            self.commit()

    def _end(self) -> None:
        if self._feed.error is None or self._over:
            raise StopAsyncIteration
        self._over = True
        raise self._feed.error

    async def _wait(self) -> None:
        self._core.waiting += 1
        self._driver.stir()
        try:
            await self._wakeup.wait()
        finally:
            self._core.waiting -= 1

    async def aclose(self) -> None:
        """Stops following. An item that was yielded but not confirmed will be delivered again."""
        self._abandon.detach()
        self._core.feeds.leave(self._feed)
        self._driver.stir()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _abandon(loop: asyncio.AbstractEventLoop, core: Core, driver: Stirrable, feed: Feed) -> None:
    """Leaves the channel of a garbage-collected iterator. Safe in any thread: the work is done in the loop."""

    def leave() -> None:
        core.feeds.leave(feed)
        driver.stir()

    with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
        loop.call_soon_threadsafe(leave)
