"""The process of `hub dev`: Redis, a node, a worker and the console, with everything that a first look needs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hub.auth.origins import is_loopback
from hub.client import ClientError, HubClient
from hub.config import DEV_SECRET, OWN_KEY, Settings
from ops.cli import STARTED
from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.identity import ALL_GRANTS, DAY_S, signed
from ops.cli.node_process import PortTaken, bind, refuse_unusable_redis, run_node, url_of
from ops.cli.options import DEFAULT_TENANT, DEFAULT_USER, run
from ops.cli.running_hub import HubNote, RunningHub, kept_note, running_hub
from ops.cli.worker_process import worker_in_thread, worker_options
from ops.embedded_redis.programs import cli_line
from ops.embedded_redis.server import EmbeddedRedis, FsyncPolicy
from streams.envelope import Durability

_PORTS_TRIED: Final = 100
_TALK_PLACE: Final = "conversation:demo"
_TALK: Final = (
    ("bob", "The release goes out on Thursday, if the load test holds."),
    ("alice", "It held last night: 20,000 sockets for an hour, nothing lost."),
    ("bob", "Then the only open question is the deadline for the docs."),
    ("alice", "Let us ask the agent what was said about that."),
)


def run_dev(port: int | None, data: Path | None) -> None:
    """Run until SIGTERM or Ctrl-C.

    Args:
        port: the port to listen on; None for HUB_PORT or the first free one.
        data: the data folder; None for HUB_DATA.

    Raises:
        CommandFailed: the port is taken, or the settings cannot be used.
    """
    settings = _settings(Settings.from_env(os.environ), port, data)
    if "HUB_LOG_FORMAT" not in os.environ and sys.stderr.isatty():
        settings = dataclasses.replace(settings, log_format="console")
    folder = Path(settings.data_dir)
    with _listen(settings, _option_of(port), folder) as bound, kept_note(folder) as note:
        if settings.redis_url is not None:
            with _ended_by_ctrl_c():
                run(_serve(settings, bound, note, "the given Redis"))
            print("Stopped.", flush=True)
            return
        with EmbeddedRedis(folder, fsync=_fsync(settings)) as embedded:
            settings = dataclasses.replace(settings, redis_url=embedded.url)
            with _ended_by_ctrl_c():
                run(_supervised(settings, bound, note, embedded))
        print(f"Stopped; the data stays in {embedded.data_dir}.", flush=True)


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Takes Ctrl-C for success, because it is how `hub dev` is stopped: `make run` would call another code an error."""
    try:
        yield
    except KeyboardInterrupt:
        print(flush=True)  # ends the line on which a terminal shows ^C


def _option_of(port: int | None) -> str | None:
    """The option or variable that set the port; None for the default."""
    return "--port" if port is not None else "HUB_PORT" if os.environ.get("HUB_PORT", "").strip() else None


def _listen(settings: Settings, option: str | None, data: Path) -> socket.socket:
    """Open a socket on the requested port, or on the first free one from the default upwards.

    Raises:
        CommandFailed: the requested port is taken, or the default one is taken by the hub that runs on this folder.
    """
    if option is not None:
        return bind(settings.host, settings.port, option=option, listens=True)
    last = settings.port + _PORTS_TRIED - 1
    for port in range(settings.port, last):
        try:
            return bind(settings.host, port, listens=True)
        except PortTaken as taken:
            here = running_hub(data)
            if here is not None and urlsplit(here.url).port == port:
                raise CommandFailed(
                    f"a hub already runs on {data.absolute()}, at {here.url} (process {here.pid}): "
                    "stop it, or choose another --data"
                ) from taken
    return bind(settings.host, last, listens=True)


async def _supervised(settings: Settings, bound: socket.socket, note: HubNote | None, embedded: EmbeddedRedis) -> None:
    watch = asyncio.create_task(embedded.supervise(lambda now: _warn(f"Redis died and was restarted, pid {now.pid}")))
    try:
        await _serve(settings, bound, note, f"{embedded.server}, data in {embedded.data_dir}")
    finally:
        watch.cancel()


