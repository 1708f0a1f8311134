"""Runs nodes: one in this process until it is told to stop, or several processes that share a port."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from hub.config import Settings
from hub.http.service import metrics_of
from hub.http.siblings import Siblings
from hub.logs import log_as_set
from hub.server import make_server
from ops.children import end_with
from ops.cli.checks import key_problem
from ops.cli.extensions import extensions_of
from ops.cli.failure import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CommandFailed
from ops.cli.findings import Level
from ops.cli.garbage import EVERY_S, ShortPauses
from ops.cli.redis_checks import AWAY, OF_SETTINGS, check_redis
from ops.tracing import exported_traces

_LOOK_EVERY_S = 0.01
RESTART_AFTER_S: Final = 1.0
"""Delay before a dead node is restarted. A node that cannot start would loop without it; a longer one leaves its share of
connections waiting.
"""
GRACE_S: Final = 5.0
"""Time that a node gets beyond its drain before it is killed."""


async def run_node(
    settings: Settings, bound: socket.socket, on_ready: Callable[[], None] = lambda: None, log_least: str = "debug",
    *, waits: bool = True, siblings: Siblings | None = None,
) -> None:  # fmt: skip # its arguments in two groups
    """Serve on `bound` until SIGTERM or SIGINT, then drain the open sockets.

    Args:
        settings: the node's settings.
        bound: the listening socket.
        on_ready: called once the node accepts clients.
        log_least: the lowest severity that is logged, whatever HUB_LOG_LEVEL says.
        waits: start unready while Redis is unreachable, and wait for it.
        siblings: the processes that share the port, if there are any.

    Raises:
        CommandFailed: Redis, or the key for verifying tokens, cannot be used.
        KeyboardInterrupt: the signal was SIGINT; raised after the drain.
    """
    if (problem := key_problem(settings)) is not None:
        raise CommandFailed(problem, EXIT_USAGE)
    extensions_of(settings)
    await refuse_unusable_redis(settings, waits=waits)
    server = make_server(settings, waits=waits, siblings=siblings)
    # After uvicorn has configured its own logging, which is replaced here.
    log_as_set(settings, log_least)
    async with contextlib.AsyncExitStack() as shared:
        raised = shared.enter_context(_signals_raised_again())
        shared.enter_context(exported_traces(settings, "node"))
        sockets = [bound]
        if settings.admin_port is not None:
            shares = siblings is not None
            admin = bind(settings.host, settings.admin_port, option="HUB_ADMIN_PORT", is_shared=shares, listens=True)
            sockets.append(shared.enter_context(admin))
        serving = asyncio.create_task(server.serve(sockets=sockets), name="node")
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(_LOOK_EVERY_S)
        while server.started and not serving.done() and server.config.app.state.hub is None:  # type: ignore[union-attr]  # our app
            await asyncio.wait({serving}, timeout=_LOOK_EVERY_S)
        if server.started and not serving.done():
            hub = server.config.app.state.hub  # type: ignore[union-attr]  # our app
            hub.log.loops.every("garbage", ShortPauses().turn, EVERY_S)
            if siblings is not None:
                own = partial(metrics_of, hub)
                await shared.enter_async_context(await siblings.serve(own))
            on_ready()
        await serving
    if not server.started:
        raise CommandFailed("the node did not start; the log above says why")
    if signal.SIGINT in raised:
        raise KeyboardInterrupt


async def refuse_unusable_redis(settings: Settings, *, waits: bool = False) -> None:
    """Check Redis before the node starts, because uvicorn would hide the error in a traceback.

    An unreachable Redis is not an error if `waits` is true.

    Raises:
        CommandFailed: Redis is unreachable, or its configuration is unsafe.
    """
    found = await check_redis(settings.redis_url or "", settings)
    failed = [f for f in found if f.level is Level.FAIL and not (waits and f.what == AWAY)]
    if failed:
        is_input = all(f.what in OF_SETTINGS for f in failed)
        raise CommandFailed("; ".join(f.text for f in failed), EXIT_USAGE if is_input else EXIT_FAILED)


@contextlib.contextmanager
def _signals_raised_again() -> Iterator[set[int]]:
    """Record the signals that uvicorn raises again after a clean shutdown."""
    raised: set[int] = set()
    before = {
        number: signal.signal(number, lambda got, _: raised.add(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Nodes:
    """Supervises `count` processes that serve the same host and port."""

    def __init__(self, settings: Settings, port: int, count: int, *, waits: bool) -> None:
        self._settings = settings
        self._waits = waits
        self._place = (settings.host, port, settings.redis_url or "")
        self._count = count
        self._processes: dict[int, BaseProcess] = {}
        self._is_stopping = False

    def run(self) -> None:
        """Keep the processes running until SIGTERM or SIGINT."""
        with tempfile.TemporaryDirectory(prefix="hub-workers-") as folder:
            self._run(folder)

    def _run(self, folder: str) -> None:
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, self._stop)
        # Children must import nothing from the current folder; they get our sys.path.
        os.environ["PYTHONSAFEPATH"] = "1"
        while not self._is_stopping:
            for number in range(self._count):
                if number not in self._processes:
                    self._processes[number] = self._start(Siblings(Path(folder), number, self._count))
            wait([process.sentinel for process in self._processes.values()])
            self._replace_dead()
        self._join()

    def _start(self, siblings: Siblings) -> BaseProcess:
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(*self._place, os.getpid(), self._waits, siblings)
        )
        process.start()
        return process

    def _replace_dead(self) -> None:
        dead = [process for process in self._processes.values() if not process.is_alive()]
        self._processes = {number: process for number, process in self._processes.items() if process.is_alive()}
        if dead and not self._is_stopping:
            codes = ", ".join(str(process.exitcode) for process in dead)
            print(f"hub serve: a node ended with {codes}; starting another", file=sys.stderr)
            time.sleep(RESTART_AFTER_S)

    def _stop(self, *_: object) -> None:
        self._is_stopping = True
        for process in self._processes.values():
            process.terminate()

    def _join(self) -> None:
        deadline = time.monotonic() + self._settings.drain_s + GRACE_S
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _serve(host: str, port: int, redis_url: str, parent: int, waits: bool, siblings: Siblings) -> None:
    """Run one node in its own process. It reads the environment itself, because settings are not passed between processes."""
    from ops.cli.node_process import run_node
    from ops.cli.options import run

    end_with(parent)()
    settings = dataclasses.replace(Settings.from_env(os.environ), host=host, port=port, redis_url=redis_url)
    try:
        run(run_node(settings, bind(host, port, is_shared=True), waits=waits, siblings=siblings))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except CommandFailed as refused:
        sys.exit(f"hub serve: {refused}")


class PortTaken(CommandFailed):
    """Another program is listening on the port."""


def bind(
    host: str, port: int, *, option: str = "--port", is_shared: bool = False, listens: bool = False
) -> socket.socket:
    """Bind a TCP socket.

    Args:
        host: a name or address of this machine.
        port: the port; 0 for any free one.
        option: the option named in the error if the port is taken.
        is_shared: lets other processes bind it too (SO_REUSEPORT).
        listens: also start listening; while the socket is only bound, another program may still take the port.

    Raises:
        PortTaken: the port is taken.
        CommandFailed: the address does not belong to this machine, or this account may not use the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
        if listens:
            bound.listen()
    except OSError as refused:
        bound.close()
        kind = PortTaken if refused.errno == errno.EADDRINUSE else CommandFailed
        raise kind(f"cannot listen on {host}:{port} ({refused.strerror}): choose another {option}") from refused
    return bound


def url_of(bound: socket.socket) -> str:
    """The URL at which clients on this machine reach the socket."""
    host, port, *_ = bound.getsockname()
    place = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
    return f"http://{place}:{port}"
