"""The bytes of files that wait on a node's disk on their way into the store: bounded together, and for each user. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

NODE_MAX_BYTES: Final = 4 * 1024**3
"""Of all users of a node together."""
OWNER_MAX_BYTES: Final = 256 * 1024**2
"""Of one user. Ten open uploads with a part in hand and one on its way are 160 MiB."""


class SpoolFull(Exception):
    """There is no room for more bytes now.

    Attributes:
        owner: whose bytes are too many; "" when those of the node are.
    """

    def __init__(self, owner: str) -> None:
        super().__init__("too many bytes are waiting to be stored")
        self.owner = owner


class SpoolBudget:
    """Counts what is spooled. Used from one loop alone."""

    def __init__(self, node_max_bytes: int = NODE_MAX_BYTES, owner_max_bytes: int = OWNER_MAX_BYTES) -> None:
        self._node_max, self._owner_max = node_max_bytes, owner_max_bytes
        self._held: Counter[str] = Counter()
        self.held_bytes = 0

    def require(self, owner: str, size_bytes: int) -> None:
        """Refuse what does not fit. A single piece larger than the owner's part fits when the owner holds nothing.

        Raises:
            SpoolFull: it names whose bytes are too many.
        """
        held = self._held.get(owner, 0)
        if held and held + size_bytes > self._owner_max:
            raise SpoolFull(owner)
        if self.held_bytes and self.held_bytes + size_bytes > self._node_max:
            raise SpoolFull("")

    def add(self, owner: str, size_bytes: int) -> None:
        """Count bytes that are being spooled."""
        self._held[owner] += size_bytes
        self.held_bytes += size_bytes

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Stop counting bytes that are stored or dropped."""
        self._held[owner] -= size_bytes
        self.held_bytes -= size_bytes
        if self._held[owner] <= 0:
            del self._held[owner]
