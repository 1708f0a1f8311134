"""Sights: what one look at a channel found, with the reads that were made in the same moment. Pure.

`Sight` is weakly referenced, which no class of a compiled module can be: so it is not beside `Looks` (ops/compiled.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streams.cursor import Look
from streams.redis.wire import Argument, Reply


class KeyRead(NamedTuple):
    """A read of a key beside a channel's log: a command, and the arguments that follow the key.

    `HGETALL` with an argument gives the maximum number of fields; if the hash has more, the reply is their number instead. The
    reply to `XRANGE` is None if the entries found exceed 16 KiB; they must then be read page by page.
    """

    key: bytes
    command: str
    args: tuple[Argument, ...] = ()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sight:
    """The result of reading a channel at one moment: the look at its log, and the replies to `reads`, in their order.

    All callers that request the same at one time get the same object.

    Attributes:
        is_shared: true if there is more than one caller.
    """

    look: Look
    reads: tuple[KeyRead, ...]
    answers: list[Reply]
    is_shared: bool = False
