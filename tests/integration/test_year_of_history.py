"""The year of history at a small size: a Redis with little memory, a real worker that archives, a real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.importing.year import YearOptions, run

LINES = 900


@pytest.mark.long
async def test_history_of_many_days_goes_through_a_small_redis(tmp_path: Path) -> None:
    """Several times as much as fits: Redis keeps its limit, every event is read back in order, the first day resumes."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(3):
        lines = [
            f"[{at // 60:02}:{at % 60:02}] <ann{at % 7}> line {at} of log {number} {'x' * 200}" for at in range(LINES)
        ]
        (logs / f"2005-02-0{number + 1}.txt").write_text("\n".join(lines))
    folder = tmp_path / "data"
    folder.mkdir()

    figures = await run(YearOptions(logs, channels=4, days=40, limit_mb=16, hot_count=200), folder)

    assert figures.faults == []
    assert (figures.events, figures.days, figures.resumed_events) == (4 * 40 * LINES, 160, 39 * LINES)
    assert figures.line_bytes > 2 * figures.limit_bytes > 2 * figures.peak_bytes
    assert figures.hot_events < figures.events / 2
