"""Embeds a hub in your own application: under a path prefix, in its lifespan, with its users (docs/guides/embedding.md)."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from hub.app import VerifierMaker, create_app, make_verifier
from hub.auth.origins import OriginPolicy, origin_policy
from hub.auth.revocations import revoke_subject
from hub.auth.tokens import LAST_SECOND, Principal, TokenPolicy, read_principal
from hub.auth.verifier import Verifier
from hub.config import Settings
from hub.errors import HubError
from hub.limits.edge import Edge
from hub.node.hub import Hub
from hub.protocol.session import ID
from streams.channel import Kind, parse_channel
from streams.envelope import SYSTEM, Actor, Appended
from streams.errors import LogUnavailable

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_NO_REQUEST: Final[Mapping[str, Any]] = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [],
}
"""Replaces the request for a token that was sent on an open socket, in `connection.refresh`."""
_SERVER_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, as the application's own login knows them.

    Attributes:
        user: 1 to 128 of `A-Z a-z 0-9 _ . @ | + ~ -`.
        tenant: 1 to 64 of `A-Z a-z 0-9 _ -`; tenants are isolated from each other.
        grants: channel pattern → actions, as in a token (docs/protocol.md#tokens).
        name: the name shown to others.
        expires_at: Unix seconds at which the socket is closed (4002), so that the client reconnects and is authenticated again;
            None never closes it.
    """

    user: str
    tenant: str
    grants: Mapping[str, Iterable[str]] = field(default_factory=dict)
    name: str | None = None
    expires_at: float | None = None


Authenticate = Callable[[HTTPConnection, str], Awaitable[Identity | None] | Identity | None]
"""Authenticates a caller by the request (headers, cookies, `session`, `state`) and the token sent with it, "" if there is none.

Returning None, or raising an `HTTPException` below 500, refuses (4001). A plain function runs in a thread.
"""


class OwnVerifier:
    """Authenticates a caller by asking the application."""

    fetch_error: str | None = None

    def __init__(self, authenticate: Authenticate, policy: TokenPolicy, origins: OriginPolicy) -> None:
        self._authenticate, self._policy, self._origins = authenticate, policy, origins
        self._is_async = inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(
            getattr(authenticate, "__call__", None)  # noqa: B004 - of an object, whose class has it
        )

    async def verify(self, token: str, now: float, request: Mapping[str, Any] | None = None) -> Principal:
        """Returns the principal of the identity that the application returns.

        Raises:
            HubError: 4001: the application refuses the caller; 4002: the identity has expired; 4003: the page's origin is not
                allowed; 4019: the user was signed out.
            HTTPException: the application failed with a status of 500 or more.
            TypeError: the application returned neither an `Identity` nor None.
            ValueError: the identity is invalid.
        """
        connection = HTTPConnection(dict(_NO_REQUEST if request is None else request))
        self._refuse_foreign_page(connection)
        try:
            identity = await self._ask(connection, token)
        except HTTPException as refused:
            if refused.status_code >= _SERVER_FAULT:
                raise
            identity = None
        if identity is None:
            raise HubError(4001, "the application does not know you; sign in again")
        principal = _principal_of(identity, now, self._policy)
        self._policy.refuse_revoked(principal)
        return principal

    async def _ask(self, connection: HTTPConnection, token: str) -> Identity | None:
        if self._is_async:
            answer = self._authenticate(connection, token)
        else:
            answer = await run_in_threadpool(self._authenticate, connection, token)
        return await answer if inspect.isawaitable(answer) else answer

    def _refuse_foreign_page(self, connection: HTTPConnection) -> None:
        """Refuses pages of origins that are not listed, since a browser sends the application's cookies for any page."""
        headers = dict(connection.headers.raw)
        if not self._origins.allows(headers.get(b"origin"), headers.get(b"host")):
            raise HubError(
                4003, "pages of this origin may not use the hub; its operator can list it in HUB_ALLOWED_ORIGINS"
            )

    def recheck(self, principal: Principal, now: float) -> None:
        """Checks the principal of an open connection again.

        Raises:
            HubError: 4002: expired; 4019: signed out.
        """
        self._policy.recheck(principal, now)

    async def renew(self, now: float) -> None:
        """Does nothing: there are no keys."""

    def is_withdrawn(self, principal: Principal) -> bool:  # noqa: ARG002 - the port's signature
        """Returns False: there are no keys."""
        return False

    async def close(self) -> None:
        """Does nothing: there is no fetch to wait for."""


def _principal_of(identity: Identity, now: float, policy: TokenPolicy) -> Principal:
    """Returns the principal of an identity, which must be as valid as the claims of a token."""
    if not isinstance(identity, Identity):
        raise TypeError(f"authenticate must return a hub.Identity or None, not {type(identity).__name__}")
    claims: dict[str, object] = {
        "sub": identity.user,
        "tenant": identity.tenant,
        "iat": now,
        "exp": LAST_SECOND if identity.expires_at is None else identity.expires_at,
        "grants": {pattern: list(actions) for pattern, actions in identity.grants.items()},
        "name": identity.name,
    }
    try:
        return read_principal(claims, now, policy)
    except HubError as refused:
        if refused.row.name == "token_expired":
            raise
        problems = ", ".join(f"{detail.field} {detail.problem}" for detail in refused.details)
        raise ValueError(f"authenticate returned an identity that cannot be used: {problems}") from refused


