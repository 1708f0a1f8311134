"""The agent used in torture runs: `HUB_AGENTS="torture=ops.torture.agent:run"`.

Its answer is a function of the question. It also calls a tool that must never run twice; each execution of the tool adds a line
to the file named by `TORTURE_EFFECTS`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from consumers.agents.agent import AgentInput, Context, ToolCall
from ops.torture.history import now_ms
from ops.torture.rules.runs import pieces_of

PACE_S: Final = 0.03
TOOL_S: Final = 0.5
"""Duration of the tool after its effect, in seconds, during which the worker may be killed."""


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Any, Any]:
    """Calls the tool and then yields the answer in pieces, so that the answer is one message."""

    async def pay(_args: Any, _tool: Any) -> Any:
        effect = {"t": now_ms(), "k": "effect", "run": ctx.run_id, "key": "pay"}
        with Path(os.environ["TORTURE_EFFECTS"]).open("a") as file:  # noqa: ASYNC230 - one short line, appended at once
            file.write(json.dumps(effect) + "\n")
        await asyncio.sleep(TOOL_S)
        return "paid"

    if "pay" in given.text:
        yield ToolCall("pay", {}, pay, is_idempotent=False)
    for piece in pieces_of(given.text):
        yield piece
        await asyncio.sleep(PACE_S)
