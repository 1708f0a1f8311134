"""The access lists of channels, which restrict what tokens allow (docs/protocol.md#tokens), cached on one node.

A list is cached for a second, so that most commands need not wait for it, and read again when it is next needed. A
change that was stored through this node, or in a channel with a subscriber here, applies at once; the list that such a
channel's subscription began with is cached until the last one ends.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Final

from hub.auth.permissions import Lists, refuse_unlisted
from hub.auth.tokens import Principal
from hub.ports import ClientConnection, Clock, Handler
from hub.protocol.commands import Command, Outcome
from streams.channel import Channel, Kind
from streams.records.settings import LISTED_ACTIONS, SettingsRecords, access_lists
from streams.redis.log import Log
from streams.redis.sights import KeyRead, Sight

_NO_LISTS: Final[Lists] = {}
_UNLISTED: Final = (_NO_LISTS, math.inf)
"""The entry of a followed channel without lists, which nearly all are."""
_WITHOUT_LISTS: Final = frozenset({Kind.USER, Kind.SYSTEM})
FRESH_S: Final = 1.0
"""Seconds for which a list is cached. Less reads Redis more often; more delays a change in channels without a subscriber here."""
CHANNELS_MAX: Final = 4_096
"""Maximum channels whose lists are cached. A list has up to 1,000 names per action; most channels have none."""
NAMES_MAX: Final = 100_000
"""Maximum names in all cached lists together, about 10 MB."""


class ChannelAccess:
    """Reads and caches the access lists of channels.

    A caller that reads a channel anyway can read its lists in the same round trip: it adds `key_reads` to the
    read, and passes the result, a `Sight`, to `learn`.

    Attributes:
        change_count: number of calls of `forget` so far, for any channel.
    """

    def __init__(self, log: Log, clock: Clock) -> None:
        self._records = SettingsRecords(log)
        self._clock = clock
        self._held: OrderedDict[Channel, tuple[Lists, float]] = OrderedDict()
        self._names = 0
        self.change_count = 0

    def known(self, channel: Channel) -> Lists | None:
        """Returns the cached lists of a channel, by action; None if they must be read."""
        if channel.kind in _WITHOUT_LISTS:
            return _NO_LISTS
        held = self._held.get(channel)
        return held[0] if held is not None and self._clock.monotonic() < held[1] else None

    def key_reads(self, channel: Channel) -> tuple[KeyRead, ...]:
        """Returns the reads to add to a `Sight` of the channel; `learn` processes the answers."""
        return () if channel.kind in _WITHOUT_LISTS else (self._records.access_read(channel),)

    def learn(self, channel: Channel, sight: Sight, as_of: int) -> Lists:
        """Returns the lists that a followed channel's `Sight` read first; caches them unless any has changed since the request.

        Args:
            channel: a channel of any kind, whose tail reports every change after the sight; `unfollowed` ends that.
            sight: a read of the channel that includes its `key_reads`.
            as_of: `change_count` when the sight was requested.
        """
        if channel.kind in _WITHOUT_LISTS:
            return _NO_LISTS
        lists = access_lists(sight.answers[0]) or _NO_LISTS
        if as_of == self.change_count:
            self._keep(channel, lists, math.inf)
        return lists

    def unfollowed(self, channel: Channel) -> None:
        """Drops the cached lists of a channel whose changes are not reported any more."""
        self._drop(channel)

    def refuse(self, lists: Lists, principal: Principal, action: str) -> None:
        """Refuses a user who is not on the list of an action.

        Raises:
            HubError: 4003.
        """
        _refuse_unlisted(lists, principal, action)

    async def lists(self, channel: Channel) -> Lists:
        """Returns the channel's lists, by action.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        found, as_of = self.known(channel), self.change_count
        if found is None:
            found = await self._records.access(channel)
            if as_of == self.change_count:  # otherwise it may be older than the change, which would then not apply
                self._keep(channel, found, self._clock.monotonic() + FRESH_S)
        return found

    def decide(
        self, handler: Handler, command: Command, connection: ClientConnection | None
    ) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Calls a command's handler if the channel's lists allow the command.

        Raises:
            HubError: 4003, or the handler's refusal.
        """
        channel, action = command.channel, command.event.action
        if channel is not None and action in LISTED_ACTIONS:
            lists = self.known(channel)
            if lists is None:
                return self._decide_when_read(channel, handler, command, connection)
            if lists:
                _refuse_unlisted(lists, command.caller.principal, action)
        return handler(command, connection)

    async def _decide_when_read(
        self, channel: Channel, handler: Handler, command: Command, connection: ClientConnection | None
    ) -> Outcome:
        await self.require(channel, command.caller.principal, command.event.action or "")
        answer = handler(command, connection)
        return await answer if inspect.isawaitable(answer) else answer

    async def require(self, channel: Channel, principal: Principal, action: str) -> None:
        """Refuses a user who is not on the list of an action.

        Raises:
            HubError: 4003.
            LogUnavailable: Redis is unreachable.
        """
        _refuse_unlisted(await self.lists(channel), principal, action)

    def forget(self, channel: Channel) -> None:
        """Drops the cached lists of a channel, because they may have changed."""
        self.change_count += 1
        self._drop(channel)

    def _drop(self, channel: Channel) -> None:
        if (held := self._held.pop(channel, None)) is not None:
            self._names -= _size(held[0])

    def _keep(self, channel: Channel, lists: Lists, until: float) -> None:
        self._drop(channel)
        self._held[channel] = (lists, until) if lists or until != math.inf else _UNLISTED
        self._names += _size(lists)
        while len(self._held) > CHANNELS_MAX or (self._names > NAMES_MAX and len(self._held) > 1):
            self._drop(next(iter(self._held)))


def _refuse_unlisted(lists: Lists, principal: Principal, action: str) -> None:
    if action != "read" or not principal.grants.reads_all:
        refuse_unlisted(lists, principal.user, action)


def _size(lists: Lists) -> int:
    return sum(map(len, lists.values()))
