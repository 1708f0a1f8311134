"""An agent backed by any OpenAI-compatible server: streamed chat completions, with tools of the agent and of the client.

Each response is recorded as a step, so a repeated run requests only the responses that are not recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from consumers.agents import (
    AgentFailed,
    AgentInput,
    Back,
    Context,
    EndMessage,
    FinishReason,
    Item,
    Question,
    Reasoning,
    ToolCall,
    ToolFunction,
    ToolOutcome,
)
from streams.json_bytes import Json, JsonObject, joined, to_json

STALL_S: Final = 30.0
"""A server that sends nothing for this long, in seconds, counts as lost."""
CONNECT_S: Final = 10.0
TRIES_MAX: Final = 3
"""Maximum number of requests until the first piece of text arrives; after that, a retry would repeat text."""
ROUNDS_MAX: Final = 16
"""Maximum number of responses in one run; it stops a model that calls tools endlessly."""
RECORDED_CHARACTERS: Final = 10_000
"""Maximum length of a response's text as recorded with its step; a repeated run shows it to the model in later rounds."""
_AGAIN: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
END: Final = "[DONE]"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is its JSON Schema; if `prompt` is set, each call requires an approval."""

    name: str
    description: str
    parameters: JsonObject
    run: ToolFunction
    is_idempotent: bool = False
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAgent:
    """Answers with a model on an OpenAI-compatible server.

    Attributes:
        base_url: the server's URL, including `/v1`.
        history: maximum number of messages of the branch that are sent to the model.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    instructions: str = ""
    description: str = "Answers with a language model."
    tools: Sequence[Tool] = ()
    history: int = 50
    stall_s: float = STALL_S
    retry_s: float = 0.5
    is_interactive: bool = True

    async def run(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
        """Requests responses and runs the tools they call, until the model has answered."""
        messages = await self._messages(ctx, given)
        timeout = httpx.Timeout(self.stall_s, connect=CONNECT_S)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        async with httpx.AsyncClient(timeout=timeout, headers=headers) as client:
            for number in range(ROUNDS_MAX):
                key = f"response-{number}"
                response = Response()
                known = ctx.recorded(key)
                if known is None:
                    async for piece in self._stream(client, self._body(messages, given), response):
                        yield piece
                    known = response.recorded(RECORDED_CHARACTERS)
                elif isinstance(known, dict) and known["text"]:
                    yield str(known["text"])  # already in the log, so the replay skips it
                found = await ctx.step(key, _Recorded(known))
                calls = _calls(found, self.tools, given.client_tools)
                if not calls:
                    finish = str(found.get("finish_reason")) if isinstance(found, dict) else "stop"
                    yield EndMessage(_FINISH.get(finish, "stop"), _with_model(response.usage, self.model))
                    return
                outcomes = yield calls
                messages += _as_messages(found, outcomes)
        raise AgentFailed("too_many_rounds", f"the model still called tools after {ROUNDS_MAX} rounds")

    async def _messages(self, ctx: Context, given: AgentInput) -> list[Json]:
        instructions = str(given.settings.get("instructions") or self.instructions)
        messages: list[Json] = [{"role": "system", "content": instructions}] if instructions else []
        messages += [  # marked as material of the user, because it is data and never instructions
            {"role": "user", "content": f"{item.get('description')}:\n{item.get('value')}"} for item in given.context
        ]
        past = await ctx.history(self.history) if given.parent else []
        messages += [{"role": one.role, "content": one.text} for one in past]
        if not past:
            content = given.text or to_json(given.value).decode()
            messages.append({"role": "user", "content": content})
        return messages

    def _body(self, messages: list[Json], given: AgentInput) -> JsonObject:
        body: JsonObject = {
            "model": given.settings.get("model") or self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if "temperature" in given.settings:
            body["temperature"] = given.settings["temperature"]
        functions: list[Json] = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in self.tools
        ]
        if offered := [*functions, *given.client_tools]:
            body["tools"] = [{"type": "function", "function": function} for function in offered]
        return body

    async def _stream(self, client: httpx.AsyncClient, body: JsonObject, response: Response) -> AsyncIterator[Item]:
        """Yields the response's pieces as they arrive.

        Raises:
            AgentFailed: the server refused the request, stalled or broke the connection.
        """
        for left in reversed(range(TRIES_MAX)):
            is_begun = False
            try:
                async with client.stream("POST", f"{self.base_url}/chat/completions", json=body) as reply:
                    _check(reply)
                    async for line in reply.aiter_lines():
                        text, reasoning = response.feed(line)
                        is_begun = is_begun or bool(text or reasoning or response.calls)
                        if reasoning:
                            yield Reasoning(reasoning)
                        if text:
                            yield text
                if not (response.is_done or response.finish_reason):
                    raise AgentFailed(
                        "provider_broke_off", "the model's server closed the stream too early", is_retryable=True
                    )
            except (httpx.HTTPError, AgentFailed, ValueError) as error:
                failed = _failure(error)
                if is_begun or not left or not failed.is_retryable:
                    raise failed from error
                await asyncio.sleep(self.retry_s)
            else:
                return


def _check(reply: httpx.Response) -> None:
    if reply.status_code in _AGAIN:
        raise AgentFailed("provider_unavailable", f"the model's server answered {reply.status_code}", is_retryable=True)
    if reply.status_code >= 400:  # noqa: PLR2004 - HTTP's own border
        raise AgentFailed("provider_refused", f"the model's server answered {reply.status_code}")


def _failure(error: Exception) -> AgentFailed:
    """The error as shown to users; it never contains the URL, the key or the server's own text."""
    if isinstance(error, AgentFailed):
        return error
    if isinstance(error, httpx.ReadTimeout):
        return AgentFailed("provider_stalled", "the model's server stopped sending", is_retryable=True)
    if isinstance(error, httpx.TransportError):
        return AgentFailed(
            "provider_broke_off", "the model's server could not be reached, or closed the connection", is_retryable=True
        )
    return AgentFailed("provider_garbled", "the model's server sent no valid response")


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A step function that only records a known value."""

    value: Json

    async def __call__(self) -> Json:
        return self.value


def _calls(found: Json, tools: Sequence[Tool], client_tools: Sequence[JsonObject]) -> list[ToolCall]:
    rows = found.get("calls") if isinstance(found, dict) else None
    calls = [_call(row, tools, client_tools) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [call for call in calls if call is not None]


def _call(row: JsonObject, tools: Sequence[Tool], client_tools: Sequence[JsonObject]) -> ToolCall | None:
    name, call_id, args = str(row["name"]), str(row["id"]) or None, arguments_of(str(row["arguments"]))
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None and any(offered.get("name") == name for offered in client_tools):
        return ToolCall(name, args or {}, tool_call_id=call_id, executor="client")
    if tool is None or args is None:
        why = f"there is no tool {name}" if tool is None else "the arguments are not a JSON object"
        return ToolCall(name, {}, _never, call_id, is_idempotent=True, validate=_Refusal(why))
    approval = Question(tool.prompt, "approval", allow_edit=True) if tool.prompt else None
    return ToolCall(name, args, tool.run, call_id, is_idempotent=tool.is_idempotent, approval=approval)


async def _never(_args: JsonObject, _tool: object) -> Json:
    raise AssertionError("its arguments are refused before")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A validator that rejects all arguments: the call ends with `invalid_args`, and the model gets the reason."""

    why: str

    def __call__(self, _args: JsonObject) -> JsonObject:
        raise ValueError(self.why)


def _as_messages(found: Json, outcomes: Back) -> list[Json]:
    """Convert a recorded response and the outcomes of its calls to messages for the model."""
    rows = found.get("calls") if isinstance(found, dict) else []
    calls: list[Json] = [
        {"id": row["id"], "type": "function", "function": {"name": row["name"], "arguments": row["arguments"]}}
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]
    text = found.get("text") if isinstance(found, dict) else None
    messages: list[Json] = [{"role": "assistant", "content": text or None, "tool_calls": calls}]
    messages += [
        {"role": "tool", "tool_call_id": outcome.tool_call_id, "content": _outcome_text(outcome)}
        for outcome in (outcomes if isinstance(outcomes, list) else [])
    ]
    return messages


def _outcome_text(outcome: ToolOutcome) -> str:
    if outcome.error is not None:
        return f"error: {outcome.message}"
    if outcome.is_denied:
        return f"denied: {outcome.output}"
    return outcome.output if isinstance(outcome.output, str) else to_json(outcome.output).decode()


def _with_model(usage: JsonObject | None, model: str) -> JsonObject | None:
    return None if usage is None else {"model": model[:128], **usage}


@dataclass(slots=True)
class CallInProgress:
    """A tool call whose arguments arrive in pieces."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Response:
    """The part of a streamed response received so far. `feed` takes the lines of the event stream."""

    text: str = ""
    calls: dict[int, CallInProgress] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: JsonObject | None = None
    is_done: bool = False

    def feed(self, line: str) -> tuple[str, str]:
        """Parse one line; returns the text and the reasoning in it.

        Raises:
            ValueError: the line is not valid.
        """
        if not line.startswith("data:"):
            return "", ""
        data = line.removeprefix("data:").strip()
        if data == END:
            self.is_done = True
            return "", ""
        chunk = json.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is not an object")  # noqa: TRY004 - the server's error, not a type error here
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
        """The response in the form recorded as a step's result."""
        calls: list[Json] = [
            {"id": call.call_id, "name": call.name, "arguments": joined(call.arguments)} for call in self.calls.values()
        ]
        return {"text": joined(self.text)[:text_max], "calls": calls, "finish_reason": self.finish_reason}


def arguments_of(text: str) -> JsonObject | None:
    """Parse a call's arguments; None if they are not a JSON object, which models sometimes produce."""
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
