"""A pipelined connection to Redis whose replies arrive as callbacks.

The hot path needs two things that redis-py does not offer: no task, lock or future per call, and a callback in the same tick in
which the reply was read. `streams.redis.calls` adds calls that wait for their reply. See ops/decisions/0002-own-redis-wire.md
for measurements.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import ConnectionPool, parse_url

from streams.errors import ConfigurationRefused, LogUnavailable
from streams.lived_timeout import lived_timeout

Reply = Any  # the RESP types: bytes, int, None, lists of these, hiredis.ReplyError
Argument = bytes | str | int
OnReply = Callable[[Reply], None]

CONNECT_TIMEOUT_S: Final = 2.0
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)  # its stub allows only one argument


class Wire(asyncio.Protocol):
    """Sends packed commands and calls back with each reply, in order.

    When the connection is lost, every waiting callback receives a `LogUnavailable`; the owner opens a new wire.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[OnReply] = deque()
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] | None = None
        self._has_heard = False
        self._silent_checks = 0
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def is_open(self) -> bool:
        """True while commands can be sent."""
        return self._transport is not None

    def send(self, on_reply: OnReply, *args: Argument) -> None:
        """Send one command. `on_reply` receives the reply, a `hiredis.ReplyError`, or a `LogUnavailable`."""
        if self._transport is None:
            on_reply(LogUnavailable("Redis is unreachable"))
            return
        self._waiting.append(on_reply)
        if self._held is None:
            self._transport.write(_pack(args))
        else:
            self._held.append(_pack(args))

    @contextmanager
    def in_one_write(self) -> Iterator[None]:
        """Sends the commands issued inside this context in one write: Redis receives and answers small ones together."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held and self._transport is not None:
                self._transport.write(b"".join(held))

    def check(self) -> int:
        """Count the consecutive checks, this one included, that found a reply due and no byte since the previous check.

        A caller that checks at an interval counts turns of the event loop and not the clock: after a stall of its own, the
        process reads its sockets before it declares a connection dead. A partial reply counts as progress.
        """
        self._silent_checks = 0 if self._has_heard or not self._waiting else self._silent_checks + 1
        self._has_heard = False
        return self._silent_checks

    async def call(self, *args: Argument, timeout_s: float = 5.0) -> Reply:
        """Send one command and wait for its reply.

        Raises:
            LogUnavailable: no reply came within `timeout_s`, or the connection was lost.
            hiredis.ReplyError: Redis refused the command.
        """
        return await self.answer(self.ask(*args), timeout_s=timeout_s)

    def ask(self, *args: Argument) -> asyncio.Future[Reply]:
        """Send one command; `answer` waits for the reply, and the caller may work meanwhile."""
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(lambda reply: None if waiter.done() else waiter.set_result(reply), *args)
        return waiter

    async def answer(self, asked: asyncio.Future[Reply], *, timeout_s: float) -> Reply:
        """Wait for the reply to what was asked; raises as `call`."""
        reply = await self._answered(asked, timeout_s)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def call_all(self, commands: Sequence[Sequence[Argument]], *, timeout_s: float) -> list[Reply]:
        """Send several commands in one write and wait for all replies; refusals are returned among them as `hiredis.ReplyError`.

        Raises:
            LogUnavailable: not all replies came within `timeout_s`, or the connection was lost.
        """
        if not commands:
            return []
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        replies: list[Reply] = []

        def take(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not waiter.done():
                waiter.set_result(None)

        with self.in_one_write():
            for args in commands:
                self.send(take, *args)
        await self._answered(waiter, timeout_s)
        for reply in replies:
            if isinstance(reply, LogUnavailable):
                raise reply
        return replies

    async def _answered(self, waiter: asyncio.Future[Reply], timeout_s: float) -> Reply:
        try:
            async with lived_timeout(timeout_s):
                return await waiter
        except TimeoutError as error:
            if waiter.done() and not waiter.cancelled():  # this process was stalled, and the reply had already arrived
                return waiter.result()
            self.abort()  # the late reply must not go to the next caller
            raise LogUnavailable(f"Redis did not answer within {timeout_s} s") from error

    def abort(self) -> None:
        """Close at once. Every waiting callback receives an error."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the socket is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports have another base class

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with received bytes, which may hold partial replies."""
        self._has_heard = True
        self._reader.feed(data)
        waiting, gets = self._waiting, self._reader.gets
        while (reply := gets()) is not False:
            waiting.popleft()(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the socket is closed."""
        self._transport = None
        lost, self._waiting = self._waiting, deque()
        for on_reply in lost:
            on_reply(LogUnavailable(f"the connection to Redis was lost: {exc or 'closed'}"))
        self.on_lost()


async def open_wire(url: str, name: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Wire:
    """Connect, authenticate, select the database and name the connection (`CLIENT LIST` shows the name).

    Raises:
        ConfigurationRefused: the URL is invalid.
        LogUnavailable: Redis could not be reached, or refused the login, within `timeout_s`.
    """
    options = _options(url)
    wire: Wire | None = None
    try:
        async with lived_timeout(timeout_s):
            wire = await _connect(options)
            await _log_in(wire, options, name)
    except BaseException as error:
        if wire is not None:
            wire.abort()  # otherwise each attempt at a server that refuses the login would leave a socket open
        if isinstance(error, OSError | TimeoutError | hiredis.ReplyError):
            raise LogUnavailable(f"Redis could not be reached: {error or type(error).__name__}") from error
        raise
    return wire


def _options(url: str) -> dict[str, Any]:
    try:
        # Sends nothing: options that redis-py cannot use are refused here.
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # redis-py left it bare
        return dict(parse_url(url))
    except (ValueError, TypeError):  # the exception's text may contain part of the password
        text = "REDIS_URL must be a URL such as redis://host:6379/0, with options that redis-py knows and their values"
        raise ConfigurationRefused(text) from None


async def _connect(options: dict[str, Any]) -> Wire:
    loop = asyncio.get_running_loop()
    if "path" in options:
        return (await loop.create_unix_connection(Wire, options["path"]))[1]
    is_tls = "SSL" in getattr(options.get("connection_class"), "__name__", "")
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs")) if is_tls else None
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return (await loop.create_connection(Wire, host, port, ssl=context))[1]


async def _log_in(wire: Wire, options: dict[str, Any], name: str) -> None:
    if password := options.get("password"):
        user = options.get("username")
        await wire.call("AUTH", *((user, password) if user else (password,)))
    if db := options.get("db"):
        await wire.call("SELECT", int(db))
    await wire.call("CLIENT", "SETNAME", name)
