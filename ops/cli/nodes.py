"""Several nodes on one port, each a process: started, started again when they die, stopped together."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final

from hub.config import Settings
from ops.cli.failure import EXIT_INTERRUPTED, CommandFailed
from ops.cli.listening import bind
from ops.embedded_redis.parent_death import end_with

RESTART_AFTER_S: Final = 1.0
"""Sooner, a node that cannot start would spin; later, its share of connections waits."""
GRACE_S: Final = 5.0
"""What a node gets beyond its drain before it is killed."""


class Nodes:
    """`count` processes that serve the same host and port."""

    def __init__(self, settings: Settings, port: int, count: int) -> None:
        self._settings = settings
        self._place = (settings.host, port, settings.redis_url or "")
        self._count = count
        self._processes: list[BaseProcess] = []
        self._is_stopping = False

    def run(self) -> None:
        """Keep them running until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self._is_stopping:
            while len(self._processes) < self._count:
                self._processes.append(self._start())
            wait([process.sentinel for process in self._processes])
            self._bury()
        self._end()

    def _start(self) -> BaseProcess:
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(*self._place, os.getpid()))
        process.start()
        return process

    def _bury(self) -> None:
        dead = [process for process in self._processes if not process.is_alive()]
        self._processes = [process for process in self._processes if process.is_alive()]
        if dead and not self._is_stopping:
            codes = ", ".join(str(process.exitcode) for process in dead)
            print(f"hub serve: a node ended with {codes}; starting another", file=sys.stderr)
            time.sleep(RESTART_AFTER_S)

    def _stop(self, *_: object) -> None:
        self._is_stopping = True
        for process in self._processes:
            process.terminate()

    def _end(self) -> None:
        deadline = time.monotonic() + self._settings.drain_s + GRACE_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _serve(host: str, port: int, redis_url: str, parent: int) -> None:
    """What each process runs. It reads the environment itself: settings are not sent between processes."""
    from ops.cli.app import run
    from ops.cli.node import run_node

    end_with(parent)()
    settings = dataclasses.replace(Settings.from_env(os.environ), host=host, port=port, redis_url=redis_url)
    try:
        run(run_node(settings, bind(host, port, is_shared=True)))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except CommandFailed as refused:
        sys.exit(f"hub serve: {refused}")
