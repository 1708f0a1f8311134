"""Does the client's I/O: opens sockets, reads, writes, runs the timer, and reconnects after a loss.

The only file of the client that uses the network. All decisions about the protocol are made in the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket as sockets
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from hub.client.compression import OfferDeflate
from hub.client.core import Core, SocketState
from hub.client.errors import ClientError, ConnectionRefused, Retry, Wait
from hub.client.recovery import Over, Verdict
from hub.client.wire import join

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A JWT, or a function (plain or async) that returns one. Only with a function can an expired token be replaced."""


class TokenSource:
    """Caches the current token, so that a reconnect need not ask the issuer for a new one each time."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._current_token = token if isinstance(token, str) else None
        self.renewable = not isinstance(token, str)

    async def current(self) -> str:
        """Returns the token to send now."""
        return self._current_token if self._current_token is not None else await self.renew()

    async def renew(self) -> str:
        """Returns a fresh token; the same one if only a string was given."""
        token = self._token
        if isinstance(token, str):
            return token
        made = token()
        self._current_token = await made if inspect.isawaitable(made) else made
        return self._current_token

    def expire(self) -> None:
        """Discards the token that the hub refused as expired: the next `current` gets a fresh one."""
        if self.renewable:
            self._current_token = None


_log: Final = logging.getLogger("hub.client")
_SUBPROTOCOL: Final = Subprotocol("hub.v1.json")
_OPEN_S: Final = 10.0
"""Seconds for TCP, TLS and the upgrade."""
_CLOSE_S: Final = 1.0
"""Seconds for the closing handshake; a socket with much unsent data may not complete it."""
_SERVER_FAULT: Final = 500
_TEMPORARY: Final = (408, 425, 429)
"""HTTP statuses below 500 after which an upgrade is tried again."""
_NO_CLOSE_FRAME: Final = 1006
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def socket_url(url: str) -> str:
    """Returns the WebSocket URL of a hub given as `http://host`, `ws://host` or `ws://host/ws`.

    Raises:
        ValueError: the URL has none of these forms.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError("the hub's url must look like http://host:8000 or wss://host/ws")
    return urlunsplit((scheme, parts.netloc, "/ws" if parts.path in ("", "/") else parts.path, parts.query, ""))


