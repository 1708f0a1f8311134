"""Which socket of this node has which session: resuming takes it over, and the old socket is fenced, wherever it hangs.

A session's name opens nothing: who resumes has shown a token, and only a socket of the same person is fenced by it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from hub.auth.session_claims import ClaimBook, SessionClaim
from hub.auth.tokens import Principal
from hub.errors import HubError

if TYPE_CHECKING:
    from hub.node.connection import Connection


def new_session_id() -> str:
    """A name nobody guesses."""
    return secrets.token_urlsafe(12)


class LiveSessions:
    """The sessions of one node.

    Args:
        claims: how other nodes are told.
    """

    def __init__(self, claims: ClaimBook) -> None:
        self._claims = claims
        self._sockets: dict[str, Connection] = {}

    def name_for(self, wanted: str | None, principal: Principal) -> str:
        """The session a socket may have: the one it wants, unless that is somebody else's here; else a new one."""
        if wanted is None:
            return new_session_id()
        old = self._sockets.get(wanted)
        return wanted if old is None or _is_of(old, principal.tenant, principal.user) else new_session_id()

    def adopt(self, connection: Connection, wanted: str | None) -> None:
        """An established socket takes its session over; other nodes are told when it wanted one from before."""
        session, principal = connection.session, connection.session.principal
        old = self._sockets.get(session.id)
        if old is not None and old is not connection:
            old.fail(_replaced())
        self._sockets[session.id] = connection
        connection.adopted_at = self._claims.now()
        if wanted is not None:
            self._claims.add(wanted, principal.tenant, principal.user, connection.adopted_at)

    def drop(self, connection: Connection) -> None:
        """A socket is gone."""
        if self._sockets.get(connection.session.id) is connection:
            del self._sockets[connection.session.id]

    def claimed_elsewhere(self, claim: SessionClaim) -> None:
        """A session was resumed on another node: its older socket, if it hangs here and is the same person's, is fenced."""
        old = self._sockets.get(claim.session_id)
        if old is not None and old.adopted_at < claim.at and _is_of(old, claim.tenant, claim.user):
            old.fail(_replaced())


def _is_of(connection: Connection, tenant: str, user: str) -> bool:
    principal = connection.session.principal
    return (principal.tenant, principal.user) == (tenant, user)


def _replaced() -> HubError:
    return HubError(4020, "a newer socket resumed this session")
