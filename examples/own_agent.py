"""An agent of your own: an async generator whose words appear while it runs.

PYTHONPATH=examples HUB_AGENTS=dice=own_agent:run hub dev     # in one terminal
hub ask --agent dice 'roll 3 dice'                            # in another one
"""

import asyncio
import random
import re
from collections.abc import AsyncGenerator

from consumers.agents import AgentInput, Back, Context, Item, Reasoning


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Rolls as many dice as the first number in the question says."""
    count = min(int((re.search(r"\d+", given.text) or ["1"])[0]), 20)
    yield Reasoning(f"{given.by} wants {count} dice.")

    # Random choices belong in a step: its result is recorded, so another worker that takes the run over gets the same one.
    async def roll() -> list[int]:
        return [random.randint(1, 6) for _ in range(count)]

    for number in await ctx.step("roll", roll):
        yield f"{number} "  # everybody in the conversation sees it at once
        await asyncio.sleep(0.1)
    yield "— good luck!"
