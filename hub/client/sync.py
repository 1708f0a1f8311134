"""The client for scripts without `async`: a `HubClient` whose event loop runs in a thread of its own.

with SyncHub("http://127.0.0.1:8000", token) as hub:
asked = hub.send("conversation:42", "summary", agent="demo")
for text in hub.answers("conversation:42", asked):
print(text)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hub.client.answers import answers
from hub.client.client import HubClient
from hub.client.cursors import CursorStore
from hub.client.driver import Token
from hub.client.items import ChannelState, Cursor, Event, History, Payload, Reply, Stored
from hub.client.uploads import UploadedFile

T = TypeVar("T")


class SyncHub:
    """A connection to a hub. Each method waits for its outcome, and raises what its namesake of `HubClient` raises.

    Use it as `with SyncHub(url, token) as hub`. An iterator belongs to one thread; everything else may be called from any.

    Args:
        url: as for `HubClient`.
        token: a JWT, or a function that returns a fresh one.
        cursors: the store of cursors; memory by default.
    """

    def __init__(self, url: str, token: Token, *, cursors: CursorStore | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub-client", daemon=True)
        self._thread.start()
        self._hub = HubClient(url, token, cursors=cursors)

    def __enter__(self) -> Self:
        try:
            self._run(self._hub.connect())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, and ends the thread."""
        if self._thread.is_alive():
            self._run(self._hub.aclose())
            self._stop()

    def subscribe(
        self, channel: str, *, after: str | Cursor | None = None, rewind: int | None = None
    ) -> Generator[Event]:
        """Yields the events of a channel in order, each once; raises a `GapError` where some are missing for good."""
        return self._iterate(self._events(channel, after, rewind))

    def answers(self, channel: str, asked: Stored) -> Generator[str]:
        """Yields the whole text of an answer so far whenever it has changed."""
        return self._iterate(answers(self._hub, channel, asked))

    def send(self, channel: str, text: str, **fields: object) -> Stored:
        """Sends a message; returns once it is stored."""
        return self._run(self._hub.send(channel, text, **fields))

    def command(
        self, kind: str, channel: str | None = None, payload: Payload | None = None, *, command_id: str | None = None
    ) -> Reply:
        """Sends any command; returns its reply."""
        return self._run(self._hub.command(kind, channel, payload, command_id=command_id))

    def history(self, channel: str, **bounds: Any) -> History:
        """Returns a page of the past; the bounds are those of `HubClient.history`."""
        return self._run(self._hub.history(channel, **bounds))

    def state(self, channel: str) -> ChannelState:
        """Returns a channel's state as of now."""
        return self._run(self._hub.state(channel))

    def upload(self, channel: str, path: Path | str, **options: Any) -> UploadedFile:
        """Uploads a file; returns once the hub has verified it. The options are those of `HubClient.upload`."""
        return self._run(self._hub.upload(channel, path, **options))

    async def _events(self, channel: str, after: str | Cursor | None, rewind: int | None) -> AsyncGenerator[Event]:
        async with self._hub.subscribe(channel, after=after, rewind=rewind) as events:
            async for event in events:
                yield event

    def _iterate(self, items: AsyncGenerator[T]) -> Generator[T]:
        try:
            while True:
                try:
                    item = self._run(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(_close(items))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        outcome = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return outcome.result()
        except BaseException:  # Ctrl-C, too, gives up the wait
            outcome.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _awaited(work: Coroutine[Any, Any, T]) -> T:
    return await work


async def _close(items: AsyncGenerator[Any]) -> None:
    async with aclosing(items):
        pass
