"""Names and forms of what nodes share about their edge. Pure. `hub.state.redis_store` does the talking."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hub.middleware.revocations import Revocation, decode_revocation


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """The keys, in one slot of a cluster."""

    rates: str
    bytes_stored: str
    revocations: str
    bell: str
    sessions: str


def edge_keys(prefix: str = "hub") -> EdgeKeys:
    """Names the keys; `prefix` keeps deployments on one Redis apart."""
    tag = f"{prefix}:{{edge}}"
    return EdgeKeys(f"{tag}:rates", f"{tag}:bytes", f"{tag}:revocations", f"{tag}:revocations:bell", f"{tag}:sessions")


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
