"""The HTTP API, on the same commands and log as the socket: append, history, long polls, state and presence.

docs/protocol.md#http describes it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from hub.auth.revocations import read_revocation
from hub.errors import HubError
from hub.handlers.history import HistoryQuery, Page, read_history
from hub.http.requests import ChannelPath, caller_of, limit, read_body, readable_channel, traceparent_of
from hub.http.sse import event_id, open_stream
from hub.node.hub import Hub
from hub.protocol.commands import LEAF, Append, Caller, Command, Reply
from hub.protocol.replies import stored_payload
from hub.protocol.session import ID, ClientMessage, check_command, known_event, read_values
from hub.protocol.subscription import SubscribeRequest
from streams.channel import Channel
from streams.cursor import LIVE, Cursor
from streams.envelope import Lane
from streams.events import CATALOGUE
from streams.events.channels import ChannelHistory
from streams.events.validation import InvalidPayload, validate
from streams.redis.replay import PAGE_BYTES, PAGE_EVENTS
from streams.times import rfc3339

router = APIRouter()
IdempotencyKey = Annotated[
    str | None, Header(description="the command's id: the same request again is answered as before, and stored once")
]
WantsLeaf = Annotated[bool, Query(description="answer with the event's leaf, too")]
MAX_WAIT_MS = 30_000


async def _command(request: Request, hub: Hub, channel: str, caller: Caller, key: str | None) -> Command:
    data = await read_body(request, hub.settings.message_size_limit_bytes)
    body = read_values(data)[0] if data.lstrip()[:1] == b"{" else None
    if not isinstance(body, dict) or set(body) - {"type", "payload"}:
        raise HubError(4005, "send an object with type and payload")
    kind, payload = body.get("type"), body.get("payload", {})
    if not isinstance(kind, str) or not isinstance(payload, dict):
        raise HubError(4005, "type must be a string and payload an object")
    if key is not None and not ID.fullmatch(key):
        raise HubError(4005, "Idempotency-Key must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    event = known_event(kind, hub.own_events)
    if event.lane is Lane.CONNECTION or not event.kinds:
        raise HubError(4005, f"{kind} can only be sent over a WebSocket")
    limit(hub, caller, event.rate)
    message = ClientMessage(kind, key, channel, payload, traceparent=traceparent_of(request))
    return check_command(event, message, caller)


@router.post("/v1/channels/{channel}/events", status_code=201)
async def append(
    request: Request,
    channel: ChannelPath,
    idempotency_key: IdempotencyKey = None,
    leaf: WantsLeaf = False,
) -> Response:
    """Appends an event. Repeating a request with the same key and body returns the same answer and stores nothing."""
    hub, caller = await caller_of(request)
    caller = caller._replace(capabilities=frozenset({LEAF})) if leaf else caller
    command = await _command(request, hub, channel, caller, idempotency_key)
    outcome, appended = await hub.execute(command)
    if isinstance(outcome, Append) and appended is not None:
        body = stored_payload(command.event, outcome, appended)
        return Response(body, 200 if appended.is_duplicate else 201, media_type="application/json")
    body = outcome.data if isinstance(outcome, Reply) else b"{}"
    is_new = command.event.is_stored and json.loads(body).get("duplicate") is False  # stored by this request
    return Response(body, 201 if is_new else 200, media_type="application/json")


def _query(**given: Any) -> HistoryQuery:
    payload = {name: value for name, value in given.items() if value is not None}
    try:
        value, _ = validate(CATALOGUE["channel.history"], payload)
    except InvalidPayload as error:
        raise HubError(4005, "; ".join(f"{p.field} {p.problem}" for p in error.problems)) from None
    assert isinstance(value, ChannelHistory)  # noqa: S101 - what the catalogue declares for this type
    return HistoryQuery.of(value)


@router.get("/v1/channels/{channel}/events")
async def events(
    request: Request,
    channel: ChannelPath,
    after: Annotated[str | None, Query(description="only events behind this id; `0` is the beginning")] = None,
    before: Annotated[str | None, Query(description="only events before this id, the newest of them")] = None,
    from_time: Annotated[str | None, Query(description="only events since this RFC 3339 time")] = None,
    to_time: Annotated[str | None, Query(description="only events up to this RFC 3339 time")] = None,
    types: Annotated[str | None, Query(description="comma-separated; a trailing * matches any ending")] = None,
    actor: Annotated[str, Query(max_length=128, description="only events whose actor's id has this part")] = "",
    text: Annotated[str, Query(max_length=256, description="only events whose payload, as JSON, has this part")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="most events of the page")] = 100,
    wait_ms: Annotated[int, Query(ge=0, le=MAX_WAIT_MS, description="how long to wait for a first event")] = 0,
) -> Response:
    """Returns a page of events, from Redis and the archive. A search for types, an actor or a text may end early; `next` goes on.

    With `wait_ms` and `after` it waits for the first event if there is none yet.
    """
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    wanted = types.split(",") if types else None
    query = _query(after=after, before=before, from_time=from_time, to_time=to_time, types=wanted, limit=limit)
    query = replace(query, actor=actor, text=text)
    page = await read_history(hub.log.replay, place, query)
    if wait_ms and _is_empty(page):
        page = await _wait(hub, caller, place, query, wait_ms / 1000)
    hub.charge(caller.principal, "history", page.excess)
    return Response(page.to_json(place), media_type="application/json")


async def _wait(hub: Hub, caller: Caller, place: Channel, query: HistoryQuery, timeout_s: float) -> Page:
    """Waits until the page has an event, and after `timeout_s` returns it as it is.

    The page is read once the subscription is in place, so that no event is missed in between, and again for each
    event that arrives, since that may not be of a requested type.
    """
    deadline, is_due, page = hub.clock.monotonic() + timeout_s, True, Page([], None, None)
    async with open_stream(hub, caller, SubscribeRequest(place, Cursor(LIVE), wants_state=False)) as transport:
        while (left_s := deadline - hub.clock.monotonic()) > 0 and _is_empty(page):
            messages = await transport.messages(left_s)
            if messages is None:
                break
            if messages and (is_due or any(map(event_id, messages))):
                page, is_due = await read_history(hub.log.replay, place, query), False
    return page


def _is_empty(page: Page) -> bool:
    """True if there is no event, no gap to report, and nothing left to search."""
    return not page.events and page.gap is None and page.next is None


@router.get("/v1/channels/{channel}/state")
async def state(
    request: Request,
    channel: ChannelPath,
    at: Annotated[str | None, Query(description="an event's id, or an RFC 3339 time; now if left out")] = None,
) -> Response:
    """Returns the channel's state, now or as of an event id or an RFC 3339 time."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    look = await hub.log.look(place)
    found = await (hub.states.read(place, look) if at is None else hub.states.read_at(place, at))
    read = found.position.seq / PAGE_EVENTS if at is not None else 0.0
    hub.charge(caller.principal, "history", max(read, len(found.json) / PAGE_BYTES))
    head = json.dumps({"epoch": look.epoch, "state_at": found.position.seq}).encode()
    return Response(b'%b,"state":%b}' % (head[:-1], found.json), media_type="application/json")


