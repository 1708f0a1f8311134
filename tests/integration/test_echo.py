"""The echo server of `ops.bench.echo` as its users start it: a process of its own, at real sizes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from websockets.sync.client import ClientConnection, connect

SIZE_BYTES = 16 * 1024 * 1024
FRAGMENTS = 65_536


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def echo(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ops.bench.echo", "--port", "0", "--loop", request.param]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def url(echo: subprocess.Popen[str]) -> str:
    """The address it prints."""
    assert echo.stderr is not None
    for line in echo.stderr:
        if found := re.search(r"http://(\S+:\d+)", line):
            return f"ws://{found[1]}/"
    raise AssertionError("it never said where it listens")


@pytest.fixture
def client(url: str) -> Iterator[ClientConnection]:
    with connect(url, max_size=None, compression=None) as connection:
        yield connection


@pytest.mark.parametrize("message", ["héllo", b"\x00\xff", "", b""])
def test_messages_come_back_as_they_went(client: ClientConnection, message: str | bytes) -> None:
    """Text as text, binary as binary."""
    client.send(message)

    assert client.recv() == message


@pytest.mark.parametrize("message", ["é" * (SIZE_BYTES // 2), b"\xfe" * SIZE_BYTES], ids=["text", "binary"])
def test_sixteen_megabytes(client: ClientConnection, message: str | bytes) -> None:
    """Far above the hub's own limit; the echo server takes 64 MiB."""
    client.send(message)

    assert client.recv() == message


@pytest.mark.parametrize("piece", ["x" * 64, b"y" * 64], ids=["text", "binary"])
def test_65_536_fragments(client: ClientConnection, piece: str | bytes) -> None:
    """Joined in linear time: this would not end within the test's timeout otherwise."""
    client.send(piece for _ in range(FRAGMENTS))

    assert client.recv() == piece * FRAGMENTS


def test_help_teaches() -> None:
    """Options with their defaults, and a line to copy."""
    shown = subprocess.run(
        [sys.executable, "-m", "ops.bench.echo", "--help"], capture_output=True, text=True, check=True
    ).stdout

    assert "--message-size-limit" in shown
    assert "python -m ops.bench.echo --port 9001" in shown


def test_an_interrupt_ends_it_cleanly(url: str, echo: subprocess.Popen[str]) -> None:
    """Ctrl-C closes open sockets with 1012 and leaves no traceback."""
    with connect(url, compression=None) as connection:
        echo.send_signal(signal.SIGINT)
        with pytest.raises(Exception, match="1012"):
            connection.recv()

    _, errors = echo.communicate(timeout=50)
    assert "Traceback" not in errors
