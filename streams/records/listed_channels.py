"""The channels of a tenant that fit a pattern, out of the directory of a log that is only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Final

from streams.channel import Kind
from streams.records.directory import PAGE_MAX, ChannelDirectory, ListedChannel
from streams.redis.stored import StoredLog

_WILD: Final = "*?["


async def listed_channels(log: StoredLog, tenant: str, pattern: str) -> AsyncIterator[ListedChannel]:
    """The channels by kind and name.

    Args:
        log: the log.
        tenant: the tenant.
        pattern: `kind:name`, or a name in any kind; `*` matches any text in either.
    """
    kind_pattern, separator, name_pattern = pattern.rpartition(":")
    directory = ChannelDirectory(log, is_read_only=True)
    for kind in Kind:
        if separator and not fnmatchcase(kind.value, kind_pattern):
            continue
        after: str | None = ""
        while after is not None:
            page = await directory.channels(
                tenant, kind, prefix=_plain_beginning(name_pattern), after=after, limit=PAGE_MAX
            )
            for one in page:
                if fnmatchcase(one.channel.name, name_pattern):
                    yield one
            after = page[-1].channel.name if len(page) == PAGE_MAX else None


def _plain_beginning(pattern: str) -> str:
    """The text before the first wildcard, by which the directory is searched."""
    end = min((pattern.index(letter) for letter in _WILD if letter in pattern), default=len(pattern))
    return pattern[:end]
