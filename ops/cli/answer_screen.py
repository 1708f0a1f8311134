"""Shows an answer on the terminal: its text grows on stdout; tool calls, reasoning and questions are lines on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

from ops.cli.output import is_terminal, printable

_ARGS_CHARACTERS: Final = 100
_DECISIONS: Final = frozenset({"approval", "confirmation"})


class AnswerScreen:
    """Shows one answer. If stdout is a pipe, the text is written once, at the end, so that a program reads only the final text."""

    def __init__(self) -> None:
        self._is_live = is_terminal()
        self._shown = {sys.stdout: "", sys.stderr: ""}
        self._unfinished: TextIO | None = None
        self._calls: dict[str, Mapping[str, Any]] = {}

    def show(self, text: str) -> None:
        """Show the text received so far."""
        if self._is_live:
            self._grow(sys.stdout, text)

    def show_reasoning(self, text: str) -> None:
        """Show the reasoning received so far."""
        self._grow(sys.stderr, text)

    def finish(self, text: str) -> None:
        """Show the final text."""
        if self._is_live:
            self.show(text)
            self._end_line()
        elif text:
            print(text, flush=True)

    def note(self, text: str) -> None:
        """Show a line about the answer."""
        self._end_line()
        print(printable(text), file=sys.stderr, flush=True)

    def prompt(self, text: str) -> None:
        """Show a prompt; the person's input follows on the same line."""
        self._end_line()
        print(printable(text), end=" ", file=sys.stderr, flush=True)

    def show_event(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Show a tool call as a line once it has ended, and an output as a line."""
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
            self.note("  the agent starts again")
            self._shown[stream] = ""
        piece, self._shown[stream] = text[len(self._shown[stream]) :], text
        if self._unfinished is not stream:
            self._end_line()
            piece = piece.lstrip("\n")  # the blank line before a message follows a line of ours
        if piece:
            print(printable(piece, keeps="\n\t"), end="", file=stream, flush=True)
            self._unfinished = None if piece.endswith("\n") else stream

    def _end_line(self) -> None:
        if self._unfinished is not None:
            print(file=self._unfinished, flush=True)
            self._unfinished = None


def brief(value: object) -> str:
    """Arguments as one short piece of JSON; "" if there are none."""
    text = json.dumps(value, ensure_ascii=False) if value else ""
    return text if len(text) <= _ARGS_CHARACTERS else f"{text[:_ARGS_CHARACTERS]}…"


def question_text(request: Mapping[str, Any]) -> str:
    """The question of a `tool.call.request` as a line, with the possible answers."""
    about = " ".join(filter(None, (request.get("name"), brief(request.get("args")))))
    hint = "[y/n]" if request["kind"] in _DECISIONS else choices_text(choices_of(request))
    return " ".join(filter(None, (request["prompt"], about and f"({about})", hint)))


def choices_of(request: Mapping[str, Any]) -> list[Any]:
    """The answers that a question of kind `input` allows; empty if any is allowed."""
    schema = request.get("response_schema")
    found = schema.get("enum") if isinstance(schema, dict) else None
    return found if isinstance(found, list) else []


def choices_text(choices: list[Any]) -> str:
    """The allowed answers in the form in which a person types them."""
    return f"[{'/'.join(map(str, choices))}]" if choices else ""


def response_to(request: Mapping[str, Any], line: str) -> dict[str, Any] | None:
    """The fields of the `tool.call.response` for a typed line; None if the line is not a valid answer to the question."""
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
