"""Effects of one handler on one event, each appended once: the key is derived from handler, channel, event and place."""

from __future__ import annotations

from consumers.faults import Faults
from consumers.groups.handler import Source
from projections.json_value import JsonObject, canonical
from streams.channel import Channel
from streams.envelope import SYSTEM, Actor, Appended, Draft, Guard
from streams.events import CATALOGUE
from streams.redis.log import Log


class KeyedEffects:
    """What `handler.Effects` promises. A new one is made for every attempt, so that places count from 0 again.

    Keys have a slash, which ids chosen by clients cannot have: nobody can use up a handler's key beforehand.
    """

    def __init__(self, log: Log, faults: Faults, handler: str, source: Source) -> None:
        self._log = log
        self._faults = faults
        self._source = source
        self._prefix = f"{handler}/{source.channel.wire}/{source.id}/"
        self._count = 0

    async def append(
        self,
        channel: Channel,
        type_: str,
        payload: JsonObject,
        *,
        actor: Actor = SYSTEM,
        guards: tuple[Guard, ...] = (),
    ) -> Appended:
        """See `handler.Effects.append`."""
        declared = CATALOGUE[type_]
        draft = Draft(
            channel, type_, canonical(payload), actor, declared.lane, declared.version,
            command=f"{self._prefix}{self._count}", correlation=self._source.correlation, causation=self._source.id,
            guards=guards, is_wanted=declared.is_wanted,
        )  # fmt: skip
        self._count += 1
        self._faults.hit("before_append")
        appended = await self._log.append(draft)
        self._faults.hit("after_append")
        return appended
