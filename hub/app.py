"""The composition root of one node: builds the log, the hub and its routes from the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware

from hub.audits import verify_channel
from hub.auth.origins import HostPolicy, host_policy, origin_policy
from hub.auth.tokens import TokenPolicy
from hub.auth.verifier import Verifier, open_verifier
from hub.config import Settings
from hub.extensions import Extensions, load_extensions
from hub.http import api as http
from hub.http import channel_list, connections, inspection, local_store, proofs, rollout, service, sse
from hub.http.middleware import (
    REFUSAL,
    AdminPort,
    DefaultHeaders,
    HostCheck,
    OneLinePaths,
    PathPrefix,
    RequestTimes,
    admin_only,
)
from hub.http.problems import install_problems
from hub.http.service import Documents
from hub.http.siblings import Siblings
from hub.limits.admission import Admission
from hub.limits.edge import Edge, make_edge
from hub.limits.quotas import Quotas
from hub.limits.slices import Slices
from hub.node.foreign_pages import ForeignPages
from hub.node.hub import Hub, NodeClock, NodeParts
from hub.node.states import StateReader
from hub.rollout import FeatureFlags
from hub.sockets import ReceiverFactory, SocketReceiver, Upgrade, UpgradeRefused
from hub.storage.choice import open_seals, open_store, reading_archive
from hub.uploads.limits import limits_of
from hub.uploads.requests import UploadRequests
from hub.websocket.asgi import serve_websocket
from streams.archive.objects import ArchiveObjects
from streams.errors import LogUnavailable
from streams.loops import until_reachable
from streams.records.agents import AgentDirectory
from streams.redis.keys import DEFAULT_LIMITS
from streams.redis.log import Log
from streams.tracing import open_tracing

_log: Final = logging.getLogger(__name__)
SOCKET_PATH: Final = "/ws"
UNLIMITED_TIMES: Final = 10
"""Factor by which more command ids are remembered without rate limits: 400,000 in 10 minutes, 70 MB in a partition."""
NOT_BEGUN: Final = "the hub has not started: the server must run the application's lifespan (uvicorn --lifespan on)"
_PAGE_METHODS: Final = ("GET", "HEAD", "POST", "PUT")
_NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own spans would be recorded of every request, whatever HUB_TRACING says; our own are in docs/guides/tracing.md."""
_API_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "traceparent")
_S3_HEADERS: Final = [
    "Content-MD5",
    "If-None-Match",
    "Range",
    "X-Amz-Checksum-SHA256",
    "X-Amz-Content-SHA256",
    "X-Amz-Date",
]
"""Headers that pages may send to the API and to the local store, which accepts the same ones as S3. No wildcard: browsers compare
the names, and `*` leaves `Authorization` out (Fetch, "CORS-preflight fetch")."""
_PAGE_READS: Final = ("Retry-After", "ETag", "Content-Disposition", "Content-Range", "Accept-Ranges")


def make_verifier(settings: Settings, edge: Edge) -> Verifier:
    """Builds the token verifier for the one configured source of keys."""
    policy = TokenPolicy(
        settings.jwt_audience, settings.jwt_issuer, max_age_s=settings.jwt_max_age_s, is_revoked=edge.deny.is_revoked
    )
    return open_verifier(
        policy, secret=settings.jwt_secret, public_key=settings.jwt_public_key, jwks_url=settings.jwks_url
    )


VerifierMaker = Callable[[Settings, Edge], Verifier]


