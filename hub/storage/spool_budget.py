"""Limits the bytes of files that are spooled on a node's disk before they are stored: in total and per user. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

NODE_MAX_BYTES: Final = 4 * 1024**3
"""Maximum spooled bytes of a node."""
OWNER_MAX_BYTES: Final = 256 * 1024**2
"""Maximum spooled bytes of one user. Ten uploads, each with one part being filled and one being stored, need 160 MiB."""


class SpoolFull(Exception):
    """There is no room for more bytes now.

    Attributes:
        owner: the user whose limit is reached; "" if it is the node's.
    """

    def __init__(self, owner: str) -> None:
        super().__init__("too many bytes are waiting to be stored")
        self.owner = owner


class SpoolBudget:
    """Counts the spooled bytes of a node. Used in one event loop only."""

    def __init__(self, node_max_bytes: int = NODE_MAX_BYTES, owner_max_bytes: int = OWNER_MAX_BYTES) -> None:
        self._node_max, self._owner_max = node_max_bytes, owner_max_bytes
        self._held: Counter[str] = Counter()
        self.held_bytes = 0

    def require(self, owner: str, size_bytes: int) -> None:
        """Refuses bytes that do not fit. A single piece above the user's limit fits if the user has nothing else spooled.

        Raises:
            SpoolFull: names whose limit is reached.
        """
        held = self._held.get(owner, 0)
        if held and held + size_bytes > self._owner_max:
            raise SpoolFull(owner)
        if self.held_bytes and self.held_bytes + size_bytes > self._node_max:
            raise SpoolFull("")

    def add(self, owner: str, size_bytes: int) -> None:
        """Counts bytes that are being spooled."""
        self._held[owner] += size_bytes
        self.held_bytes += size_bytes

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Stops counting bytes that were stored or dropped."""
        self._held[owner] -= size_bytes
        self.held_bytes -= size_bytes
        if self._held[owner] <= 0:
            del self._held[owner]
