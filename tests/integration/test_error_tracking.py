"""Errors of a running node reach an error tracker once, without secrets: a real Sentry SDK and an HTTP receiver here."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hub.logs import configure_logging
from hub.readers import SettingRefused
from support.logging_kept import logging_kept
from support.nodes import SECRET, running_node, token
from support.socket_client import client

pytest.importorskip("sentry_sdk")


class Receiver(ThreadingHTTPServer):
    """Takes envelopes as Sentry does.

    Attributes:
        events: the events in them.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taken)
        self.events: list[dict[str, Any]] = []
        self.came = threading.Event()

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_address[1]}/1"


class Taken(BaseHTTPRequestHandler):
    """One envelope: lines of JSON, the event behind the header of its item."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = body.splitlines()
        for header, item in zip(lines[1::2], lines[2::2], strict=False):
            if json.loads(header)["type"] == "event":
                self.server.events.append(json.loads(item))
                self.server.came.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden name
        """Tells nobody."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_fault_is_reported_once_with_its_context(
    receiver: Receiver, redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises: one line and one report for ten clients' commands, the id that they were told, no secret."""
    stream = io.StringIO()
    with logging_kept():
        async with running_node(redis_url) as node, client(node.ws_url, token("alice", tenant)) as a:
            handler = configure_logging(stream=stream, secrets=[SECRET], hash_key=SECRET, sentry_dsn=receiver.dsn)

            async def broken(command: Any, connection: Any) -> Any:
                raise RuntimeError(f"the secret is {SECRET}")

            monkeypatch.setitem(node.hub.handlers, "channel.history", broken)
            told = [await a.answer("channel.history", {}, "conversation:1") for _ in range(10)]
        handler.close()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    errors = [line for line in lines if line["level"] == "error"]
    fault = errors[0]["fault"]
    fields = {
        "tenant": tenant,
        "channel": "conversation:1",
        "type": "channel.history",
        "code": 4030,
        "command": told[0]["re"],
    }
    assert {frame["payload"]["message"] for frame in told} == {f"internal error, logged as {fault}; retry later"}
    assert [line["event"] for line in errors] == ["internal error", "left out 9 more of: internal error"]
    assert fields.items() <= errors[0].items()
    assert errors[0]["node"].startswith("n-")
    assert errors[0]["session"]
    assert errors[0]["user"] not in {"", "alice"}
    (event,) = receiver.events
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert event["tags"]["tenant"] == tenant
    assert event["tags"]["code"] == "4030"
    assert event["extra"]["fault"] == fault
    assert all("vars" not in frame for frame in event["exception"]["values"][0]["stacktrace"]["frames"])
    assert SECRET not in stream.getvalue() + json.dumps(receiver.events)


def test_an_address_that_is_none_is_refused() -> None:
    """Before the node starts, naming the setting."""
    with logging_kept(), pytest.raises(SettingRefused, match="HUB_SENTRY_DSN"):
        configure_logging(sentry_dsn="http://nobody/")