@asynccontextmanager
async def open_hub(
    settings: Settings, verifier_of: VerifierMaker = make_verifier, extensions: Extensions | None = None
) -> AsyncIterator[Hub]:
    """Opens the hub of a node together with its log, and closes both on exit. Without `extensions` it loads them.

    Raises:
        LogUnavailable: Redis is unreachable.
        SchemasRefused, ImportRefused: a custom event type or projection cannot be used.
        ConfigurationRefused: Redis is configured in a way the hub must not run on.
    """
    if settings.redis_url is None:
        raise ValueError("a node needs REDIS_URL; `hub dev` starts a Redis of its own")
    extensions = load_extensions(settings) if extensions is None else extensions
    limits = DEFAULT_LIMITS
    if settings.rate_limits is None:  # nothing else bounds the ids of a window: leave room for a load test
        limits = replace(limits, idempotency_entries=limits.idempotency_entries * UNLIMITED_TIMES)
    async with reading_archive(settings) as (archive, cold):
        log = await Log.open(
            settings.redis_url,
            partitions=settings.partitions,
            durability=settings.durability,
            limits=limits,
            cold=cold,
            seals=open_seals(settings, extensions.events),
        )
        try:
            edge = make_edge(
                settings.redis_url,
                f"n-{secrets.token_hex(4)}",
                rates=settings.rates,
                quota=settings.quota,
                loops=log.loops,
            )
            uploads = make_uploads(settings, log, edge.quotas)
            verifier = verifier_of(settings, edge)
            try:
                hub = Hub(settings, log, make_parts(settings, log, edge, verifier, uploads, extensions, archive))
                edge.store.listen(hub.revoked, hub.sessions.claimed_elsewhere)
                await edge.store.start()
                await hub.start()
                try:
                    yield hub
                finally:
                    await hub.stop()
            finally:
                await edge.store.close()
                await verifier.close()
                await uploads.close()
        finally:
            await log.close()


def make_uploads(settings: Settings, log: Log, quotas: Quotas) -> UploadRequests:
    """Builds the upload service of a node."""
    return UploadRequests(log, open_store(settings), limits_of(settings), time.time, time.monotonic, quotas)


def make_parts(
    settings: Settings,
    log: Log,
    edge: Edge,
    verifier: Verifier,
    uploads: UploadRequests,
    extensions: Extensions,
    archive: ArchiveObjects | None,
) -> NodeParts:
    """Builds the parts that make up a node's hub."""
    origins = origin_policy(settings.allowed_origins, settings.websocket_url)
    slices = Slices(lambda: log.appended_count + log.found_count)
    return NodeParts(
        edge=edge,
        verifier=verifier,
        admission=Admission(edge.connects, edge.quotas, origins, time.monotonic, settings.trusted_proxies),
        states=StateReader(log, slices, extensions.projections),
        agents=AgentDirectory(log),
        uploads=uploads,
        clock=NodeClock(),
        flags=FeatureFlags(edge.node, extensions.rollout_provider),
        own_events=extensions.events,
        tracing=open_tracing(settings.traced_share),
        archive=archive,
        verify=partial(verify_channel, settings),
        slices=slices,
    )


def make_host_policy(settings: Settings) -> HostPolicy:
    """Builds the policy for `Host` headers.

    With the development secret every request is checked, not only the console's: a page that could read answers
    could sign tokens of its own.
    """
    urls = [settings.websocket_url or "", *settings.allowed_origins]
    is_for_all = settings.has_dev_secret or bool(settings.allowed_hosts)
    return host_policy({settings.host, *settings.allowed_hosts}, urls, is_for_all=is_for_all)


def receiver_factory(
    hub_now: Callable[[], Hub | None], hosts: HostPolicy, path_prefix: str = "", admin_port: int | None = None
) -> ReceiverFactory:
    """Returns the function that accepts or refuses each WebSocket upgrade.

    An unknown path, or any on the port for operators, is answered 404, a stopping node 503 and a foreign `Host` 403.
    A page of a foreign origin is accepted and then refused with a message it can read.
    """
    foreign = ForeignPages(time.monotonic)

    def make(upgrade: Upgrade) -> SocketReceiver:
        hub = hub_now()
        if admin_port is not None and upgrade.port == admin_port:
            raise UpgradeRefused(404, admin_only(admin_port))
        if upgrade.path.removeprefix(path_prefix) != SOCKET_PATH:
            raise UpgradeRefused(404, f"WebSockets are served at {SOCKET_PATH}")
        if hub is None or hub.is_draining:
            raise UpgradeRefused(503, "the node is not ready; try another one")
        if hosts.is_for_all and not hosts.allows(upgrade.headers.get(b"host")):
            raise UpgradeRefused(403, REFUSAL)
        origin = upgrade.headers.get(b"origin")
        if not hub.admission.origins.allows(origin, upgrade.headers.get(b"host")):
            return foreign.refuse(origin or b"")
        return hub.connect()

    return make


