"""An answer on the terminal: its text on stdout as it grows, everything beside it as lines on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

from ops.cli.output import is_terminal, printable

_ARGS_CHARACTERS: Final = 100
_DECISIONS: Final = frozenset({"approval", "confirmation"})


class AnswerScreen:
    """Shows one answer. Into a pipe the text is written once, at its end, so that a program reads nothing that changes."""

    def __init__(self) -> None:
        self._is_live = is_terminal()
        self._shown = {sys.stdout: "", sys.stderr: ""}
        self._unfinished: TextIO | None = None
        self._calls: dict[str, Mapping[str, Any]] = {}

    def show(self, text: str) -> None:
        """The text so far."""
        if self._is_live:
            self._grow(sys.stdout, text)

    def show_reasoning(self, text: str) -> None:
        """The reasoning so far."""
        self._grow(sys.stderr, text)

    def finish(self, text: str) -> None:
        """The text as it counts."""
        if self._is_live:
            self.show(text)
            self._end_line()
        elif text:
            print(text, flush=True)

    def note(self, text: str) -> None:
        """A line beside the answer."""
        self._end_line()
        print(printable(text), file=sys.stderr, flush=True)

    def prompt(self, text: str) -> None:
        """The beginning of a line that a person ends."""
        self._end_line()
        print(printable(text), end=" ", file=sys.stderr, flush=True)

    def show_event(self, kind: str, payload: Mapping[str, Any]) -> None:
        """A call of a tool as a line, once it has ended; an output as a line."""
        match kind:
            case "tool.call.start":
                self._calls[payload["tool_call_id"]] = payload
            case "tool.call.complete":
                self.note(f"  {self._call(payload)}: {payload['outcome']}, {payload['duration_ms']} ms")
            case "tool.call.error":
                self.note(f"  {self._call(payload)}: {payload['reason']}, {payload['message']}")
            case "agent.output":
                self.note(f"  output {payload.get('name') or payload['index']} ({payload['kind']})")

    def _call(self, payload: Mapping[str, Any]) -> str:
        started = self._calls.get(payload["tool_call_id"], {})
        return f"tool {started.get('name', payload['tool_call_id'])} {brief(started.get('args'))}".rstrip()

    def _grow(self, stream: TextIO, text: str) -> None:
        if not text.startswith(self._shown[stream]):
            self.note("  the agent begins again")
            self._shown[stream] = ""
        piece, self._shown[stream] = text[len(self._shown[stream]) :], text
        if self._unfinished is not stream:
            self._end_line()
            piece = piece.lstrip("\n")  # the empty line before a message, behind a line of ours
        if piece:
            print(printable(piece, keeps="\n\t"), end="", file=stream, flush=True)
            self._unfinished = None if piece.endswith("\n") else stream

    def _end_line(self) -> None:
        if self._unfinished is not None:
            print(file=self._unfinished, flush=True)
            self._unfinished = None


def brief(value: object) -> str:
    """Arguments as one short piece of JSON; nothing for none."""
    text = json.dumps(value, ensure_ascii=False) if value else ""
    return text if len(text) <= _ARGS_CHARACTERS else f"{text[:_ARGS_CHARACTERS]}…"


def question_text(request: Mapping[str, Any]) -> str:
    """The question of a `tool.call.request` as a line, with what may be answered."""
    about = " ".join(filter(None, (request.get("name"), brief(request.get("args")))))
    hint = "[y/n]" if request["kind"] in _DECISIONS else choices_text(choices_of(request))
    return " ".join(filter(None, (request["prompt"], about and f"({about})", hint)))


def choices_of(request: Mapping[str, Any]) -> list[Any]:
    """The answers an `input` allows; none for any."""
    schema = request.get("response_schema")
    found = schema.get("enum") if isinstance(schema, dict) else None
    return found if isinstance(found, list) else []


def choices_text(choices: list[Any]) -> str:
    """The allowed answers as a person types them."""
    return f"[{'/'.join(map(str, choices))}]" if choices else ""


def response_to(request: Mapping[str, Any], line: str) -> dict[str, Any] | None:
    """The fields of the `tool.call.response` that a typed line is; None when it fits the question not at all."""
    word = line.strip()
    if request["kind"] in _DECISIONS:
        decision = {"y": "approve", "yes": "approve", "n": "deny", "no": "deny"}.get(word.lower())
        return {"decision": decision} if decision else None
    if choices := choices_of(request):
        return next(({"result": choice} for choice in choices if str(choice) == word), None)
    schema = request.get("response_schema")
    if not isinstance(schema, dict) or schema.get("type", "string") == "string":
        return {"result": word}
    try:
        return {"result": json.loads(word)}
    except ValueError:
        return None
