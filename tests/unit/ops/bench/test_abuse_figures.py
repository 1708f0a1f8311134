"""The figures of the abuse benchmark: windows, the two ratios, and the interval that says what they are worth."""

from __future__ import annotations

import random

from ops.bench.abuse_figures import Windows, interval, median_p99, p99, pooled_p99

ANSWERS = 60  # in a window: enough for a p99, and few enough for a thousand draws


def windows(*, calm_ms: float, attacked_ms: float, spread: float = 0.1) -> Windows:
    """Twenty windows of each kind, with answers around these figures."""
    chance, found = random.Random(7), Windows()
    for number in range(40):
        is_attacked = number % 2 == 1
        found.open(is_attacked, number)
        middle = attacked_ms if is_attacked else calm_ms
        for _ in range(ANSWERS):
            found.add(number + 0.5, chance.uniform(1 - spread, 1 + spread) * middle)
        found.close(0.1)
    return found


def kinds(found: Windows) -> tuple[list[object], list[object]]:
    return found._kind(is_attacked=False), found._kind(is_attacked=True)  # type: ignore[return-value]


def test_an_answer_belongs_to_the_window_it_was_asked_in() -> None:
    """A question asked before a window began, or between windows, counts for none."""
    found = Windows()
    found.add(0.5, 1.0)
    found.open(is_attacked=False, at_s=1.0)
    found.add(0.9, 100.0)
    found.add(1.1, 2.0)
    found.close(0.5)
    found.add(1.5, 100.0)

    assert found._all[0].took_ms == [2.0]


def test_equal_sides_have_a_ratio_of_one_and_slower_ones_do_not() -> None:
    """The interval holds the true ratio, and is narrow where windows agree."""
    calm, attacked = kinds(windows(calm_ms=5.0, attacked_ms=5.0))
    slow_calm, slow = kinds(windows(calm_ms=5.0, attacked_ms=7.5))

    for figure in (median_p99, pooled_p99):
        low, high = interval(calm, attacked, figure)  # type: ignore[arg-type]
        assert low <= 1.0 <= high < 1.05
        low, high = interval(slow_calm, slow, figure)  # type: ignore[arg-type]
        assert 1.45 < low <= 1.5 <= high < 1.55


def test_one_disturbed_window_does_not_move_the_median() -> None:
    """A pause of the machine makes the pooled p99, and shows in its interval, but not the median of windows."""
    found = windows(calm_ms=5.0, attacked_ms=5.0)
    found._all[1].took_ms = [500.0] * ANSWERS
    calm, attacked = kinds(found)

    assert median_p99(attacked) / median_p99(calm) < 1.02  # type: ignore[arg-type]
    assert pooled_p99(attacked) / pooled_p99(calm) > 50  # type: ignore[arg-type]
    assert interval(calm, attacked, pooled_p99)[0] < 1.05  # type: ignore[arg-type]


def test_the_summary_says_both_ratios_and_what_is_wanted() -> None:
    """Four lines: each kind, and each ratio with its interval."""
    lines = windows(calm_ms=5.0, attacked_ms=5.5).summary()

    assert [line.split()[0] for line in lines] == ["calm", "attacked", "median", "p99"]
    assert "wanted below 1.200" in lines[2]
    assert p99([1.0]) == 1.0
