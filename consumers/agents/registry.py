"""Agents by import path: what HUB_AGENTS names, loaded and looked at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from consumers.agents.agent import RunFunction
from consumers.runs.services import ServedAgent
from streams.errors import StreamsError

DESCRIPTION_MAX = 500


class AgentRefused(StreamsError):
    """What an import path names cannot be served as an agent; the text says which and why."""


def load_agents(paths: Mapping[str, str]) -> dict[str, ServedAgent]:
    """Agents by name; a path is `module:object`, the object may have dots.

    Raises:
        AgentRefused: it cannot be imported, or is neither an async generator function nor an object with one named `run`.
    """
    return {name: served(name, _import(name, path)) for name, path in paths.items()}


def served(name: str, found: Any) -> ServedAgent:
    """An agent as the worker serves it.

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
        name, cast("RunFunction", run), str(description).partition("\n\n")[0].replace("\n", " ")[:DESCRIPTION_MAX],
        bool(getattr(found, "resumes", False)), bool(getattr(found, "is_interactive", True)),
    )  # fmt: skip


def _import(name: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise AgentRefused(f"agent {name}: {path} cannot be imported: {error}") from error
    return found
