"""The model of `hub capacity`, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

from ops.capacity import CONNECTIONS_MAX, MEASURED, SHOWN, Demand, need_of, table

PAGE = Path(__file__).parents[3] / "docs" / "operating" / "capacity.md"


def test_the_page_shows_what_the_model_says() -> None:
    """Write the table of `ops.capacity.table(SHOWN)` into the page when a figure changes."""
    assert "\n".join(table(SHOWN)) in PAGE.read_text(encoding="utf-8")


def test_the_need_is_that_of_what_is_scarcest() -> None:
    """Connections, processor time, memory: each can be what determines a number."""
    quiet = need_of(Demand(3 * CONNECTIONS_MAX, 1))
    busy = need_of(Demand(100, 20_000))
    stored = need_of(Demand(100, 1_000, hot_hours=24 * 7))

    assert (quiet.nodes, quiet.nodes_by) == (3, "connections")
    assert busy.nodes_by == "processor"
    assert stored.primaries_by == "memory"
    assert stored.primaries * 16e9 >= 1_000 * 3_600 * 24 * 7 * MEASURED.event_redis_bytes


def test_more_is_never_cheaper() -> None:
    needs = [need_of(one) for one in SHOWN]
    for part in ("nodes", "primaries", "out_bytes_s", "monthly"):
        values = [getattr(need, part) for need in needs]
        assert values == sorted(values)
