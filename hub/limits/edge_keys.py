"""Names and forms of what nodes share about their edge. Pure. `hub.limits.edge_store` does the talking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from hub.auth.revocations import Revocation, decode_revocation


def order_of(entry_id: bytes) -> tuple[int, int]:
    """A stream ID as numbers, which sort as Redis sorts them."""
    ms, _, number = entry_id.partition(b"-")
    return int(ms), int(number)


def ms_of(entry_id: bytes) -> int:
    """When Redis took the entry in, in ms since 1970 by its clock."""
    return int(entry_id.partition(b"-")[0])


def readable(entries: Iterable[bytes]) -> Iterator[Revocation]:
    """The entries that are revocations; those of another version are passed over."""
    for entry in entries:
        with contextlib.suppress(ValueError, TypeError):  # another version's entry: the node that wrote it knows it
            yield decode_revocation(entry)
