"""Agents by import path."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.agents.loading import AgentRefused, load_agents, served


async def talk(ctx: Any, given: Any) -> Any:
    """Talks.

    At length.
    """
    yield "x"


class Adapter:
    """An adapter."""

    resumes = True
    description = "Resumes by itself."

    async def run(self, ctx: Any, given: Any) -> Any:
        yield "x"


def test_functions_and_objects_are_agents() -> None:
    """An async generator function, or an object that has one named `run`; its docstring's first paragraph describes it."""
    function, adapter = served("f", talk), served("a", Adapter())

    assert (function.description, function.resumes, function.is_interactive) == ("Talks.", False, True)
    assert (adapter.description, adapter.resumes) == ("Resumes by itself.", True)


def test_the_demo_agent_loads_by_its_path() -> None:
    """The agents that `hub dev` serves."""
    assert "history" in load_agents({"demo": "consumers.agents.demo:agent"})["demo"].description


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no.such.module:x", "cannot be imported"),
        ("consumers.agents.demo:nothing", "cannot be imported"),
        ("json:dumps", "needs `async def run"),
        ("asyncio:sleep", "needs `async def run"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(path: str, why: str) -> None:
    """At start, in one sentence that names the agent."""
    with pytest.raises(AgentRefused, match=f"agent bad.*{why}"):
        load_agents({"bad": path})
