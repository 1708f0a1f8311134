"""One node in this process: the server until it is told to stop, with a clean end for SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

from hub.config import Settings
from hub.logs import configure_logging
from hub.server import make_server
from ops.cli.checks import OF_SETTINGS, Level, check_redis, key_problem
from ops.cli.failure import EXIT_FAILED, EXIT_USAGE, CommandFailed
from ops.cli.pauses import forget_startup

_LOOK_EVERY_S = 0.01


async def run_node(
    settings: Settings, bound: socket.socket, on_ready: Callable[[], None] = lambda: None, log_level: int = logging.INFO
) -> None:
    """Serve on `bound` until SIGTERM or SIGINT; open sockets are drained then.

    Raises:
        CommandFailed: the Redis, or the key of tokens, cannot be used.
        KeyboardInterrupt: it was SIGINT, after the drain.
    """
    if (problem := key_problem(settings)) is not None:
        raise CommandFailed(problem, EXIT_USAGE)
    await refuse_unusable_redis(settings)
    server = make_server(settings)
    configure_logging(log_level, secrets=settings.secrets)  # after uvicorn has set up its own, which ours takes over
    with _signals_raised_again() as raised:
        serving = asyncio.create_task(server.serve(sockets=[bound]), name="node")
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(_LOOK_EVERY_S)
        if server.started:
            forget_startup()
            on_ready()
        await serving
    if not server.started:
        raise CommandFailed("the node did not start; the log above says why")
    if signal.SIGINT in raised:
        raise KeyboardInterrupt


async def refuse_unusable_redis(settings: Settings) -> None:
    """Say in one line what uvicorn would bury in a traceback.

    Raises:
        CommandFailed: the Redis is away or set up wrongly.
    """
    failed = [f for f in await check_redis(settings.redis_url or "", settings) if f.level is Level.FAIL]
    if failed:
        is_input = all(f.what in OF_SETTINGS for f in failed)
        raise CommandFailed("; ".join(f.text for f in failed), EXIT_USAGE if is_input else EXIT_FAILED)


@contextlib.contextmanager
def _signals_raised_again() -> Iterator[set[int]]:
    """The server raises the signal again after it has shut down. Here it is only noted: that end was a clean one."""
    raised: set[int] = set()
    before = {
        number: signal.signal(number, lambda got, _: raised.add(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
