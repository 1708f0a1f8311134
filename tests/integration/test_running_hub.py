"""Commands find the hub that runs on their data folder, whatever its port; `hub dev` finds a port."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.cli.running_hub import NOTE, running_hub
from support.hub_process import Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the servers are killed")]

Start = Callable[..., Server]
Hub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `hub dev`; all are gone afterwards."""
    started: list[Server] = []

    def begin(*arguments: str, env: dict[str, str] | None = None) -> Server:
        started.append(Server("dev", *arguments, env=env))
        return started[-1]

    yield begin
    for server in started:
        server.process.kill()
        server.process.communicate()


@pytest.fixture
def hub(command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Runs `hub ARGS` here, with these variables: its exit code, output and errors."""

    def run(*arguments: str, **env: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patched:
            for name, value in env.items():
                patched.setenv(name, value)
            return command_line(*arguments)

    return run


@contextmanager
def taken_port() -> Iterator[int]:
    """A port somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_commands_find_the_hub_of_their_folder(
    start: Start, hub: Hub, tmp_path: Path, redis_url: str, tenant: str
) -> None:
    """They went to port 8000, and to the Redis of the folder, wherever the hub was."""
    server = start("--port", "0", "--data", str(tmp_path), env={"REDIS_URL": redis_url})
    here, of = {"HUB_DATA": str(tmp_path)}, ("--tenant", tenant)

    assert hub("url", **here) == (0, f"{server.url}\n", "")
    assert hub("url", "--redis", **here) == (0, f"{redis_url}\n", "")
    assert json.loads(hub("send", "conversation:1", "hello", *of, **here)[1])["seq"] == 1
    assert "hello" in hub("tail", "conversation:1", "--after", "0", "--count", "1", *of, **here)[1]
    assert "hello" in hub("tail", "conversation:1", "--after", "0", "--count", "1", *of, "--data", str(tmp_path))[1]
    assert "hello" in hub("replay", "conversation:1", *of, **here)[1]
    assert "hello" in hub("state", "conversation:1", *of, **here)[1]
    assert f"{server.url} is ready" in hub("doctor", **here)[1]
    assert stat.S_IMODE((tmp_path / NOTE).stat().st_mode) == 0o600


def test_the_secret_of_one_run_is_found_too(start: Start, hub: Hub, tmp_path: Path, tenant: str) -> None:
    """`hub dev` makes a secret where others may connect: commands beside it signed with the public one and were refused."""
    start("--port", "0", "--data", str(tmp_path), env={"HUB_HOST": "0.0.0.0"})
    here = {"HUB_DATA": str(tmp_path)}
    token = hub("token", "--user", "bob", "--tenant", tenant, "--grant", "*=*", **here)[1].strip()

    for shown in ((), ("--token", token)):
        code, _, err = hub("send", "conversation:1", "hello", "--tenant", tenant, *shown, **here)
        assert (code, err) == (0, "")


def test_the_note_of_a_hub_that_is_gone_is_ignored(start: Start, hub: Hub, tmp_path: Path) -> None:
    """Killed, it cannot tidy up; its process id may be another's by now."""
    server = start("--port", "0", "--data", str(tmp_path))
    text = (tmp_path / NOTE).read_text()
    server.process.kill()
    server.process.wait()

    assert running_hub(tmp_path) is None
    (tmp_path / NOTE).write_text(text.replace(str(server.process.pid), str(os.getpid())))
    assert running_hub(tmp_path) is None
    code, _, err = hub("url", HUB_DATA=str(tmp_path))
    assert (code, str(tmp_path) in err) == (1, True)


def test_a_note_that_others_can_write_is_not_believed(start: Start, hub: Hub, tmp_path: Path) -> None:
    """Commands send a token to the address it names."""
    start("--port", "0", "--data", str(tmp_path))
    assert running_hub(tmp_path) is not None

    (tmp_path / NOTE).chmod(0o666)

    assert running_hub(tmp_path) is None


@pytest.mark.parametrize("source", ["HUB_URL", "the default"])
def test_a_connection_error_names_the_address_and_its_origin(hub: Hub, tmp_path: Path, source: str) -> None:
    """It said that the connection was refused, not which, nor why it was tried."""
    with taken_port() as port:
        url = f"http://127.0.0.1:{port}"  # free once this block ends
    variables = {"HUB_URL": url} if source == "HUB_URL" else {}

    code, _, told = hub("send", "conversation:1", "hello", HUB_DATA=str(tmp_path), **variables)

    if source == "the default" and code == 0:
        pytest.skip("a hub runs on port 8000 here")
    assert (code, told.count("\n")) == (1, 1)
    assert ("127.0.0.1:8000" if source == "the default" else f"127.0.0.1:{port}") in told
    assert source in told
    assert "Error(" not in told


def test_a_busy_port_gives_way_and_is_told(start: Start, hub: Hub, tmp_path: Path) -> None:
    """Only the default one: it failed, and a newcomer's first command with it."""
    with _somebody_on(8000):
        server = start("--data", str(tmp_path))

    assert int(server.url.rpartition(":")[2]) > 8000
    assert "port 8000 is taken by another program" in server.banner


@pytest.mark.parametrize("option", ["--port", "HUB_PORT"])
def test_a_busy_port_that_was_asked_for_is_an_error(hub: Hub, tmp_path: Path, option: str) -> None:
    """It names what asked for it, and nothing is begun."""
    data = tmp_path / "data"
    with taken_port() as port:
        asked = ("--port", str(port)) if option == "--port" else ()
        variables = {"HUB_PORT": str(port)} if option == "HUB_PORT" else {}
        code, _, told = hub("dev", "--data", str(data), *asked, **variables)

    assert code == 1
    assert told == f"hub dev: cannot listen on 127.0.0.1:{port} (Address already in use): choose another {option}\n"
    assert not data.exists()


def test_a_second_hub_on_one_folder_is_told(start: Start, hub: Hub, tmp_path: Path) -> None:
    """With a port of its own it runs beside the first, which keeps the note; with the default one it is a mistake."""
    first = start("--data", str(tmp_path))
    second = start("--data", str(tmp_path), "--port", "0")

    assert f"commands started here go to it: give them --url {second.url}" in second.banner
    assert hub("url", HUB_DATA=str(tmp_path)) == (0, f"{first.url}\n", "")
    code, _, told = hub("dev", "--data", str(tmp_path))
    assert (code, "a hub already runs on" in told) == (1, True)


@contextmanager
def _somebody_on(port: int) -> Iterator[None]:
    """Somebody listens on this port: this test, or whoever did before."""
    try:
        held = socket.create_server(("127.0.0.1", port))
    except OSError:
        yield
        return
    with held:
        yield
