"""Does the client's I/O: opens sockets, reads, writes, runs the timer, and reconnects after a loss.

The only file of the client that uses the network. All decisions about the protocol are made in the core.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed

from hub.client.core import Core, SocketState
from hub.client.errors import ClientError, ConnectionRefused, Wait
from hub.client.http_socket import HttpSocket
from hub.client.recovery import Again, Fallback, Over, Verdict
from hub.client.web_socket import WebSocket
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
_NO_CLOSE_FRAME: Final = 1006
_WEBSOCKET_OFF: Final = 4024
"""Close code of the hub that keeps this user off WebSocket at present."""
_OF_THE_HUB: Final = 4000
"""Close codes from here on are the hub's own: it was reached."""


def socket_url(url: str) -> str:
    """Returns the WebSocket URL of a hub given as `http://host`, `http://host/prefix`, `ws://host` or `ws://host/prefix/ws`.

    The path of a socket always ends with `/ws`, as in the JavaScript client.

    Raises:
        ValueError: the URL has none of these forms.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError("the hub's url must look like http://host:8000 or wss://host/ws")
    path = parts.path.rstrip("/").removesuffix("/ws")
    return urlunsplit((scheme, parts.netloc, f"{path}/ws", parts.query, ""))


def http_base(url: str) -> str:
    """The address that HTTP routes of a hub begin with, for a WebSocket URL."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/ws"), "", ""))


class Driver:
    """The connection of one client, replaced by a new socket after each loss.

    Attributes:
        settled: set once the first handshake succeeded, or no further attempt will be made (see `core.over`).
        trouble: the error of the newest attempt to connect; None after a success.
    """

    def __init__(
        self,
        core: Core,
        urls: Sequence[str],
        token: TokenSource,
        on_wait: Callable[[Wait], None] | None = None,
        *,
        fallback: Fallback,
        jitter: Callable[[], float],
    ) -> None:
        self._fallback, self._jitter = fallback, jitter
        self._on_wait = on_wait
        self.settled = asyncio.Event()
        self.trouble: Exception | None = None
        self._core = core
        self._urls = [socket_url(url) for url in urls]
        self._token = token
        self._socket: WebSocket | HttpSocket | None = None
        self._ready_socket: WebSocket | None = None
        self._refused: ConnectionRefused | None = None
        self._returning: asyncio.Task[None] | None = None
        self._was_acknowledged = False
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
            if self._ready_socket is not None:
                self._ready_socket.abort()
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
            self._socket.cut()

    @property
    def transport(self) -> str | None:
        """The current way to the hub: `websocket`, `http-stream` or `http-poll`; None while there is none."""
        if self._socket is None or self._core.socket_state is not SocketState.READY:
            return None
        if isinstance(self._socket, WebSocket):
            return "websocket"
        return "http-poll" if self._socket.is_polling else "http-stream"

    async def _one_socket(self) -> Verdict:
        """Runs one socket from its opening to its end."""
        self._was_acknowledged = False
        try:
            token = await self._token.current()
        except Exception as problem:  # a token provider may raise anything: try again
            return self._unconnected(problem)
        try:
            socket = await self._open()
        except Exception as problem:  # a network or a proxy may raise anything: try again, over HTTP first
            if isinstance(problem, ConnectionRefused):
                self._refused = problem
            self.trouble = problem
            return Again(0.0) if self._fallback.unacknowledged() else self._unconnected(problem)
        verdict = await self._live(socket, token)
        code = socket.close_code or _NO_CLOSE_FRAME
        if code == _WEBSOCKET_OFF and self._fallback.refused():
            return Again(0.0)
        if self._was_acknowledged or code >= _OF_THE_HUB:
            self._refused = None
        elif self._fallback.unacknowledged():
            return Again(0.0)
        elif self._refused is not None and isinstance(socket, HttpSocket) and socket.is_foreign:
            self._core.fail(self._refused)
            return Over(self._refused)
        return Again(0.0) if self._ready_socket is not None else verdict

    def _unconnected(self, problem: Exception) -> Verdict:
        self.trouble = problem
        _log.info("no connection to the hub: %r", problem)
        return self._core.lost(None, _now())

    async def _open(self) -> WebSocket | HttpSocket:
        """Opens a socket to the next URL in turn; HTTP takes the one whose WebSocket was refused."""
        if self._fallback.is_http:
            return HttpSocket(http_base(self._urls[-1]))
        ready, self._ready_socket = self._ready_socket, None
        if ready is not None:
            return ready
        url = self._urls[0]
        self._urls.append(self._urls.pop(0))
        return await WebSocket.open(url)

    async def _live(self, socket: WebSocket | HttpSocket, token: str) -> Verdict:
        self._socket = socket
        self._core.open(token, _now())
        writer = asyncio.create_task(self._write(socket))
        self.stir()
        try:
            await self._read(socket)
        except ConnectionClosed as closed:
            if not self._fallback.is_http or self.trouble is None:
                self.trouble = closed
        finally:
            self._socket = None
            await self._end_socket(socket, writer)
        code = None if socket.close_code == _NO_CLOSE_FRAME else socket.close_code
        _log.info("the connection to the hub ended: %s", self._core.broken or socket.close_code)
        return self._core.lost(code, _now())

    def _acknowledged(self) -> None:
        """Takes note of the first acknowledgement on this socket. Over HTTP, a WebSocket is tried from time to time."""
        self._was_acknowledged = True
        pause_s = self._fallback.acknowledged(self._jitter())
        if pause_s is not None:
            _log.warning("no WebSocket to %s: the client uses HTTP", self.place)
            self._returning = asyncio.create_task(self._return(pause_s))
        self.settled.set()

    async def _return(self, pause_s: float | None) -> None:
        """Opens a WebSocket after the pause, and ends the HTTP connection once there is one."""
        while pause_s is not None:
            await asyncio.sleep(pause_s)
            try:
                self._ready_socket = await WebSocket.open(self._urls[-1])
            except Exception as problem:  # as in _one_socket
                _log.info("still no WebSocket: %r", problem)
                pause_s = self._fallback.acknowledged(self._jitter())
            else:
                self._fallback.returned()
                if self._socket is not None:
                    self._socket.abort()
                return

    async def _end_socket(self, socket: WebSocket | HttpSocket, writer: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for = None, float("inf")
        returning = None if self._ready_socket is not None else self._returning
        tasks = [task for task in (writer, self._refreshing, returning) if task is not None]
        self._refreshing = self._returning = None
        for task in tasks:
            task.cancel()
        try:
            if self._core.broken is None:
                await socket.close()
        finally:
            socket.abort()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.wait_closed()

    async def _read(self, socket: WebSocket | HttpSocket) -> None:
        core, clock = self._core, asyncio.get_running_loop().time
        while core.broken is None:
            if core.paused:
                await self._rest()
            text = await socket.recv()
            core.receive(text, clock())
            if core.waits:
                self._tell_waits()
            if core.outgoing:
                self._writable.set()
            if core.next_due < self._armed_for:
                self._arm()
            if core.wants_token:
                self._renew()
            if not self._was_acknowledged and core.socket_state is SocketState.READY:
                self._acknowledged()

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

    async def _write(self, socket: WebSocket | HttpSocket) -> None:
        with contextlib.suppress(ConnectionClosed):  # the read loop sees the closed connection too and reports it
            while True:
                await self._writable.wait()
                self._writable.clear()
                for message in join(self._core.flush(), self._core.limit_bytes):
                    await socket.send(message)

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
            self._socket.abort()
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


def _now() -> float:
    return asyncio.get_running_loop().time()
