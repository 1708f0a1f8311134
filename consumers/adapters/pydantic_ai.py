"""Serves any pydantic-ai `Agent`. Requires the extra `pydantic-ai`; no other module of the hub imports this one.

pydantic-ai runs its tools itself, so such an agent is not replayed: its message history is its checkpoint. The checkpoint is
saved before a tool's outcome is recorded, so that a call whose outcome is in the log is never run again
(ops/decisions/0006-runs.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import (
    Agent,
    AgentRunResult,
    AgentRunResultEvent,
    CancellationToken,
    DeferredToolRequests,
    DeferredToolResults,
    RunCancelled,
    ToolApproved,
    ToolDenied,
)
from pydantic_ai.exceptions import AgentRunError, ToolFailed
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import to_jsonable_python

from consumers.agents import (
    AgentFailed,
    AgentInput,
    Answer,
    Back,
    CallEnded,
    CallsBegun,
    Context,
    EndMessage,
    Item,
    Question,
    Reasoning,
    Result,
    Stopped,
    ToolCall,
    ToolOutcome,
)
from streams.json_bytes import Json, JsonObject, to_json

OUTPUT_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class _Turn:
    """The state of one translated pydantic-ai run: open calls, tool results and the final result."""

    called: list[str] = field(default_factory=list)
    returned: list[ToolReturnPart] = field(default_factory=list)
    begun_s: dict[str, float] = field(default_factory=dict)
    result: AgentRunResult[Any] | None = None


class PydanticAgent:
    """Wraps a pydantic-ai agent so that the hub can serve it.

    Args:
        agent: the agent; for approvals and external tools its `output_type` must include `DeferredToolRequests`.
        description: a sentence about it, shown by `agent.list`.
        history: maximum number of messages of the branch that are sent to the model.
        deps: makes the agent's dependencies for a run.
    """

    resumes = True
    is_interactive = True

    def __init__(
        self,
        agent: Agent[Any, Any],
        *,
        description: str = "",
        history: int = 50,
        deps: Callable[[Context, AgentInput], Any] | None = None,
    ) -> None:
        self._agent = agent
        self._history = history
        self._deps = deps
        self.description = description or f"{agent.name or 'An agent'} (pydantic-ai)"

    async def run(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
        """Runs the agent on the channel's history, or continues from its checkpoint."""
        turn, token = _Turn(), CancellationToken()
        options = await self._options(ctx, given)
        stopping = asyncio.create_task(_cancel_when(ctx.cancelled, token))
        try:
            async with self._agent.run_stream_events(
                cancellation_token=token,
                conversation_id=ctx.run_id,
                run_id=f"{ctx.run_id}.{ctx.segment}.{ctx.attempt}",
                **options,
            ) as events:
                async for event in events:
                    for item in await self._translate(ctx, turn, event, events.all_messages):
                        yield item
        except RunCancelled as error:
            raise Stopped from error
        except AgentRunError as error:
            raise AgentFailed(
                "model_error", f"the model's run failed ({type(error).__name__})", is_retryable=True
            ) from error
        finally:
            stopping.cancel()
        if turn.result is not None:
            async for item in self._finish(ctx, turn.result):
                yield item

    async def _options(self, ctx: Context, given: AgentInput) -> dict[str, Any]:
        settings = {name: given.settings[name] for name in ("temperature",) if name in given.settings}
        options: dict[str, Any] = {
            "model_settings": settings or None,
            "deps": self._deps(ctx, given) if self._deps else None,
        }
        if given.settings.get("instructions"):
            options["instructions"] = str(given.settings["instructions"])
        kept = await ctx.checkpoint()
        if isinstance(kept, dict):
            options["message_history"] = ModelMessagesTypeAdapter.validate_python(kept["messages"])
            options["deferred_tool_results"] = _results(kept, ctx.answers)
            return options
        prompt = given.text or to_json(given.value).decode()
        past = await ctx.history(self._history) if given.parent else []
        options["user_prompt"] = past[-1].text if past else prompt
        options["message_history"] = [_as_message(one.role, one.text) for one in past[:-1]]
        return options

    async def _translate(
        self, ctx: Context, turn: _Turn, event: Any, all_messages: Callable[[], list[ModelMessage]]
    ) -> list[Item]:
        if isinstance(event, PartStartEvent) and event.index == 0:
            turn.returned = []  # a new response: earlier tool results are now in its history
        match event:
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return [text]
            case PartStartEvent(part=ThinkingPart(content=text)):
                return [Reasoning(text)]
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))):
                return [Reasoning(text)]
            case PartEndEvent(part=ToolCallPart() as part):
                turn.called.append(part.tool_call_id)
            case FunctionToolCallEvent():
                turn.begun_s[event.tool_call_id] = time.monotonic()
                calls, turn.called = tuple(turn.called), []
                part = event.part
                return [
                    CallsBegun((ToolCall(part.tool_name, part.args_as_dict(), tool_call_id=part.tool_call_id),), calls)
                ]
            case FunctionToolResultEvent(part=ToolReturnPart() as part):
                turn.returned.append(part)
                history = [*all_messages(), ModelRequest(parts=list(turn.returned))]
                await ctx.save_checkpoint(_checkpoint(history))
                return [_ended(part, turn.begun_s.get(part.tool_call_id))]
            case AgentRunResultEvent():
                turn.result = event.result
        return []

    async def _finish(self, ctx: Context, result: AgentRunResult[Any]) -> AsyncGenerator[Item, Back]:
        usage = _usage(result)
        if isinstance(result.output, DeferredToolRequests):
            requests = result.output
            approvals: list[Json] = [call.tool_call_id for call in requests.approvals]
            calls: list[Json] = [call.tool_call_id for call in requests.calls]
            await ctx.save_checkpoint(_checkpoint(result.all_messages(), approvals, calls))
            await ctx.ask_all(_questions(requests))
        yield EndMessage("stop", usage)
        if not isinstance(result.output, str):
            yield Result(to_jsonable_python(result.output))


