"""What handlers and transports share: clocks, the verifier, limits, the state reader. Made by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hub.auth.tokens import Principal
from hub.limits.admission import Admission
from hub.limits.edge import Edge
from hub.node.states import StateReader
from hub.uploads.requests import UploadRequests

if TYPE_CHECKING:
    from hub.node.connection import Connection


class TokenVerifier(Protocol):
    """Turns a token into who it speaks for."""

    async def verify(self, token: str, now: float) -> Principal:
        """The principal of a valid token.

        Raises:
            HubError: 4001, 4002, 4019.
        """
        ...

    def recheck(self, principal: Principal, now: float) -> None:
        """Whether a live connection may go on.

        Raises:
            HubError: 4002, 4019.
        """
        ...

    @property
    def fetch_error(self) -> str | None:
        """Why keys could not be fetched the last time; None when they could, or need not be."""
        ...


class AgentCard(Protocol):
    """An agent as `agent.list` shows it."""

    @property
    def name(self) -> str:
        """What it is invoked by."""
        ...

    def to_json(self) -> dict[str, object]:
        """Name, description, whether it is available and interactive."""
        ...


class AgentDirectory(Protocol):
    """Which agents are served by some worker now."""

    async def is_available(self, name: str) -> bool:
        """Whether a worker serves it."""
        ...

    async def cards(self) -> Sequence[AgentCard]:
        """All that are known."""
        ...


class NoAgents:
    """The directory of a node without workers."""

    async def is_available(self, name: str) -> bool:  # noqa: ARG002  # the port's signature
        """Never."""
        return False

    async def cards(self) -> Sequence[AgentCard]:
        """None."""
        return ()


@dataclass(slots=True)
class Services:
    """One node's parts.

    Attributes:
        edge: limits, quotas and revocations, shared with the other nodes.
        door: who may come in, by them.
        now: unix seconds.
        uploads: authorises uploads; None on a node that takes no files.
        take_binary: hands a binary message to the uploads; false where the client may send none.
        uploads_closed: told of each socket that is gone.
    """

    node: str
    verifier: TokenVerifier
    edge: Edge
    door: Admission
    states: StateReader
    now: Callable[[], float] = time.time
    agents: AgentDirectory = field(default_factory=NoAgents)
    uploads: UploadRequests | None = None
    take_binary: Callable[[Connection, bytes], bool] = field(default=lambda _connection, _data: False)
    uploads_closed: Callable[[Connection], None] = field(default=lambda _connection: None)
