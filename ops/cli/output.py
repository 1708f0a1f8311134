"""How events look: sentences on a terminal, JSON lines in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """`jsonl` is one wire event a line; `text` is for people."""

    JSONL = "jsonl"
    TEXT = "text"


def is_terminal() -> bool:
    """Whether a person reads our output."""
    return sys.stdout.isatty()


def line(raw: bytes, form: Format | None = None) -> str:
    """One event as a line; without a format, the one that suits who reads."""
    if (form or (Format.TEXT if is_terminal() else Format.JSONL)) is Format.JSONL:
        return raw.decode()
    return sentence(json.loads(raw))


def sentence(event: Mapping[str, Any]) -> str:
    """`2026-11-23 04:59:01  #12  alice: hello` for messages; other types show their payload."""
    payload, who = event.get("payload", {}), event.get("actor", {}).get("id", "hub")
    number = f"#{event['seq']}" if "seq" in event else "live"
    said = (
        f"{who}: {payload['text']}"
        if event["type"] == "chat.message"
        else f"{event['type']} by {who} {_brief(payload)}"
    )
    return f"{_moment(event)}  {number:>6}  {_printable(said)}"


def _moment(event: Mapping[str, Any]) -> str:
    if "id" not in event:
        return " " * 19
    written = datetime.fromtimestamp(int(event["id"].partition("-")[0]) / 1000, UTC)
    return written.strftime("%Y-%m-%d %H:%M:%S")


def _brief(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False)[:200] if payload else ""


def _printable(text: str) -> str:
    """Without control characters: a message must not be able to rewrite an operator's screen."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
