"""No secret is ever written to a log, in whatever field, form or library it comes from."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.signing import sign
from hub.logs import DEPTH_MAX, REDACTED, TEXT_CHARS_MAX, Redaction, configure_logging, processors
from streams.log_context import CURRENT, set_hash_key, user_hash
from support.logging_kept import logging_kept

SECRET = "canary-secret-of-32-bytes-or-more!"
TOKEN = sign(SECRET, "alice", "acme", {"conversation:*": ["read"]}, 60, time.time())
SIGNATURE = "0f5e2acanaryf00d"
PRESIGNED = (
    "https://files.example.com/acme/f1?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIACANARY%2F2026"
    f"&X-Amz-Signature={SIGNATURE}"
)
PARTS = [*TOKEN.split("."), SIGNATURE, "AKIACANARY", SECRET]


def written(event: dict[str, Any]) -> str:
    """The line as the last processors write it."""
    result: Any = {"event": "x", "_record": None, "_from_structlog": True} | event
    for processor in processors([SECRET]):
        result = processor(None, "info", result)
    assert isinstance(result, str)
    return result


CANARIES = [
    TOKEN,
    f"Bearer {TOKEN}",
    f"bearer  {TOKEN}",
    f"token={TOKEN}&x=1",
    f"GET /ws?token={TOKEN} HTTP/1.1",
    f"/v1/files/abc?sig={SIGNATURE}&exp=1",
    f"wss://hub.example.com/ws?access_token={TOKEN}",
    PRESIGNED,
    f"PUT {PRESIGNED} -> 403",
    f"rediss://default:{SECRET}@redis:6379/0",
    f"the secret is {SECRET}.",
    json.dumps({"headers": {"Authorization": f"Bearer {TOKEN}"}}),
    TOKEN[:-20],
    TOKEN.encode(),
    repr(TOKEN),
]
SHAPES = {
    "event": lambda canary: {"event": canary},
    "field": lambda canary: {"anything": canary},
    "list": lambda canary: {"items": ["a", [canary]]},
    "tuple": lambda canary: {"items": ("a", canary)},
    "set": lambda canary: {"items": {canary}},
    "nested": lambda canary: {"a": {"b": [{"c": canary}]}},
    "key": lambda canary: {"a": {canary: 1}},
    "object": lambda canary: {"error": ValueError(canary)},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("canary", CANARIES, ids=range(len(CANARIES)))
def test_no_canary_is_written_in_any_field(canary: object, shape: str) -> None:
    """A token, key or presigned URL in any field, key, collection or object is taken out."""
    line = written(SHAPES[shape](canary))

    assert not [part for part in PARTS if part in line or part[:24] in line]


@pytest.mark.parametrize(
    "name",
    [
        "token", "Token", "jwt", "HUB_JWT_SECRET", "authorization", "Authorization", "cookie", "Set-Cookie", "password",
        "api_key", "apikey", "aws_secret_access_key", "X-Amz-Signature", "credentials", "presigned_url", "auth", "sig",
    ],
)  # fmt: skip # a case a row
def test_fields_named_like_a_secret_lose_their_value(name: str) -> None:
    """Whatever the value looks like, the name is enough."""
    assert "hunter2" not in written({name: "hunter2"})
    assert "hunter2" not in written({"headers": {name: ["hunter2"]}})


def test_what_is_no_secret_is_still_readable() -> None:
    """Redaction that takes everything would be a log of nothing."""
    line = json.loads(
        written({"event": "socket.closed", "code": 4002, "user": "alice", "path": "/v1/channels/team:blue"})
    )

    assert line == {"event": "socket.closed", "code": 4002, "user": "alice", "path": "/v1/channels/team:blue"}


def test_tracebacks_are_redacted() -> None:
    """An exception that quotes a token does not leak it through its traceback."""
    try:
        raise ValueError(f"bad token {TOKEN}")
    except ValueError:
        line = written({"exc_info": sys.exc_info()})

    assert "Traceback" in line
    assert not [part for part in PARTS if part in line]


@given(st.text())
def test_one_event_is_one_line(text: str) -> None:
    """No input breaks a line or reaches a terminal as a control character."""
    line = written({"event": text, "user": text, text: 1})

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["user"] == Redaction([SECRET]).text(text)


@pytest.mark.parametrize("text", ['\n{"event":"forged"}', "\r\n", "\x1b[2J", "\u2028", "\u202e", "\x00", "\x85"])
def test_line_breaks_and_escapes_are_written_escaped(text: str) -> None:
    """A forged second line stays inside the first."""
    assert written({"event": "x" + text}).isprintable()


def test_long_deep_and_endless_values_are_cut() -> None:
    """One hostile value cannot fill the disk or recurse without end."""
    endless: dict[str, Any] = {}
    endless["self"] = endless

    line = written({"text": "x" * 1_000_000, "many": list(range(100_000)), "endless": endless})

    assert len(line) < TEXT_CHARS_MAX + 2_000
    assert line.count("self") <= DEPTH_MAX


def test_a_token_cut_by_the_limit_is_still_taken_out() -> None:
    """The cut leaves no half of a token behind."""
    line = written({"text": "x" * (TEXT_CHARS_MAX - 40) + " " + TOKEN})

    assert not [part for part in PARTS if part[:24] in line]


def test_redaction_stays_fast_on_hostile_text() -> None:
    """No pattern backtracks: a text made to match almost costs milliseconds (measured: 40 ms at most)."""
    began = time.process_time()
    for unit in ("eyJ", "a", "/-", "token_", "://", "://a", "bearer\t", "x-amz-", "?", "?a", "a?=", " ", '"'):
        Redaction().text(unit * (70_000 // len(unit)))

    assert time.process_time() - began < 10  # one that backtracks takes minutes


def test_an_object_that_cannot_be_shown_does_not_break_the_line() -> None:
    """Logging never raises."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "whose repr raised RuntimeError" in written({"thing": Broken()})


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Logging set up as a process does, and put back."""
    stream = io.StringIO()
    with logging_kept():
        configure_logging(secrets=[SECRET], stream=stream)
        yield stream


def test_lines_of_libraries_pass_the_same_redaction(lines: io.StringIO) -> None:
    """A library that logs a request with its headers leaks nothing, with arguments or with extra fields."""
    logging.getLogger("some.library").warning(
        "request %s", {"Authorization": f"Bearer {TOKEN}"}, extra={"url": PRESIGNED}
    )
    structlog.get_logger("hub.test").warning("ours", token=TOKEN, url=PRESIGNED)

    rows = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(rows) == 2
    assert rows[1]["token"] == REDACTED
    assert rows[1]["logger"] == "hub.test"
    assert not [part for part in PARTS if part in lines.getvalue()]


def test_console_lines_are_for_people_and_escape_as_well() -> None:
    """Time, severity, logger and text first; no control character of an input reaches the terminal."""
    stream = io.StringIO()
    with logging_kept():
        configure_logging("warning", secrets=[SECRET], stream=stream, log_format="console")
        log = logging.getLogger("hub.test")
        log.info("not this")
        log.warning("evil \x1b[31m\n%s", "ö", extra={"channel": "a\r\nb", "token": TOKEN})
        try:
            raise ValueError(f"\x1b]0;{SECRET}")
        except ValueError:
            log.exception("failed")

    first, second, *trace = stream.getvalue().splitlines()
    assert first.split(" ", 1)[1] == r'warning hub.test evil \x1b[31m\n\xf6 channel="a\r\nb" token="[redacted]"'
    assert second.endswith("error hub.test failed")
    assert trace[0] == "    Traceback (most recent call last):"
    assert SECRET not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


class Work:
    """Work in progress, with a field of each kind."""

    def __init__(self) -> None:
        self.asked = 0

    def log_fields(self) -> dict[str, object]:
        self.asked += 1
        return {"tenant": "acme", "channel": "conversation:1", "variant": "", "event_id": "1-0"}


def test_a_line_has_the_fields_of_the_work_in_progress(lines: io.StringIO) -> None:
    """They are collected for a line that is written, and for no other; empty ones are left out."""
    work, log = Work(), logging.getLogger("hub.test")
    token_ = CURRENT.set((work,))
    log.debug("not written")
    log.info("first", extra={"event_id": "2-0"})
    structlog.get_logger("hub.test").info("second")
    CURRENT.reset(token_)
    log.info("third")

    rows = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [row.get("tenant") for row in rows] == ["acme", "acme", None]
    assert [row.get("event_id") for row in rows] == ["2-0", "1-0", None]
    assert "variant" not in rows[0]
    assert work.asked == 2


def test_a_users_hash_is_the_same_everywhere_and_needs_the_key() -> None:
    """With one key; with another, or another tenant, it is another."""
    found = []
    for key, tenant in (("k1", "acme"), ("k1", "acme"), ("k2", "acme"), ("k1", "other")):
        set_hash_key(key)
        found.append(user_hash(tenant, "alice"))
    set_hash_key("")

    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert "alice" not in found[0]
