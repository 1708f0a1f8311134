"""Shared parts of commands: the app, the event loop, options, and the parsing of their values.

Imported for every `--help`, which must be fast: whatever is needed only to run a command is imported where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed

if TYPE_CHECKING:
    from hub.readers import Reader
    from streams.channel import Channel

T = TypeVar("T")
_TIMES: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)x")


def _hub_url(given: str) -> str:
    from hub.readers import url

    return _checked(given, url("http", "https", "ws", "wss"))


def _redis_url(given: str) -> str:
    from hub.readers import redis_url

    return _checked(given, redis_url())


def _checked(given: str, reader: Reader[str | None]) -> str:
    try:
        return given and (reader.read(given) or "")
    except ValueError as refused:
        raise typer.BadParameter(f"it must be {reader.allowed}") from refused


Url: TypeAlias = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="HUB_URL",
        help="The URL of the hub.  [default: that of the hub running on the --data folder, otherwise http://127.0.0.1:8000]",
        show_default=False,
        callback=_hub_url,
    ),
]
Token: TypeAlias = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="HUB_TOKEN",
        help="The token for authentication.  [default: one that the command signs]",
        show_default=False,
    ),
]
ChannelName: TypeAlias = Annotated[str, typer.Argument(help="kind:name, such as conversation:42.")]
User: TypeAlias = Annotated[str, typer.Option("--user", help="The user named in the token that the command signs.")]
Tenant: TypeAlias = Annotated[str, typer.Option("--tenant", help="The tenant that the channel belongs to.")]
Redis: TypeAlias = Annotated[
    str,
    typer.Option(
        "--redis",
        envvar="REDIS_URL",
        help="The URL of Redis.  [default: the embedded one]",
        show_default=False,
        callback=_redis_url,
    ),
]
Wait: TypeAlias = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="If Redis is unreachable, wait for it and report not ready, or exit with 1."),
]
Data: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="HUB_DATA",
        help="The folder with the data of the hub; a running hub or its embedded Redis is found by it.",
    ),
]

From: TypeAlias = Annotated[
    str, typer.Option("--from", help="Start at this time (RFC 3339), such as 2026-11-23T04:59:00Z.")
]
To: TypeAlias = Annotated[str, typer.Option("--to", help="End at this time (RFC 3339).")]
Types: TypeAlias = Annotated[
    str, typer.Option("--types", help="Only these types, separated by commas; chat.* selects a whole family.")
]


class Format(StrEnum):
    """The output format: `jsonl` is one wire event per line, `text` is for people."""

    JSONL = "jsonl"
    TEXT = "text"


DEFAULT_DATA = Path(".hub")
DEFAULT_TENANT = "acme"
"""The tenant of tokens that `hub dev` prints and that commands sign."""
DEFAULT_USER = "alice"


def new_app() -> typer.Typer:
    """Make an app with plain help and errors: the output must be the same on a terminal, in a log and in a pipe."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run(job: Coroutine[Any, Any, T]) -> T:
    """Run an async command on uvloop; Ctrl-C cancels it and is raised as KeyboardInterrupt."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)


def milliseconds(text: str, option: str) -> int:
    """Parse a time into milliseconds since 1970; without an offset it is UTC.

    Raises:
        CommandFailed: the text is not a time.
    """
    from streams.times import milliseconds_of

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as refused:
        raise CommandFailed(f"{option}: write a time like 2026-11-23T04:59:00Z", EXIT_USAGE) from refused
    return milliseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def event_id(text: str, option: str) -> str:
    """Check that a text is an event ID or 0.

    Raises:
        CommandFailed: it is neither.
    """
    from streams.cursor import id_order
    from streams.errors import MalformedCursor

    try:
        id_order(text)
    except MalformedCursor as refused:
        raise CommandFailed(f"{option}: {refused}", EXIT_USAGE) from refused
    return text


def last_of(text: str, option: str) -> str:
    """Parse the inclusive end of a range, an ID or a time: a time in milliseconds includes all of its events."""
    return str(milliseconds(text, option)) if "T" in text or text.count("-") > 1 else event_id(text, option)


def channel_of(tenant: str, wire: str) -> Channel:
    """Parse a channel given by the operator.

    Raises:
        CommandFailed: the name is invalid; the text shows the correct form.
    """
    from streams.channel import parse_channel
    from streams.errors import MalformedChannel

    try:
        return parse_channel(tenant, wire)
    except MalformedChannel as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused


def one_or_all(tenant: str, channel: str, *, is_all: bool) -> Channel | None:
    """Parse the channel of a command that also takes `--all`; None means all.

    Raises:
        CommandFailed: neither or both are given, or the name is invalid.
    """
    if is_all == bool(channel):
        raise CommandFailed("name a channel, or use --all", EXIT_USAGE)
    return channel_of(tenant, channel) if channel else None


def agree(question: str, *, is_sure: bool) -> None:
    """Ask a person before something that cannot be undone; `is_sure` is `--yes`.

    Raises:
        CommandFailed: nobody can be asked, since stdin is no terminal.
        typer.Abort: the answer is no.
    """
    import sys

    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("nothing was changed: add --yes to go on without a question", EXIT_USAGE)
    typer.confirm(question, abort=True, err=True)


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a replay, in recorded seconds per second; 0 is as fast as possible."""

    times: float

    @property
    def is_limited(self) -> bool:
        """True unless the replay is as fast as possible."""
        return self.times > 0

    def due(self, begun: float, offset_s: float) -> float:
        """The time, on the event loop's clock, of an event recorded `offset_s` seconds after the first one."""
        return begun + offset_s / self.times if self.times else begun

    async def wait_until(self, begun: float, offset_s: float) -> None:
        """Sleep until an event recorded `offset_s` seconds after the first one is due."""
        import asyncio

        wait_s = self.due(begun, offset_s) - asyncio.get_running_loop().time()
        if self.is_limited and wait_s > 0:
            await asyncio.sleep(wait_s)


def pace_of(text: str) -> Pace:
    """Parse `max`, `1x` or `10x`.

    Raises:
        CommandFailed: the text is none of these.
    """
    found = _TIMES.fullmatch(text)
    if text != "max" and (found is None or not float(found[1])):
        raise CommandFailed("--speed must be max, or a number followed by x, such as 1x or 10x", EXIT_USAGE)
    return Pace(float(found[1]) if found else 0.0)


def operator_name(by: str) -> str:
    """The name under which an operator's command is recorded: `by`, or the name of this account if that is empty.

    Raises:
        CommandFailed: the name has characters that names of users cannot have.
    """
    import getpass

    from streams.channel import NAME_PATTERN

    if by and not re.fullmatch(NAME_PATTERN, by):
        raise CommandFailed("--by must be 1 to 128 of A-Z a-z 0-9 _ . @ | + ~ -", EXIT_USAGE)
    if by:
        return by
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        account = ""
    return account if re.fullmatch(NAME_PATTERN, account) else "operator"
