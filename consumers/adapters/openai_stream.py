"""One streamed response of an OpenAI-compatible server, put together from its chunks. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from projections.json_value import Json, JsonObject

END: Final = "[DONE]"


@dataclass(slots=True)
class CallInProgress:
    """A tool call whose arguments arrive in pieces."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Response:
    """What has arrived. `feed` takes the lines of the event stream."""

    text: str = ""
    calls: dict[int, CallInProgress] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: JsonObject | None = None
    is_done: bool = False

    def feed(self, line: str) -> tuple[str, str]:
        """Take in one line; returns the text and the reasoning it brought.

        Raises:
            ValueError: not what such a server sends.
        """
        if not line.startswith("data:"):
            return "", ""
        data = line.removeprefix("data:").strip()
        if data == END:
            self.is_done = True
            return "", ""
        chunk = json.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is not an object")  # noqa: TRY004 - it is the server's fault, not a type error of ours
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = _usage(usage)
        choices = chunk.get("choices") or [{}]
        self.finish_reason = choices[0].get("finish_reason") or self.finish_reason
        return self._take(choices[0].get("delta") or {})

    def _take(self, delta: JsonObject) -> tuple[str, str]:
        for piece in _list(delta.get("tool_calls")):
            if isinstance(piece, dict):
                self._take_call(piece)
        text = str(delta.get("content") or "")
        self.text += text
        return text, str(delta.get("reasoning_content") or delta.get("reasoning") or "")

    def _take_call(self, piece: JsonObject) -> None:
        index = piece.get("index", 0)
        call = self.calls.setdefault(index if isinstance(index, int) else 0, CallInProgress())
        function = piece.get("function")
        call.call_id = call.call_id or str(piece.get("id") or "")
        if isinstance(function, dict):
            call.name = call.name or str(function.get("name") or "")
            call.arguments += str(function.get("arguments") or "")

    def recorded(self, text_max: int) -> JsonObject:
        """The response as a step's result."""
        calls: list[Json] = [
            {"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in self.calls.values()
        ]
        return {"text": self.text[:text_max], "calls": calls, "finish_reason": self.finish_reason}


def arguments_of(text: str) -> JsonObject | None:
    """A call's arguments; None when they are not a JSON object, which models do produce."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _usage(given: JsonObject) -> JsonObject:
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}
    return {ours: given[theirs] for theirs, ours in names.items() if isinstance(given.get(theirs), int)}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
