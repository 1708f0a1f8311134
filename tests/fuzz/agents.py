"""Agents for fuzzing: whoever is named is there, so that commands about runs get as far as the log."""

from __future__ import annotations

from collections.abc import Sequence

from hub.ports import AgentCard


class EveryAgent:
    """A directory that knows everybody."""

    async def is_available(self, name: str) -> bool:
        """Always."""
        return bool(name)

    async def cards(self) -> Sequence[AgentCard]:
        """None that could be listed."""
        return ()
