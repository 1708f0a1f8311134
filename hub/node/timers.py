"""One timer wheel for every connection's next deadline, instead of a timer each. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class DeadlineWheel(Generic[T]):
    """Items by the tick in which they are due. Each item is put again after it came out, if it still matters.

    Args:
        tick_s: the resolution; an item comes out up to one tick late, never early.
    """

    def __init__(self, tick_s: float) -> None:
        self.tick_s = tick_s
        self._slots: dict[int, list[T]] = {}
        self._next_slot: int | None = None

    def put(self, item: T, at_s: float) -> None:
        """Let `item` come out at `at_s`; a time already past comes out with the next tick."""
        slot = int(at_s / self.tick_s) + 1
        if self._next_slot is not None:
            slot = max(slot, self._next_slot)
        self._slots.setdefault(slot, []).append(item)

    def due(self, now_s: float) -> list[T]:
        """Every item whose time has come; each comes out once."""
        last = int(now_s / self.tick_s)
        first = self._next_slot if self._next_slot is not None else min(self._slots, default=last)
        self._next_slot = last + 1
        if last - first > len(self._slots):  # a clock that jumped: walk what is there, not the empty slots
            slots = sorted(slot for slot in self._slots if slot <= last)
        else:
            slots = [slot for slot in range(first, last + 1) if slot in self._slots]
        return [item for slot in slots for item in self._slots.pop(slot)]
