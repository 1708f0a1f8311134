"""The sessions of one node and their sockets. Resuming a session closes its old socket, on whichever node that is.

A session id grants no access: a client that resumes has presented a token, and can only close a socket of the same
user.
"""

from __future__ import annotations

import secrets

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.limits.sharing import SessionClaim, SessionClaims
from hub.node.connection import Connection
from hub.protocol.commands import Caller


def new_session_id() -> str:
    """Returns an id that cannot be guessed."""
    return secrets.token_urlsafe(12)


class LiveSessions:
    """The sessions of one node.

    Args:
        claims: reports sessions resumed here to the other nodes.
    """

    def __init__(self, claims: SessionClaims) -> None:
        self._claims = claims
        self._sockets: dict[str, Connection] = {}

    def adopt(self, connection: Connection, caller: Caller, wanted: str | None) -> None:
        """Assigns a session to a socket, closes an older socket of it, and reports a resumed session to the other nodes.

        It is the session `wanted`, unless a socket of another user has it here; in that case, and by default,
        it is a new one.
        """
        principal = caller.principal
        session_id, adopted_at = self._name_for(wanted, principal), self._claims.now()
        connection.established(session_id, caller, adopted_at)
        old = self._sockets.get(session_id)
        if old is not None and old is not connection:
            old.fail(_replaced())
        self._sockets[session_id] = connection
        if wanted is not None:
            self._claims.add(wanted, principal.tenant, principal.user, adopted_at)

    def drop(self, connection: Connection) -> None:
        """Forgets a closed socket."""
        if self._sockets.get(connection.session.id) is connection:
            del self._sockets[connection.session.id]

    def claimed_elsewhere(self, claim: SessionClaim) -> None:
        """Closes the older socket of a session that was resumed on another node, if that socket is here and belongs to the user."""
        old = self._sockets.get(claim.session_id)
        if old is not None and old.adopted_at < claim.at and _is_of(old, claim.tenant, claim.user):
            old.fail(_replaced())

    def _name_for(self, wanted: str | None, principal: Principal) -> str:
        if wanted is None:
            return new_session_id()
        old = self._sockets.get(wanted)
        return wanted if old is None or _is_of(old, principal.tenant, principal.user) else new_session_id()


def _is_of(connection: Connection, tenant: str, user: str) -> bool:
    principal = connection.session.principal
    return (principal.tenant, principal.user) == (tenant, user)


def _replaced() -> HubError:
    return HubError(4020, "a newer socket resumed this session")
