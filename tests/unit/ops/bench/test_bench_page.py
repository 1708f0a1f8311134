"""The result as a page and as lines: well-formed, whole, and honest about what was wrong."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ops.bench.listing import comparison_lines, listing, row_lines
from ops.bench.page import to_html
from ops.bench.peers.all_peers import PEERS, chosen_peers
from ops.bench.run import BenchPlan, Comparison
from ops.bench.scenarios.all_scenarios import QUICK as QUICK_SCENARIOS
from ops.bench.scenarios.all_scenarios import SCENARIOS, chosen_scenarios
from ops.bench.sizes import QUICK, with_changes
from ops.bench.summary import Ratio, Row, Spread, ratio_of, spread_of, written

CURVE = {"count": 3, "curve": [[0, 0.2], [0.5, 1.0], [0.99, 7.5], [1, 40.0]]}
SPENT = {
    "seconds": 2.0,
    "cpu_s": {"nodes": 1.0, "redis": 0.5, "generator": 0.1},
    "rss_bytes": {"nodes": 50_000_000, "redis": 9_000_000, "generator": 4_000_000},
    "commands": {"evalsha": 12},
}


def row(scenario: str, peer: str, number: int, value: float) -> Row:
    figures = {figure.name: value for figure in SCENARIOS[scenario].figures}
    return Row(scenario, peer, number, figures, SPENT, {"latency": CURVE}, ["1 event was <missing> & late"])


@pytest.fixture
def result() -> Comparison:
    plan = BenchPlan(list(SCENARIOS.values()), chosen_peers("all"), QUICK, 2, Path())
    rows = [
        row(scenario, peer, number, 10.0 * (number + 1) * (1 + position))
        for number in range(2)
        for scenario in SCENARIOS
        for position, peer in enumerate(PEERS)
    ]
    return Comparison(
        plan, "2026-11-27T08:00:00Z", "a <machine> & more", "abc", rows, {"nats": "NATS is skipped: no go"}
    )


def test_the_page_is_well_formed_and_loads_nothing(result: Comparison) -> None:
    page = to_html(result)
    tree = ElementTree.fromstring(page)

    assert {heading.text for heading in tree.iter("h2")} >= set(SCENARIOS)
    assert len(list(tree.iter("svg"))) == 2 * len(SCENARIOS)
    assert "src=" not in page
    assert "href=" not in page
    assert "NATS is skipped" in page
    assert "1 event was &lt;missing&gt;" in page


def test_every_table_has_a_cell_for_each_column(result: Comparison) -> None:
    for table in list(ElementTree.fromstring(to_html(result)).iter("table"))[1:]:
        width = len(list(table.iter("th")))
        assert {sum(int(cell.get("colspan", 1)) for cell in line) for line in table.iter("tr")} == {width}


def test_a_result_without_figures_is_a_page_too(result: Comparison) -> None:
    result.rows[:] = [Row("idle", "hub", 0, error="the node ended with code 1")]

    assert "the node ended with code 1" in to_html(result)
    ElementTree.fromstring(to_html(result))
    assert row_lines(result.rows[0]) == ["idle · this hub: the node ended with code 1"]


def test_the_json_has_every_run_and_what_each_figure_is(result: Comparison) -> None:
    found = json.loads(result.to_json())

    assert len(found["rows"]) == len(result.rows)
    for one in found["rows"]:
        assert set(one["figures"]) == {figure["name"] for figure in found["scenarios"][one["scenario"]]["figures"]}
    assert found["peers"]["centrifugo"]["lacks"]


def test_lines_name_faults_ratios_and_what_is_not_guaranteed(result: Comparison) -> None:
    assert "FAULT: 1 event was <missing> & late" in row_lines(result.rows[0])[-1]
    lines = "\n".join(comparison_lines(result))
    assert "hub / peer: 0.50 (0.50 to 0.50)" in lines
    assert "Limits of Centrifugo 6.9.1 + Redis history:" in lines


def test_the_list_explains_every_scenario_size_and_server() -> None:
    shown = listing()

    for name in (*SCENARIOS, *PEERS, "jitter_away"):
        assert f"  {name} " in shown


def test_a_ratio_is_taken_within_rounds() -> None:
    rows = [row("idle", "hub", 0, 10), row("idle", "hub", 1, 40), row("idle", "centrifugo", 1, 20)]

    assert ratio_of(rows, "idle", "hub", "centrifugo", "p50_ms") == Ratio(2.0, 2.0, 2.0)
    assert ratio_of(rows[:2], "idle", "hub", "centrifugo", "p50_ms") is None
    assert spread_of(rows, "idle", "hub", "p50_ms") == Spread(25, 10, 40, 2)


def test_the_interval_of_a_ratio_holds_its_median_and_narrows_with_agreement() -> None:
    loose = Ratio.of([(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)])
    tight = Ratio.of([(3, 1)] * 5)

    assert loose is not None
    assert loose.low < loose.median == 3 < loose.high
    assert tight == Ratio(3, 3, 3)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.001, "1.0e-03"), (0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_are_written_with_three_digits(value: float, text: str) -> None:
    assert written(value) == text


def test_sizes_change_by_name() -> None:
    changed = with_changes(QUICK, ["storm=7", "seconds=0.5"])

    assert (changed.storm, changed.seconds, changed.jitter) == (7, 0.5, QUICK.jitter)


@pytest.mark.parametrize("wrong", ["storms=7", "storm=x", "storm=0", "storm"])
def test_a_wrong_size_is_refused_with_a_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"there is no size|must be a number above 0"):
        with_changes(QUICK, [wrong])


def test_scenarios_and_peers_are_chosen_by_name() -> None:
    assert [one.name for one in chosen_scenarios(["fanout_1*", "idle"])] == [
        "fanout_10",
        "fanout_100",
        "fanout_1000",
        "idle",
    ]
    assert [peer.name for peer in chosen_peers("centrifugo")] == ["hub", "centrifugo"]
    with pytest.raises(ValueError, match="there is no scenario 'fan'"):
        chosen_scenarios(["fan"])
    with pytest.raises(ValueError, match="there is no peer 'x'"):
        chosen_peers("x")


def test_a_quick_look_takes_some_scenarios_unless_others_are_named() -> None:
    assert [one.name for one in chosen_scenarios([], is_quick=True)] == list(QUICK_SCENARIOS)
    assert [one.name for one in chosen_scenarios(["channels"], is_quick=True)] == ["channels"]
    assert len(chosen_scenarios([])) == len(SCENARIOS)
