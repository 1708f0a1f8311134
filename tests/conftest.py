"""Shared by all tests: one private redis-server per test process, a tenant of one's own, and the seed of the run."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import settings

import support.examples  # noqa: F401 - registers the profiles
from support.logging_kept import logging_kept
from support.redis_server import RedisServer

if TYPE_CHECKING:
    from streams.redis.log import Log

settings.load_profile("same" if "CI" in os.environ else "unhurried")

# Five seconds are httpx's default, and too few where a machine has ten times as much to do as it can.
httpx._config.DEFAULT_TIMEOUT_CONFIG.read = httpx._config.DEFAULT_TIMEOUT_CONFIG.connect = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draws the seed of this run, once for all its processes. In CI every run draws the same examples.

    A shell ignores SIGINT in what it puts into the background, and children inherit that: tests of Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.hypothesis_seed is None and "CI" not in os.environ:
        config.option.hypothesis_seed = str(random.randrange(2**32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the seed that draws the same examples again."""
    if config.option.hypothesis_seed is not None:
        terminalreporter.write_line(f"same examples again: pytest --hypothesis-seed={config.option.hypothesis_seed}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The process's shared server. For everybody: never kill, stop or flush it; fault tests start their own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """The URL of the shared server (a unix socket)."""
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A persistent server of this test alone, fsync always: kill it, stop it, restart it."""
    server = RedisServer(is_persistent=True, fsync="always")
    yield server
    server.close()


@pytest.fixture
def lone_redis() -> Iterator[RedisServer]:
    """A server of this test alone, in memory."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[Log]:
    """The log. A module with a `redis_url` of its own gets the log there."""
    from streams.redis.log import Log

    log = await Log.open(redis_url)
    yield log
    await log.close()


@pytest.fixture
def tenant() -> str:
    """A tenant nobody else uses: what keeps tests on one server apart."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs `hub ARGS` in this process: its exit code, output and errors. The environment is empty of our variables."""
    from ops.cli import main

    for name in list(os.environ):
        if name.startswith(("HUB_", "S3_", "WEBSOCKET_", "REDIS_")):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        with logging_kept(), pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test's log may hold lone surrogates, which UTF-8 cannot; such a report would take an xdist worker down."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report
