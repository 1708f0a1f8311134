"""Loads the agents that HUB_AGENTS names by import path, and checks their form."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from consumers.agents.agent import RunFunction
from streams.errors import StreamsError
from streams.import_paths import ImportRefused, object_at

DESCRIPTION_MAX = 500


class AgentRefused(StreamsError):
    """The object at an import path cannot be served as an agent; the text has the path and the reason."""


@dataclass(frozen=True, slots=True)
class ServedAgent:
    """An agent that a worker serves.

    Attributes:
        resumes: it keeps checkpoints of its own and is not replayed.
        is_interactive: it may ask people questions.
    """

    name: str
    run: RunFunction
    description: str = ""
    resumes: bool = False
    is_interactive: bool = True


def load_agents(paths: Mapping[str, str]) -> dict[str, ServedAgent]:
    """Load agents by name; a path is `module:object`, and the object may contain dots.

    Raises:
        AgentRefused: an agent cannot be imported, or is neither an async generator function nor an object with one named `run`.
    """
    return {name: served(name, _import(name, path)) for name, path in paths.items()}


def served(name: str, found: Any) -> ServedAgent:
    """Check an agent and wrap it for serving under this name.

    Raises:
        AgentRefused: see `load_agents`.
    """
    run = found if inspect.isasyncgenfunction(found) else getattr(found, "run", None)
    if not inspect.isasyncgenfunction(run):
        raise AgentRefused(
            f"agent {name}: needs `async def run(ctx, input)` that yields, or an object with such a method"
        )
    description = getattr(found, "description", None) or inspect.getdoc(found) or ""
    return ServedAgent(
        name,
        cast("RunFunction", run),
        str(description).partition("\n\n")[0].replace("\n", " ")[:DESCRIPTION_MAX],
        bool(getattr(found, "resumes", False)),
        bool(getattr(found, "is_interactive", True)),
    )


def _import(name: str, path: str) -> Any:
    try:
        return object_at(path)
    except ImportRefused as error:
        raise AgentRefused(f"agent {name}: {error}") from error
