"""Run Redis, a node, a worker and the console in one command."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import secrets
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from hub.auth.origins import is_loopback
from hub.config import DEV_SECRET, OWN_KEY, Settings
from ops.cli import STARTED
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.identity import ALL_GRANTS, DAY_S, signed
from ops.cli.node_process import bind, refuse_unusable_redis, run_node, url_of
from ops.cli.options import DEFAULT_TENANT, DEFAULT_USER, new_app, run
from ops.cli.worker_process import running_worker, worker_options
from ops.embedded_redis.binary import cli_line
from ops.embedded_redis.server import EmbeddedRedis, FsyncPolicy
from streams.envelope import Durability
from streams.loops import until_reachable

app = new_app()


@app.command()
def dev(
    port: Annotated[
        int | None, typer.Option(help="The port to listen on.  [default: HUB_PORT, 8000]", min=0, max=65_535)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of Redis and uploads.  [default: HUB_DATA, .hub]")] = None,
) -> None:
    """Run until Ctrl-C. The data is kept; REDIS_URL, if set, takes the place of the embedded Redis."""
    settings = _settings(Settings.from_env(os.environ), port, data)
    with bind(settings.host, settings.port) as bound:
        if settings.redis_url is not None:
            run(_serve(settings, bound, "the given Redis"))
            return
        with EmbeddedRedis(settings.data_dir, fsync=_fsync(settings)) as embedded:
            settings = dataclasses.replace(settings, redis_url=embedded.url)
            run(_supervised(settings, bound, embedded))


async def _supervised(settings: Settings, bound: socket.socket, embedded: EmbeddedRedis) -> None:
    watch = asyncio.create_task(embedded.supervise(lambda now: _warn(f"Redis died and was restarted, pid {now.pid}")))
    try:
        await _serve(settings, bound, f"Redis {embedded.version}, data in {embedded.data_dir}")
    finally:
        watch.cancel()


async def _serve(settings: Settings, bound: socket.socket, about: str) -> None:
    """Runs worker and node. The worker outlives the node: commands sent while clients are drained are still handled."""
    await refuse_unusable_redis(settings, waits=True)
    options = worker_options(settings, has_demo=True)
    async with AsyncExitStack() as running:
        await until_reachable(lambda: running.enter_async_context(running_worker(settings, options)))
        await run_node(settings, bound, lambda: _print_addresses(settings, bound, about), logging.WARNING)


def _settings(settings: Settings, port: int | None, data: Path | None) -> Settings:
    """The settings of this run.

    Raises:
        CommandFailed: the dev secret was chosen for an address that others reach.
    """
    if settings.has_dev_secret and not is_loopback(settings.host):
        raise CommandFailed(f"on {settings.host} HUB_JWT_SECRET must be {OWN_KEY}", EXIT_USAGE)
    return dataclasses.replace(
        settings,
        port=settings.port if port is None else port,
        data_dir=settings.data_dir if data is None else str(data),
        jwt_secret=settings.jwt_secret if settings.has_token_key else _make_secret(settings.host),
    )


def _make_secret(host: str) -> str:
    """The public dev secret where only this machine connects, else one of this run's own."""
    return DEV_SECRET if is_loopback(host) else secrets.token_urlsafe(36)


def _fsync(settings: Settings) -> FsyncPolicy:
    return "always" if Durability.FSYNC in settings.durability.values() else "everysec"


def _print_addresses(settings: Settings, bound: socket.socket, about: str) -> None:
    url = url_of(bound)
    has_secret = settings.jwt_secret is not None
    token = signed(settings, DEFAULT_USER, DEFAULT_TENANT, ALL_GRANTS, DAY_S) if has_secret else ""
    lines = [
        f"hub is up on {url} after {time.monotonic() - STARTED:.1f} s",
        f"  console  {url}/console{token and '#token='}{token}",  # a fragment is never sent to a server
        f"  socket   {url.replace('http', 'ws', 1)}/ws",
        f"  redis    {cli_line(settings.redis_url or '')}    ({about})",
    ]
    if not (settings.has_dev_secret or Settings.from_env(os.environ).has_token_key):
        lines += [
            f"  secret   HUB_JWT_SECRET={settings.jwt_secret}",
            "           (made for this run: set it where other commands, or the next run, are to use it)",
        ]
    if token:
        lines += [
            f"  token    {token}",
            f"           ({DEFAULT_USER} of {DEFAULT_TENANT}, full access, valid for 24 hours)",
        ]
    print("\n".join([*lines, "Press Ctrl-C to stop."]), flush=True)


def _warn(text: str) -> None:
    print(f"hub dev: {text}", file=sys.stderr, flush=True)
