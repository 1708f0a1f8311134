"""Calls to Redis: a command, a script, or several commands in one write, with one mapping of Redis errors to ours.

Everything except the append and the tail uses it: the stores of `streams.records`, groups, leases, replay. It sends over a
pipelined connection (`streams.redis.wire`), so calls made at the same time share round trips.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

import hiredis
from redis.exceptions import RedisError

from streams.errors import CommandRefused, LogUnavailable, PartitionMoving, RightMissing
from streams.histogram import Histogram
from streams.redis.keys import CONFIG, slot_of
from streams.redis.locate import Locator
from streams.redis.scripts import Script
from streams.redis.wire import Argument, Reply, Wire
from streams.slow_paths import SLOW_S, tell_slow

CALL_TIMEOUT_S: Final = 5.0
"""Longest wait for a reply. A smaller value gives up on a Redis that is merely busy; with a larger one callers hang on a dead one.
"""

_MOVED: Final = frozenset({"READONLY", "MASTERDOWN"})
_REDIRECTS: Final = frozenset({"MOVED", "ASK"})
_ELSEWHERE: Final = _REDIRECTS | {"CLUSTERDOWN", "TRYAGAIN"}
"""Codes with which a server of a Cluster refuses keys that it does not hold, or not alone; the command was not executed."""
_PASSES: Final = frozenset({"LOADING", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS", "UNKILLABLE"})
"""Codes of temporary refusals, which end by themselves or through an operator: the same call may be repeated."""
_NEEDS_A_RIGHT: Final = frozenset({"NOPERM", "NOAUTH", "WRONGPASS"})
_INNER: Final = re.compile(r"(?:^|[\s:])-?(" + "|".join(_MOVED | _PASSES | _NEEDS_A_RIGHT | {"WRONGTYPE"}) + r")\b")
_WRAPPED: Final = "ERR Error running script"
_NOT_ALLOWED_IN_SCRIPT: Final = ("The user executing the script can't", "ACL failure in script")


def code_of(error: Exception) -> str:
    """The code of an error reply, such as OOM.

    Redis 6.2 wraps an error raised inside a script, and Valkey reports a missing permission there only in words; in both cases
    the inner error's code is returned.
    """
    text = str(error)
    if any(words in text for words in _NOT_ALLOWED_IN_SCRIPT):
        return "NOPERM"
    if text.startswith(_WRAPPED) and (inner := _INNER.search(text, len(_WRAPPED))) is not None:
        return inner[1]
    return text.partition(" ")[0]


def is_moved(error: Exception) -> bool:
    """True if the server is now a replica: the connection is useless, and the master must be located again."""
    return code_of(error) in _MOVED


def is_elsewhere(error: Exception) -> bool:
    """True if another server of the Cluster holds the keys, or is about to: its map must be read again."""
    return code_of(error) in _ELSEWHERE


def in_our_words(error: hiredis.ReplyError | RedisError | OSError) -> LogUnavailable | CommandRefused:
    """Translate an error reply into one of our errors; a reply gives the same error for every caller."""
    code = code_of(error)
    if code in _NEEDS_A_RIGHT:
        return RightMissing(f"Redis refuses the hub's user; grant it the right to do this: {error}")
    if code in _REDIRECTS:
        return PartitionMoving("the channel's partition is moving to another server of the Redis Cluster; retry")
    if isinstance(error, hiredis.ReplyError) and code not in _MOVED and code not in _PASSES:
        return CommandRefused(code, str(error))
    return LogUnavailable(f"Redis cannot do this now: {error or type(error).__name__}")


def pairs(raw: Sequence[Reply]) -> dict[bytes, Reply]:
    """Convert a reply of alternating names and values to a mapping."""
    return dict(zip(raw[::2], raw[1::2], strict=True))


def text_pairs(raw: Sequence[Reply]) -> dict[str, str]:
    """Convert a reply of alternating names and values to a mapping of strings."""
    return {name.decode(): value.decode() for name, value in pairs(raw).items()}


class Asked(NamedTuple):
    """A command that was sent, and the reply that is to come."""

    wire: Wire
    reply: asyncio.Future[Reply]
    command: Argument
    sent_s: float


class Calls:
    """Calls one Redis over a connection, which the first call opens and the first call after a loss reopens.

    A call on a lost connection fails without a retry; the next one opens a new connection.

    Args:
        open_: opens a new wire.
        timeout_s: longest wait for a reply, unless a call sets another.
        on_elsewhere: called when another server of the Cluster holds the keys; by default the wire is closed, so that the
            next call locates that server.

    Attributes:
        round_trips: the time from each call to its reply.
    """

    def __init__(
        self,
        open_: Callable[[], Awaitable[Wire]],
        timeout_s: float = CALL_TIMEOUT_S,
        on_elsewhere: Callable[[], None] | None = None,
    ) -> None:
        self._open = open_
        self._timeout_s = timeout_s
        self._on_elsewhere = self.close if on_elsewhere is None else on_elsewhere
        self._wire: Wire | None = None
        self._opening = asyncio.Lock()
        self.round_trips = Histogram()

    @classmethod
    def at(cls, url: str, name: str, timeout_s: float = CALL_TIMEOUT_S, key: str | bytes = CONFIG) -> Calls:
        """Calls over a separate connection, opened by the first call; `CLIENT LIST` shows its name.

        In a Cluster it leads to the server that holds `key`.

        Raises:
            ConfigurationRefused: the URL is invalid.
        """
        return cls(partial(Locator(url).open, name, slot_of(key)), timeout_s)

    async def call(self, *args: Argument, timeout_s: float | None = None) -> Reply:
        """Send one command and return its reply.

        Raises:
            LogUnavailable: Redis is unreachable, too slow, or temporarily unable to serve; the call may be repeated.
            CommandRefused: Redis rejected the command as invalid.
        """
        asked = await self.ask(*args)
        if timeout_s is None:
            return await self.answer(asked)
        reply = await self._answer(asked, timeout_s)  # it may wait, and is then not slow
        self._replied(b"", monotonic() - asked.sent_s)
        return reply

    async def ask(self, *args: Argument) -> Asked:
        """Send one command; `answer` waits for its reply, and the caller may work meanwhile.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        wire = await self._get()
        return Asked(wire, wire.ask(*args), args[0], monotonic())

    async def answer(self, asked: Asked) -> Reply:
        """Wait for the reply to what was asked.

        Raises:
            LogUnavailable, CommandRefused: as `call`.
        """
        reply = await self._answer(asked, self._timeout_s)
        self._replied(asked.command, monotonic() - asked.sent_s)
        return reply

    async def _answer(self, asked: Asked, timeout_s: float) -> Reply:
        try:
            return await asked.wire.answer(asked.reply, timeout_s=timeout_s)
        except hiredis.ReplyError as error:
            raise self._refusal(asked.wire, error) from error

    async def run(self, script: Script, keys: Sequence[bytes | str], *args: Argument) -> Reply:
        """Run a script by its digest, or by its text if Redis no longer has it cached (as after a restart).

        Raises:
            LogUnavailable, CommandRefused: as `call`.
        """
        wire = await self._get()
        sent_s = monotonic()
        try:
            try:
                reply = await wire.call(b"EVALSHA", script.digest, len(keys), *keys, *args, timeout_s=self._timeout_s)
            except hiredis.ReplyError as error:
                if code_of(error) != "NOSCRIPT":
                    raise
                reply = await wire.call(b"EVAL", script.text, len(keys), *keys, *args, timeout_s=self._timeout_s)
        except hiredis.ReplyError as error:
            raise self._refusal(wire, error) from error
        self._replied(script.name, monotonic() - sent_s)
        return reply

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send several commands in one write; returns their replies in order.

        Raises:
            LogUnavailable, CommandRefused: for the first reply that is an error; the other commands were executed.
        """
        wire = await self._get()
        sent_s = monotonic()
        replies = await wire.call_all(commands, timeout_s=self._timeout_s)
        self._replied(commands[0][0] if commands else b"", monotonic() - sent_s)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise self._refusal(wire, reply) from reply
        return replies

    async def transaction(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Execute several commands together or not at all (MULTI); returns their replies in order.

        Raises:
            LogUnavailable, CommandRefused: as `pipeline`; if Redis refused one of the commands, none was executed.
        """
        replies: list[Reply] = (await self.pipeline([(b"MULTI",), *commands, (b"EXEC",)]))[-1]
        return replies

    def _replied(self, what: Argument, took_s: float) -> None:
        """Measures a round trip, and logs a slow one; without `what` it was one that waits, and not slow."""
        self.round_trips.observe(took_s)
        if took_s >= SLOW_S and what:
            tell_slow("Redis call", what.decode() if isinstance(what, bytes) else str(what), took_s)

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.abort()

    async def _get(self) -> Wire:
        if self._wire is not None and self._wire.is_open:
            return self._wire
        async with self._opening:
            if self._wire is None or not self._wire.is_open:
                self._wire = await self._open()
            return self._wire

    def _refusal(self, wire: Wire, error: hiredis.ReplyError) -> Exception:
        if is_moved(error):
            wire.abort()
        elif is_elsewhere(error):
            self._on_elsewhere()
        return in_our_words(error)