class Driver:
    """The connection of one client, replaced by a new socket after each loss.

    Attributes:
        settled: set once the first handshake succeeded, or no further attempt will be made (see `core.over`).
        trouble: the error of the newest attempt to connect; None after a success.
    """

    def __init__(
        self, core: Core, urls: Sequence[str], token: TokenSource, on_wait: Callable[[Wait], None] | None = None
    ) -> None:
        self._on_wait = on_wait
        self.settled = asyncio.Event()
        self.trouble: Exception | None = None
        self._core = core
        self._urls = [socket_url(url) for url in urls]
        self._token = token
        self._socket: ClientConnection | None = None
        self._readable, self._writable = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def place(self) -> str:
        """The URLs that are tried, safe to show."""
        return " or ".join(sorted(url.partition("?")[0] for url in self._urls))

    async def run(self) -> None:
        """Stays connected until cancelled, or until the hub refuses for good.

        The core then ends all subscriptions and commands.
        """
        try:
            while not isinstance(verdict := await self._one_socket(), Over):
                if verdict.fresh_token:
                    self._token.expire()
                await asyncio.sleep(verdict.delay_s)
        except Exception as problem:
            _log.exception("the hub client stopped because of an internal error")
            self._core.fail(ClientError(f"the client stopped because of an internal error: {problem!r}"))
        finally:
            self.settled.set()

    def stir(self) -> None:
        """Wakes the reader, writer and timer, because the core has something new to send or to wait for."""
        if self._core.outgoing:
            self._writable.set()
        if not self._core.paused:
            self._readable.set()
        if self._core.next_due < self._armed_for:
            self._arm()

    def cut(self) -> None:
        """Resets the TCP connection without a close frame; the client reconnects by itself."""
        if self._socket is not None:
            transport = self._socket.transport
            with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(_fileno(transport))) as same:
                same.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()

    async def _one_socket(self) -> Verdict:
        """Runs one socket from its opening to its end."""
        try:
            token = await self._token.current()
            socket = await self._open()
        except ConnectionRefused as refusal:
            self._core.fail(refusal)
            return Over(refusal)
        except Exception as problem:  # a network, a proxy or a token provider may raise anything: try again
            self.trouble = problem
            _log.info("no connection to the hub: %r", problem)
            return self._core.lost(None, _now())
        return await self._live(socket, token)

    async def _open(self) -> ClientConnection:
        """Opens a socket to the next URL in turn."""
        url = self._urls[0]
        self._urls.append(self._urls.pop(0))
        try:
            return await connect(
                url,
                subprotocols=[_SUBPROTOCOL],
                compression=None,
                extensions=[OfferDeflate()],
                max_size=None,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=None,
            )
        except InvalidStatus as answer:
            status = answer.response.status_code
            if status >= _SERVER_FAULT or status in _TEMPORARY:
                raise
            message = f"{url} answered the upgrade with HTTP {status}"
            raise ConnectionRefused(
                {"code": status, "name": "upgrade_refused", "message": message, "retry": Retry.NO}
            ) from answer

    async def _live(self, socket: ClientConnection, token: str) -> Verdict:
        self._socket = socket
        self._core.open(token, _now())
        writer = asyncio.create_task(self._write(socket))
        self.stir()
        try:
            await self._read(socket)
        except ConnectionClosed as closed:
            self.trouble = closed
        finally:
            self._socket = None
            await self._end_socket(socket, writer)
        code = None if socket.close_code == _NO_CLOSE_FRAME else socket.close_code
        _log.info("the connection to the hub ended: %s", self._core.broken or socket.close_code)
        return self._core.lost(code, _now())

    async def _end_socket(self, socket: ClientConnection, writer: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for = None, float("inf")
        tasks = [task for task in (writer, self._refreshing) if task is not None]
        self._refreshing = None
        for task in tasks:
            task.cancel()
        try:
            if self._core.broken is None:
                await _close_politely(socket)
        finally:
            socket.transport.abort()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.wait_closed()

    async def _read(self, socket: ClientConnection) -> None:
        core, clock = self._core, asyncio.get_running_loop().time
        while core.broken is None:
            if core.paused:
                await self._rest()
            text = await socket.recv(decode=True)
            core.receive(text, clock())
            if core.waits:
                self._tell_waits()
            if core.outgoing:
                self._writable.set()
            if core.next_due < self._armed_for:
                self._arm()
            if core.wants_token:
                self._renew()
            if core.socket_state is SocketState.READY and not self.settled.is_set():
                self.settled.set()

    def _tell_waits(self) -> None:
        """Reports waiting commands: to the log when they begin to wait, to `on_wait` at each refusal."""
        for wait, is_new in self._core.take_waits():
            if is_new:
                _log.warning("%s", wait)
            if self._on_wait is not None:
                try:
                    self._on_wait(wait)
                except Exception:
                    _log.exception("on_wait failed; the command still waits")

    async def _rest(self) -> None:
        """Stops reading the socket until a reader has made room, or another reader waits for items."""
        self._core.listen(_now(), listening=False)
        self._readable.clear()
        await self._readable.wait()
        self._core.listen(_now(), listening=True)

    async def _write(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the read loop sees the closed connection too and reports it
            while True:
                await self._writable.wait()
                self._writable.clear()
                for message in join(self._core.flush(), self._core.limit_bytes):
                    await socket.send(message, text=True)

    def _arm(self) -> None:
        """Set the timer to the core's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = self._core.next_due
        self._timer = asyncio.get_running_loop().call_at(self._armed_for, self._tick)

    def _tick(self) -> None:
        self._timer, self._armed_for = None, float("inf")
        self._core.tick(_now())
        if self._core.broken is not None and self._socket is not None:
            self._socket.transport.abort()
        else:
            self.stir()

    def _renew(self) -> None:
        self._core.token_request_seen()
        if self._token.renewable and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            self._core.refresh(await self._token.renew())
        except Exception:  # the old token is still valid; when it expires, the hub answers 4002 and we get a new one
            _log.warning("the token provider failed; the connection will end when the token expires", exc_info=True)
        self._refreshing = None
        self.stir()


async def _close_politely(socket: ClientConnection) -> None:
    """Closes with a close frame, discarding messages that the hub sent before it saw it. Bounded by the close timeout."""
    async with asyncio.TaskGroup() as group:
        group.create_task(socket.close())
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv(decode=False)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _fileno(transport: asyncio.Transport) -> int:
    return int(transport.get_extra_info("socket").fileno())