@router.get("/v1/channels/{channel}/presence")
async def presence(request: Request, channel: ChannelPath) -> dict[str, Any]:
    """Lists the users present in the channel."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    people = await hub.presence.store.people(place, round(hub.clock.now() * 1000))
    return {"presence_count": people} if isinstance(people, int) else {"presence": [p._asdict() for p in people]}


@router.post("/v1/users/{user}/events", status_code=201)
async def send_to_user(
    request: Request,
    user: Annotated[str, Path(description="the user")],
    idempotency_key: IdempotencyKey = None,
    leaf: WantsLeaf = False,
) -> Response:
    """Appends an event to a user's inbox; the token must grant `manage` on `user:*`."""
    _, caller = await caller_of(request)
    if not caller.principal.grants.covers("user:*", "manage"):
        raise HubError(4003, "your token does not grant `manage` on user:*")
    return await append(request, f"user:{user}", idempotency_key, leaf)


@router.post("/v1/revocations", status_code=201)
async def revoke(request: Request) -> dict[str, Any]:
    """Revokes a token by its `jti`, or all tokens of a user issued so far by `sub`; the token must grant `*` on `*`."""
    hub, caller = await caller_of(request)
    limit(hub, caller, "command")
    body = await read_body(request, hub.settings.message_size_limit_bytes)
    now = hub.clock.now()
    revocation = read_revocation(body, caller.principal, now, max_life_s=hub.settings.jwt_max_age_s)
    await hub.edge.store.revoke(revocation)
    field = "jti" if revocation.jti is not None else "sub"
    return {field: revocation.jti or revocation.user, "before": rfc3339(round(revocation.before * 1000))}