class Embedded:
    """A hub in an application, through which the application sends events to its users.

    All methods are called in the application's event loop, while it runs.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app

    @property
    def hub(self) -> Hub:
        """The node's hub.

        Raises:
            LogUnavailable: it is not running: it waits for Redis, or the application's lifespan is not run.
        """
        hub = self._app.state.hub
        if not isinstance(hub, Hub):
            raise LogUnavailable(self._app.state.waits_for or "the hub has stopped with the application")
        return hub

    async def broadcast(
        self, tenant: str, channel: str, type_: str, payload: Mapping[str, Any], *, key: str = "", actor: Actor = SYSTEM
    ) -> Appended:
        """Appends an event to a channel such as `team:blue`; every subscriber on every node receives it.

        Payload, type and kind of channel are checked against the catalogue; files, messages and runs that it
        names must exist. The event counts towards the tenant's quota.

        Args:
            tenant: the channel's tenant.
            channel: `kind:name`.
            type_: the event type.
            payload: the payload as subscribers get it.
            key: idempotency key, 1 to 64 of `A-Z a-z 0-9 _ . : -`: repeating it with the same payload stores nothing. Without one,
                every call stores an event.
            actor: the author that is shown to subscribers.

        Raises:
            InvalidPayload: there is no such type, or not with this payload or in this kind of channel.
            MalformedChannel: the tenant or the channel is malformed.
            HubError: 4004 or 4011: the tenant has reached its quota.
            LogUnavailable: the append was not confirmed; call again with the same key.
        """
        if key and not ID.fullmatch(key):
            raise ValueError("key must be 1 to 64 of A-Z a-z 0-9 _ . : -")
        command = f"app/{key}" if key else None  # ids of clients contain no slash, so the two cannot collide
        return await self.hub.broadcast(parse_channel(tenant, channel), type_, payload, actor, command)

    async def send_to_user(
        self, tenant: str, user: str, type_: str, payload: Mapping[str, Any], *, key: str = "", actor: Actor = SYSTEM
    ) -> Appended:
        """Appends an event to a user's inbox; all their devices receive it, now or after reconnecting.

        Raises:
            InvalidPayload: as in `broadcast`.
            MalformedChannel: as in `broadcast`.
            HubError: as in `broadcast`.
            LogUnavailable: as in `broadcast`.
        """
        return await self.broadcast(tenant, f"{Kind.USER.value}:{user}", type_, payload, key=key, actor=actor)

    async def sign_out(self, tenant: str, user: str) -> None:
        """Closes all connections of a user, on every node within a second. The user may authenticate again.

        Raises:
            LogUnavailable: not confirmed; call again.
        """
        hub = self.hub
        await hub.edge.store.revoke(
            revoke_subject(tenant, user, hub.clock.now(), max_life_s=hub.settings.jwt_max_age_s)
        )


def embed(
    app: Starlette,
    prefix: str = "/rt",
    settings: Settings | None = None,
    *,
    authenticate: Authenticate | None = None,
    waits: bool = True,
) -> Embedded:
    """Mounts a hub in a FastAPI or Starlette application: sockets at `<prefix>/ws`, HTTP at `<prefix>/v1`.

    The hub starts before the application and stops after it. All routes under the prefix belong to the hub, even
    if the application has some there; the application's middleware applies to them.

    Args:
        app: an application that is not serving yet.
        prefix: a path such as `/rt`.
        settings: the node's settings; None reads them from the environment.
        authenticate: authenticates callers, instead of tokens signed with the configured key.
        waits: True starts without Redis and opens the hub once Redis is reachable; False makes startup fail instead.

    Raises:
        ValueError: the prefix is malformed, `HUB_ALLOWED_ORIGINS=*` is combined with `authenticate`, or a setting is invalid.
        RuntimeError: the application is serving already.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("prefix must be a path such as /rt, without a slash at its end")
    if app.middleware_stack is not None:
        raise RuntimeError("embed the hub before the application starts: its lifespan has begun")
    if authenticate is None:
        verifier_of: VerifierMaker = make_verifier
        settings = Settings.for_any_server(os.environ) if settings is None else settings
    else:
        settings = _without_keys(Settings.from_env(os.environ) if settings is None else settings)
        verifier_of = _asking(authenticate)
    hub_app = create_app(settings, waits=waits, verifier_of=verifier_of)
    app.router.routes.insert(0, Mount(prefix, hub_app))  # before any route of the application that matches every path
    _chain_lifespans(app, hub_app)
    return Embedded(hub_app)


def _without_keys(settings: Settings) -> Settings:
    if not origin_policy(settings.allowed_origins, None).allows_all:
        return replace(settings, jwt_secret=None, jwt_public_key=None, jwks_url=None)
    raise ValueError(
        "HUB_ALLOWED_ORIGINS must list the pages where the application authenticates: with * any page could act with its "
        "visitors' cookies"
    )


def _asking(authenticate: Authenticate) -> VerifierMaker:
    def verifier_of(settings: Settings, edge: Edge) -> Verifier:
        origins = origin_policy(settings.allowed_origins, settings.websocket_url)
        return OwnVerifier(authenticate, TokenPolicy(is_revoked=edge.deny.is_revoked), origins)

    return verifier_of


def _chain_lifespans(app: Starlette, hub_app: Starlette) -> None:
    theirs, ours = app.router.lifespan_context, hub_app.router.lifespan_context

    @asynccontextmanager
    async def both(outer: Any) -> AsyncIterator[Any]:
        async with ours(hub_app), theirs(outer) as state:
            yield state

    app.router.lifespan_context = both