async def _serve(settings: Settings, bound: socket.socket, note: HubNote | None, about: str) -> None:
    """Run a worker and a node. The worker stops last: commands sent while clients are drained are still handled."""
    await refuse_unusable_redis(settings, waits=True)
    options = worker_options(settings, has_demo=True)
    made_secret = (
        "" if Settings.from_env(os.environ).has_token_key or settings.has_dev_secret else settings.jwt_secret or ""
    )
    here = RunningHub(url_of(bound), settings.redis_url or "", os.getpid(), made_secret)

    is_up = asyncio.Event()

    def tell() -> None:
        if note is not None:
            note.write(here)
        _print_addresses(settings, here, about, options.agents, is_noted=note is not None)
        is_up.set()

    async with AsyncExitStack() as running:
        await running.enter_async_context(worker_in_thread(settings, options))
        talk = asyncio.create_task(_write_talk(settings, here, is_up), name="demo talk")
        running.callback(talk.cancel)
        await run_node(settings, bound, tell, "warning")


async def _write_talk(settings: Settings, here: RunningHub, is_up: asyncio.Event) -> None:
    """Write a short conversation into `conversation:demo` if it is empty, so that the console's first screen shows something.

    The hub works without it, so a failure is only logged.
    """
    await is_up.wait()
    if settings.jwt_secret is None:
        return
    url = f"{here.url.replace('http', 'ws', 1)}/ws"
    try:
        async with AsyncExitStack() as opened:
            people = {
                name: await opened.enter_async_context(
                    HubClient(url, signed(settings, name, DEFAULT_TENANT, ALL_GRANTS, DAY_S))
                )
                for name in ("alice", "bob")
            }
            if (await people["alice"].state(_TALK_PLACE)).state["count"]:
                return
            for name, text in _TALK:
                await people[name].send(_TALK_PLACE, text)
            await people["alice"].send(_TALK_PLACE, "what did bob say about the deadline?", agent="demo")
    except (ClientError, OSError) as error:
        _warn(f"the talk in {_TALK_PLACE} could not be written: {error}")


def _settings(settings: Settings, port: int | None, data: Path | None) -> Settings:
    """The settings of this run.

    Raises:
        CommandFailed: the public development secret is set although the address can be reached from other machines.
    """
    if settings.has_dev_secret and not is_loopback(settings.host):
        raise CommandFailed(f"on {settings.host} HUB_JWT_SECRET must be {OWN_KEY}", EXIT_USAGE)
    return dataclasses.replace(
        settings,
        port=settings.port if port is None else port,
        data_dir=settings.data_dir if data is None else str(data),
        jwt_secret=settings.jwt_secret if settings.has_token_key else _make_secret(settings.host),
        allowed_hosts=settings.allowed_hosts | _own_names(settings.host),
    )


def _own_names(host: str) -> frozenset[str]:
    """The host names of this machine. If there are any, every request's `Host` is checked, to stop DNS rebinding."""
    return frozenset(name.lower() for name in (host, socket.gethostname(), f"{socket.gethostname()}.local"))


def _make_secret(host: str) -> str:
    """The public development secret if only this machine can connect, otherwise a new random one."""
    return DEV_SECRET if is_loopback(host) else secrets.token_urlsafe(36)


def _fsync(settings: Settings) -> FsyncPolicy:
    return "always" if Durability.FSYNC in settings.durability.values() else "everysec"


def _print_addresses(
    settings: Settings, here: RunningHub, about: str, agents: Iterable[str], *, is_noted: bool
) -> None:
    url = here.url
    has_secret = settings.jwt_secret is not None
    token = signed(settings, DEFAULT_USER, DEFAULT_TENANT, ALL_GRANTS, DAY_S) if has_secret else ""
    lines = [
        f"hub is up on {url} after {time.monotonic() - STARTED:.1f} s",
        f"  console  {url}/console{token and '#token='}{token}",  # a browser never sends a fragment
        *(
            [f"           (the token of {DEFAULT_USER} of {DEFAULT_TENANT}: full access, for 24 hours)"]
            if token
            else ()
        ),
        f"  socket   {url.replace('http', 'ws', 1)}/ws",
        f"  redis    {cli_line(here.redis_url)}    ({about})",
        f"  agents   {', '.join(agents)}    (ask one with `hub ask --agent NAME 'help'`)",
    ]
    if settings.port and urlsplit(url).port != settings.port:
        lines.insert(1, f"  (port {settings.port} is taken by another program)")
    if not is_noted:
        lines.insert(
            1, f"  (another hub runs on {settings.data_dir}, and commands started here go to it: give them --url {url})"
        )
    if here.made_secret:
        lines += [
            f"  secret   HUB_JWT_SECRET={here.made_secret}",
            "           (made for this run: set it to use it in other programs or in the next run)",
        ]
    print("\n".join([*lines, "Press Ctrl-C to stop."]), flush=True)


def _warn(text: str) -> None:
    print(f"hub dev: {text}", file=sys.stderr, flush=True)
