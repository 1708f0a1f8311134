"""Processes one event from reading to acknowledgement: attempts, delays, parking, and effects that are appended once.

`streams.redis.groups` reads and acknowledges; the group reader decides which worker processes an event, and in which order.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field

from consumers.faults import Faults
from consumers.groups.handler import (
    Done,
    Effects,
    EventHandler,
    FailureContext,
    Outcome,
    Park,
    Retry,
    RetryPolicy,
    Source,
)
from consumers.metrics import WorkerMetrics
from projections.errors import BrokenEvent
from projections.recorded import recorded
from streams.channel import channel_from_path
from streams.errors import CommandRefused, LogUnavailable
from streams.events.custom import ANY_OWN, OwnEvents
from streams.events.validation import InvalidPayload
from streams.log_context import CURRENT
from streams.redis.groups import GroupLost, Groups, Work
from streams.redis.log import Log
from streams.tracing import Tracing

UNAVAILABLE_DELAY_S = 0.25
"""Delay between attempts while Redis is unreachable; such an attempt does not count."""
REFUSED_DELAY_S = 5.0
"""Delay between attempts while Redis refuses a command of the delivery itself, which an operator has to fix."""
CHANNELS_MAX = 64
"""Maximum number of events handled concurrently. More would only queue at Redis, because handlers wait for Redis and use little
CPU.
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Processes the work of one handler."""

    log: Log
    groups: Groups
    handler: EventHandler
    policy: RetryPolicy
    faults: Faults
    metrics: WorkerMetrics
    own_events: OwnEvents = ANY_OWN
    tracing: Tracing | None = None
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHANNELS_MAX))

    async def settle(self, work: Work, token: int, consumer: str) -> bool:
        """Process an event until it is done or parked. False if another worker has taken over the partition.

        A command that Redis refuses is repeated, too: continuing with the next event would skip this one.

        If cancelled at any await, the work stays pending, and the partition's next worker repeats it.
        """
        CURRENT.set((work,))
        attempt: int | None = work.attempts or None
        while True:
            try:
                if attempt is None:
                    attempt = await self.groups.count_attempt(work.partition, self.handler.name, consumer, work.id)
                outcome = await self._decide(work, attempt)
                self.metrics.handled[self.handler.name, type(outcome).__name__.lower()] += 1
                if not isinstance(outcome, Retry):
                    return await self._carry_out(work, token, attempt, outcome)
                await asyncio.sleep(outcome.after_s or 0)
                attempt = None
            except (LogUnavailable, GroupLost):
                await asyncio.sleep(UNAVAILABLE_DELAY_S * random.uniform(0.5, 1))
            except CommandRefused as error:
                _log.error(
                    "%s cannot continue in this channel: %s", self.handler.name, error, extra={"channel": work.path}
                )
                await asyncio.sleep(REFUSED_DELAY_S)

    async def _carry_out(self, work: Work, token: int, attempt: int, outcome: Done | Park) -> bool:
        if isinstance(outcome, Park):
            _log.error("parked %s: %s", work.type, outcome.reason, extra={"channel": work.path, "event": work.event})
            self.faults.hit("before_park")
            parked = await self.groups.park(work, self.handler.name, token, outcome.reason[:2000], attempt)
            self.faults.hit("after_park")
            return parked is not None
        self.faults.hit("before_ack")
        is_ours = await self.groups.ack(work.partition, self.handler.name, token, [work.id])
        self.faults.hit("after_ack")
        return is_ours

    async def _decide(self, work: Work, attempt: int) -> Outcome:
        if attempt > self.policy.attempts_max:
            return Park(f"given up after {attempt - 1} attempts, none of which finished")
        async with self.slots:  # not held while waiting for a retry: many failing channels must not block the others
            outcome = await self._attempt(work)
        if isinstance(outcome, Retry):
            return self.policy.decide(FailureContext(attempt, outcome.reason), random.random(), outcome.after_s)
        return outcome

    async def _attempt(self, work: Work) -> Outcome:
        channel, span = channel_from_path(work.path), None
        try:
            entry = await self.log.entry(channel, work.event)
            if entry is None:
                return Park("the event was trimmed from the stream before this handler reached it")
            self.faults.hit("before_handle")
            source = Source(channel, recorded(entry))
            CURRENT.set((work, source))
            if self.tracing is not None:
                span = self.tracing.follow(
                    f"handle {work.type}", source.traceparent, {"hub.handler": self.handler.name}
                )
            traceparent = None if span is None else span.traceparent
            effects = Effects(self.log, self.faults, self.handler.name, source, self.own_events, traceparent)
            return await self.handler.handle(source, effects)
        except (LogUnavailable, OSError) as error:
            raise LogUnavailable(str(error)) from error
        except BrokenEvent as error:
            return Park(str(error))
        except InvalidPayload as error:
            return Park(f"what the handler appended does not match the catalogue: {error}")
        except Exception as error:
            _log.warning("handler %s failed on %s", self.handler.name, work.type, exc_info=True)
            return Retry(f"{type(error).__name__}: {error}")
        finally:
            if span is not None:
                span.end()
