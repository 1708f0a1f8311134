"""Decides where subscriptions start, and reads what their answers contain (docs/protocol.md#channels)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from hub.node.connection import Connection
from hub.node.fanout import Fanout
from hub.ports import NodePort
from hub.protocol.replies import FULL_SCOPE, LIVE_SCOPE, Opening, StateAt
from hub.protocol.subscription import SubscribeRequest
from streams.cursor import LIVE, Gap, Look, Position, Resumable, judge, limit_replay
from streams.redis.sights import Sight

REPLAY_EVENTS_MAX: Final = 1_000_000
"""Maximum events that one resume may replay; more are a gap (`too_far`), since reading them would delay everybody."""


@dataclass(slots=True)
class Decision:
    """The answer to a request: the position to replay from (None: the head), and the gap if it cannot be resumed."""

    sight: Sight
    start: Position | None = None
    gap: Gap | None = None

    @property
    def look(self) -> Look:
        """The channel's head, floor and epoch that the decision is based on."""
        return self.sight.look


class Openings:
    """Reads what the answers to requests contain; for one node."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    def ask(self, connection: Connection, request: SubscribeRequest) -> asyncio.Future[Sight]:
        """Requests everything that the answer to a request without `rewind` needs in one round trip; see `decide_by`."""
        return self._ask(connection, request, _place_of(request))

    async def decide_by(self, request: SubscribeRequest, asked: asyncio.Future[Sight]) -> Decision:
        """Decides how a request starts by what `ask` returned.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        sight = await self._node.log.replay.completed(request.channel, _place_of(request), await asked)
        return self._judge(request, sight)

    def read_now(self, connection: Connection, request: SubscribeRequest, decision: Decision) -> Opening | None:
        """Returns the same as `read`, for a channel whose log did not break off; None if that takes another round trip."""
        if decision.gap is not None:
            return None
        holds_state, state = _holds_state(connection, request), None
        if request.wants_state:
            states = self._node.states
            state = (states.read_live_now if holds_state else states.read_from_now)(request.channel, decision.sight)
            if state is None:
                return None
        return _opening(decision, state, is_live_only=holds_state)

    async def decide(self, connection: Connection, request: SubscribeRequest) -> Decision:
        """Decides how a request starts.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        if request.rewind is not None:
            return await self._rewind(connection, request, request.rewind)
        return self._judge(request, await self._sight(connection, request, _place_of(request)))

    def _judge(self, request: SubscribeRequest, sight: Sight) -> Decision:
        """Decides how a request without `rewind` starts, from a look at its cursor."""
        if request.cursor.after == LIVE:
            return Decision(sight)
        look = sight.look
        verdict = limit_replay(judge(request.cursor, look), look.head, REPLAY_EVENTS_MAX)
        self._node.metrics.resumes += 1
        if isinstance(verdict, Resumable):
            return Decision(sight, verdict.after)
        self._node.metrics.gaps[verdict.reason.value] += 1
        return Decision(sight, gap=verdict)

    def _ask(self, connection: Connection, request: SubscribeRequest, after: str | None) -> asyncio.Future[Sight]:
        channel = request.channel
        reads = self._node.access.key_reads(channel)
        if request.wants_state:
            reads += self._node.states.key_reads(channel, live_only=_holds_state(connection, request))
        return self._node.log.replay.ask(channel, after, reads)

    async def _sight(self, connection: Connection, request: SubscribeRequest, after: str | None) -> Sight:
        """Reads everything that the answer needs in one round trip."""
        sight = await self._ask(connection, request, after)
        return await self._node.log.replay.completed(request.channel, after, sight)

    async def _rewind(self, connection: Connection, request: SubscribeRequest, count: int) -> Decision:
        if not count:
            sight = await self._sight(connection, request, None)
            return Decision(sight, sight.look.head)
        place, left = Position("+", 0), count + 1
        while left and (page := await self._node.log.replay.page_back(request.channel, place.id, left)):
            place, left = Position(page[-1].id.decode(), page[-1].seq), left - len(page)
        sight = await self._sight(connection, request, None)
        return Decision(sight, sight.look.floor if left else place)

    async def read(
        self, connection: Connection, request: SubscribeRequest, fanout: Fanout, decision: Decision
    ) -> Opening:
        """Returns what the answer contains, all of it as of the head named there.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        holds_state = _holds_state(connection, request)
        while True:
            look, moves = decision.look, fanout.move_count
            state = None
            is_live_only = holds_state and decision.gap is None
            if request.wants_state and is_live_only:
                state = await self._node.states.read_live(request.channel, decision.sight)
            elif request.wants_state and not holds_state:
                state = await self._node.states.read_from(request.channel, decision.sight)
            elif request.wants_state or decision.gap:
                state = await self._node.states.read(request.channel, look)
            if fanout.move_count == moves:
                return _opening(decision, state, is_live_only=is_live_only)
            decision = await self.decide(
                connection, request
            )  # the log broke off meanwhile: the decision was about another epoch


def _place_of(request: SubscribeRequest) -> str | None:
    """Returns the id around which the request needs a look at the log; None if it wants future events only."""
    return None if request.cursor.after == LIVE else request.cursor.after


def _opening(decision: Decision, state: StateAt | None, *, is_live_only: bool) -> Opening:
    head, gap = decision.look.head, decision.gap
    if state is None:
        return Opening(decision.look, decision.start or head, head, gap, None)
    if state.position.seq > head.seq:
        head = state.position
    scope = LIVE_SCOPE if is_live_only else FULL_SCOPE
    return Opening(decision.look, decision.start or head, head, gap, state.json, scope)


def _holds_state(connection: Connection, request: SubscribeRequest) -> bool:
    """True if the client resumes with a cursor and still has the state as of that cursor."""
    return connection.holds_state and request.rewind is None and request.cursor.after != LIVE
