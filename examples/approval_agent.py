"""A pydantic-ai agent with two tools, of which one asks a person first.

pip install 'realtime-hub[server,embedded,pydantic-ai]'
PYTHONPATH=examples HUB_AGENTS=mailer=approval_agent:agent hub dev     # in one terminal
hub ask --agent mailer 'invite bob'                                    # in another one; answer y or n

The model here is pydantic-ai's own stub, so that the example needs no key: put `"openai:gpt-5"` or the like in its place.
"""

from collections.abc import AsyncIterator

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from consumers.adapters.pydantic_ai import PydanticAgent


async def stub(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Stands in for a model: looks up an address, sends a mail to it, and reports the result."""
    returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    if not returned:
        yield {0: DeltaToolCall(name="address_of", json_args='{"name": "bob"}', tool_call_id="call-1")}
    elif len(returned) == 1:
        yield {0: DeltaToolCall(name="send_mail", json_args='{"to": "bob@example.com"}', tool_call_id="call-2")}
    else:
        yield f"Done: {returned[-1].content}"


# `DeferredToolRequests` lets the run wait for a person's answer, up to a day, without occupying a process.
mailer = Agent(FunctionModel(stream_function=stub), output_type=[str, DeferredToolRequests])


@mailer.tool_plain
def address_of(name: str) -> str:
    """A tool that runs without an approval."""
    return f"{name}@example.com"


@mailer.tool_plain(requires_approval=True)
def send_mail(to: str) -> str:
    """A tool that runs only after a person has approved the call, on any device."""
    return f"mail sent to {to}"


agent = PydanticAgent(mailer, description="Invites people by mail.")
