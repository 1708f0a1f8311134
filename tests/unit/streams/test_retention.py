"""Retention: its text, the rule that decides, and the events that are due."""

from __future__ import annotations

import pytest

from streams.archive.retention import HotFacts, Retention, parse_retention, trim_to
from streams.channel import parse_channel

DAY = 86_400_000


def test_the_most_specific_scope_decides_alone() -> None:
    """No bound of a wider scope is added."""
    policy = parse_retention(
        "*=hot_age:30d total_age:365d; document=forever; acme/*=hot_count:10; acme/team=hot_bytes:64MB;"
        "acme/team:9=hot_age:12h hold"
    )

    def of(tenant: str, channel: str) -> Retention:
        return policy.of(parse_channel(tenant, channel))

    assert of("other", "conversation:1") == Retention(hot_age_ms=30 * DAY, total_age_ms=365 * DAY)
    assert of("other", "document:1") == Retention()
    assert of("acme", "document:1") == Retention(hot_count=10)
    assert of("acme", "team:1") == Retention(hot_bytes=64 * 1_048_576)
    assert of("acme", "team:9") == Retention(hot_age_ms=DAY // 2, is_held=True)
    assert not of("other", "document:1").moves


@pytest.mark.parametrize(
    "text",
    ["", "*", "*=", "*=forever hot_age:1d", "*=hot_age:0d", "*=hot_age:1y", "x=forever", "*=forever;*=forever",
     "*=total_age:1d", "*=hot_age:2d total_age:1d", "*=hot_count:-1", "*=hot_age:1d hot_age:2d", "team:9=forever", "*=hot_bytes:5"],
)  # fmt: skip # a list
def test_another_text_is_refused(text: str) -> None:
    """Rather than keeping less, or more, than was meant."""
    with pytest.raises(ValueError):  # noqa: PT011 - the reader of settings words it
        parse_retention(text)


def test_events_are_due_beyond_the_slack_and_then_down_to_the_bound() -> None:
    """Segments have many events; without memory to spare there is no slack; the newest event stays."""
    by_count, by_age = Retention(hot_count=100), Retention(hot_age_ms=10 * DAY)

    def due(
        retention: Retention, head: int, oldest_ms: int = 0, memory: int = 0, *, tight: bool = False
    ) -> tuple[int, int | None]:
        return trim_to(retention, HotFacts(head, 0, oldest_ms, memory), 100 * DAY, is_tight=tight)

    assert due(by_count, 105) == (0, None)
    assert due(by_count, 105, tight=True) == (5, None)
    assert due(by_count, 130) == (30, None)
    assert due(by_age, 50, oldest_ms=89 * DAY + DAY // 2) == (0, None)
    assert due(by_age, 50, oldest_ms=88 * DAY) == (0, 90 * DAY)
    assert due(Retention(hot_bytes=1_000), 80, memory=2_000) == (40, None)
    assert due(Retention(hot_count=1), 1, tight=True) == (0, None)
