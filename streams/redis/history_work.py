"""History as work: the events from before a handler was there, put on its work stream once, behind nobody's back.

It adds entries for one group only, so the other handlers pass them over. Interrupted, it begins anew; effects are keyed.
"""

from __future__ import annotations

from typing import Final

from streams.redis.groups import Groups
from streams.redis.log import Log

SCAN_COUNT: Final = 500
_META: Final = b":meta"


async def enqueue_history(log: Log, groups: Groups, partition: int, group: str, types: frozenset[str]) -> int:
    """Put every stored event of these types in this partition on the work stream, unless that was done before.

    Events appended meanwhile are work already; such an event may then be handled twice, to the same effect.
    Returns how many were added.
    """
    mark = f"{group}:history"
    if await groups.is_marked(partition, mark):
        return 0
    count = 0
    wanted = {name.encode() for name in types}
    async for key in log.redis.scan_iter(match=f"{log.keys.prefix(partition)}*:meta", count=SCAN_COUNT):
        channel = log.keys.channel_of(key.removesuffix(_META))
        after = "0"
        while page := await log.page(channel, after):
            after = page[-1].id.decode()
            rows = [(channel.path, entry.id.decode(), entry.type.decode()) for entry in page if entry.type in wanted]
            await groups.add(partition, rows, group)
            count += len(rows)
    await groups.mark(partition, mark)
    return count
