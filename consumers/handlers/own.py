"""Custom handlers: functions that react to custom event types, named by HUB_HANDLERS (docs/guides/own-events.md)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from consumers.groups.handler import DONE, Effects, Outcome, Park, Retry, Source, StartFrom
from streams.events.custom import is_own_name
from streams.import_paths import ImportRefused, object_at
from streams.redis.groups import OWN_GROUP

__all__ = ["Effects", "Park", "Retry", "Source", "StartFrom", "load_handlers", "reacts_to"]

React = Callable[[Source, Effects], Awaitable[Outcome | None]]
"""Reacts to one event. Returning nothing means that it is done; an exception has it tried again, and parked in the end."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """A function with the event types that it reacts to."""

    react: React
    types: frozenset[str]
    start_from: StartFrom


def reacts_to(*types: str, start_from: StartFrom = StartFrom.NOW) -> Callable[[React], Reaction]:
    """Declares the function below it as a handler of these event types, all of them `custom.…`.

    With `StartFrom.BEGINNING` it first gets the events stored before it was added.
    """
    return lambda react: Reaction(react, frozenset(types), start_from)


class OwnHandler:
    """A custom handler. Its consumer group is named by the setting."""

    def __init__(self, name: str, reaction: Reaction) -> None:
        self.name: Final = OWN_GROUP + name
        self.types: Final = reaction.types
        self.start_from: Final = reaction.start_from
        self._react = reaction.react

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        """Calls the function."""
        return await self._react(source, effects) or DONE


def load_handlers(paths: Mapping[str, str]) -> tuple[OwnHandler, ...]:
    """Imports the handlers; a path is `module:object`.

    Raises:
        ImportRefused: one cannot be imported, is not a function below `@reacts_to(…)`, or reacts to types that are not custom.
    """
    return tuple(OwnHandler(name, _reaction(name, object_at(path), path)) for name, path in paths.items())


def _reaction(name: str, found: object, path: str) -> Reaction:
    if not isinstance(found, Reaction) or not inspect.iscoroutinefunction(found.react):
        raise ImportRefused(
            f"handler {name}: {path} must be an `async def` below `@reacts_to(…)` of consumers.handlers.own"
        )
    if wrong := sorted(type_ for type_ in found.types if not is_own_name(type_)):
        raise ImportRefused(f"handler {name}: {', '.join(wrong)} is not a custom event type (custom.…)")
    return found
