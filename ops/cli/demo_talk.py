"""A short talk in `conversation:demo`, written by `hub dev` once, so that the console's first screen is not empty."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from hub.client import ClientError, HubClient

PLACE: Final = "conversation:demo"
AGENT: Final = "demo"
_LINES: Final = (
    ("bob", "The release goes out on Thursday, if the load test holds."),
    ("alice", "It held last night: 20,000 sockets for an hour, nothing lost."),
    ("bob", "Then the only open question is the deadline for the docs."),
    ("alice", "Let us ask the agent what was said about that."),
)
_QUESTION: Final = ("alice", "what did bob say about the deadline?")
_log = logging.getLogger(__name__)


async def write_demo_talk(socket_url: str, token_of: Callable[[str], str]) -> None:
    """Write the talk where nothing was ever written. Without it the hub works as well, so a failure is logged and no more.

    Args:
        socket_url: of the hub.
        token_of: signs a token for a user.
    """
    try:
        async with (
            HubClient(socket_url, token_of("alice")) as alice,
            HubClient(socket_url, token_of("bob")) as bob,
        ):
            if (await alice.history(PLACE, limit=1)).events or (await alice.state(PLACE)).state.get("count"):
                return
            people = {"alice": alice, "bob": bob}
            for who, text in _LINES:
                await people[who].send(PLACE, text)
            who, text = _QUESTION
            await people[who].send(PLACE, text, agent=AGENT)
    except (ClientError, OSError) as error:
        _log.warning("the talk in %s could not be written: %s", PLACE, error)