def allow_pages(app: FastAPI, settings: Settings) -> None:
    """Lets pages of HUB_ALLOWED_ORIGINS read answers (CORS).

    By default only the hub's own pages can. There are no cookies.
    """
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(settings.allowed_origins),
            allow_methods=_PAGE_METHODS,
            allow_headers=(*_API_HEADERS, *_S3_HEADERS),
            expose_headers=_PAGE_READS,
            max_age=600,
        )


def make_lifespan(
    settings: Settings, waits: bool, verifier_of: VerifierMaker
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Builds the lifespan of the application: opens the hub before the first request, or as soon as Redis is reachable.

    Until then the node answers health checks only, because it cannot know which tokens are revoked.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        extensions = load_extensions(settings)  # once, however often Redis is tried
        async with AsyncExitStack() as opened:

            async def open_now() -> None:
                hub = await opened.enter_async_context(open_hub(settings, verifier_of, extensions))
                app.state.hub = hub
                app.state.local_store = hub.uploads and hub.uploads.store

            async def open_later() -> None:
                try:
                    await until_reachable(open_now, is_refusal_final=False)
                except Exception:
                    app.state.waits_for = "the node cannot start; its log has the reason"
                    _log.exception("the node cannot start")

            opening: asyncio.Task[None] | None = None
            app.state.waits_for = None
            try:
                try:
                    await open_now()
                except LogUnavailable as error:
                    if not waits:
                        raise
                    app.state.waits_for = f"waiting for Redis: {error}"
                    opening = asyncio.create_task(open_later(), name="opening")
                yield
            finally:
                app.state.hub = None
                if opening is not None:
                    opening.cancel()
                    await asyncio.gather(opening, return_exceptions=True)

    return lifespan


def create_app(
    settings: Settings | None = None,
    *,
    waits: bool = True,
    verifier_of: VerifierMaker = make_verifier,
    siblings: Siblings | None = None,
) -> FastAPI:
    """Returns the node as an ASGI application; settings come from the environment unless given.

    For any ASGI server (`uvicorn hub.app:create_app --factory`). `hub serve` runs it with sockets that cost far
    less; `hub.embed` puts it into another application.

    Args:
        settings: the node's settings.
        waits: True starts without Redis and opens the hub once Redis is reachable; False makes startup fail instead.
        verifier_of: builds the verifier of callers; by default one for tokens signed with the configured key.
        siblings: the processes that share the port, if there are any.
    """
    settings = Settings.for_any_server(os.environ) if settings is None else settings

    app = FastAPI(
        title="Realtime hub",
        version="1",
        lifespan=make_lifespan(settings, waits, verifier_of),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    hosts = make_host_policy(settings)
    app.state.hub, app.state.waits_for, app.state.siblings = None, NOT_BEGUN, siblings
    app.state.make_receiver = receiver_factory(lambda: app.state.hub, hosts, settings.path_prefix, settings.admin_port)
    app.state.documents = Documents(app, settings.websocket_url)
    install_problems(app)
    app.add_middleware(RequestTimes)
    app.add_middleware(DefaultHeaders)
    allow_pages(app, settings)
    app.add_middleware(HostCheck, policy=hosts)
    if settings.admin_port is not None:
        app.add_middleware(AdminPort, port=settings.admin_port)
    if settings.path_prefix:
        app.add_middleware(PathPrefix, prefix=settings.path_prefix)
    app.add_middleware(OneLinePaths)
    app.include_router(http.router)
    app.include_router(channel_list.router)
    app.include_router(sse.router)
    app.include_router(connections.router)
    app.include_router(inspection.router)
    app.include_router(proofs.router)
    app.include_router(rollout.router)
    app.include_router(service.router)
    app.include_router(local_store.router)

    @app.websocket(SOCKET_PATH)
    async def socket(websocket: WebSocket) -> None:
        await serve_websocket(websocket, app.state.make_receiver, settings.message_size_limit_bytes)

    return app