async def _cancel_when(cancelled: asyncio.Event, token: CancellationToken) -> None:
    await cancelled.wait()
    token.cancel()


def _checkpoint(
    messages: Sequence[ModelMessage], approvals: Sequence[Json] = (), calls: Sequence[Json] = ()
) -> JsonObject:
    dumped: Json = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    return {"messages": dumped, "approvals": [*approvals], "calls": [*calls]}


def _results(kept: JsonObject, answers: dict[str, Answer]) -> DeferredToolResults | None:
    """The answers to the calls that the checkpoint waits for; a call that nobody approved is denied."""
    approvals, calls = _ids(kept["approvals"]), _ids(kept["calls"])
    if not approvals and not calls:
        return None
    results = DeferredToolResults()
    for call_id in approvals:
        answer = answers.get(call_id)
        if answer is not None and answer.is_approved:
            results.approvals[call_id] = ToolApproved(override_args=answer.edited_args)
        else:
            reason = answer.reason if answer else ""
            results.approvals[call_id] = ToolDenied(reason) if reason else ToolDenied()
    for call_id in calls:
        answer = answers.get(call_id)
        is_there = answer is not None and answer.resolution == "answered" and not answer.error
        results.calls[call_id] = (
            answer.value if is_there and answer else ToolFailed((answer and answer.error) or "nobody answered")
        )
    return results


def _ids(value: Json) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _questions(requests: DeferredToolRequests) -> list[Question]:
    approvals = [
        Question(
            f"May {call.tool_name} run?",
            "approval",
            call.tool_name,
            call.args_as_dict(),
            allow_edit=True,
            tool_call_id=call.tool_call_id,
        )
        for call in requests.approvals
    ]
    return approvals + [
        Question(
            f"Run {call.tool_name}", "client_tool", call.tool_name, call.args_as_dict(), tool_call_id=call.tool_call_id
        )
        for call in requests.calls
    ]


def _ended(part: ToolReturnPart, begun_s: float | None) -> CallEnded:
    output: Json = to_jsonable_python(part.content)
    if len(to_json(output)) > OUTPUT_BYTES_MAX:
        output = {"truncated": True, "text": to_json(output)[: OUTPUT_BYTES_MAX // 4].decode("utf-8", "ignore")}
    duration_ms = 0 if begun_s is None else int((time.monotonic() - begun_s) * 1000)
    match part.outcome:
        case "denied":
            return CallEnded(ToolOutcome(part.tool_call_id, output, is_denied=True), duration_ms)
        case "success":
            return CallEnded(ToolOutcome(part.tool_call_id, output), duration_ms)
        case _:
            return CallEnded(
                ToolOutcome(part.tool_call_id, error="failed", message=str(part.content)[:2000]), duration_ms
            )


def _as_message(role: str, text: str) -> ModelMessage:
    if role == "user":
        return ModelRequest(parts=[UserPromptPart(text)])
    return ModelResponse(parts=[TextPart(text)])


def _usage(result: AgentRunResult[Any]) -> JsonObject:
    usage = result.usage
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
