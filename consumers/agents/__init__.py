"""The agent API: everything needed to write an agent.

from collections.abc import AsyncGenerator

from consumers.agents import AgentInput, Back, Context, Item


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
yield f"You said: {given.text}"
"""

from consumers.agents.agent import (
    INVOKER,
    AgentFailed,
    AgentInput,
    Answer,
    Back,
    CallEnded,
    CallsBegun,
    Context,
    EndMessage,
    Executor,
    FinishReason,
    Item,
    Output,
    OutputKind,
    PastMessage,
    Question,
    QuestionKind,
    Reasoning,
    Resolution,
    Result,
    RunFunction,
    Stopped,
    Suspended,
    ToolCall,
    ToolContext,
    ToolFunction,
    ToolOutcome,
)

__all__ = [
    "INVOKER",
    "AgentFailed",
    "AgentInput",
    "Answer",
    "Back",
    "CallEnded",
    "CallsBegun",
    "Context",
    "EndMessage",
    "Executor",
    "FinishReason",
    "Item",
    "Output",
    "OutputKind",
    "PastMessage",
    "Question",
    "QuestionKind",
    "Reasoning",
    "Resolution",
    "Result",
    "RunFunction",
    "Stopped",
    "Suspended",
    "ToolCall",
    "ToolContext",
    "ToolFunction",
    "ToolOutcome",
]
