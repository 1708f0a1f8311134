"""A handler and custom projections, as settings name them."""

from __future__ import annotations

from consumers.handlers.own import Effects, Park, Source, StartFrom, reacts_to
from projections.own import projects
from projections.recorded import Recorded
from streams.json_bytes import JsonObject

PLACED, CONFIRMED = "custom.order_placed", "custom.order_confirmed"


@reacts_to(PLACED)
async def confirm(source: Source, effects: Effects) -> Park | None:
    """Confirms an order, but one that it cannot read."""
    if "order" not in source.payload:
        return Park("an order has a number")
    await effects.append(source.channel, CONFIRMED, {"order": source.payload["order"]})
    return None


@reacts_to(PLACED, start_from=StartFrom.BEGINNING)
async def mark(source: Source, effects: Effects) -> None:
    """Marks every order there ever was."""
    await effects.append(source.channel, "custom.marked", {"event": source.id})


@reacts_to("chat.message")
async def nosy(source: Source, effects: Effects) -> None:
    """Wants what is not its own."""


@projects(PLACED, CONFIRMED, kinds=["conversation"])
def orders(state: JsonObject, event: Recorded) -> JsonObject:
    """Order → what became of it."""
    return {**state, str(event.payload["order"]): event.type.removeprefix("custom.order_")}


@projects("chat.message", PLACED)
def count(state: JsonObject, event: Recorded) -> JsonObject:
    """Counts by type."""
    before = state.get(event.type, 0)
    return {**state, event.type: before + 1 if isinstance(before, int) else 1}
