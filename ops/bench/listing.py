"""Text output of the benchmark: the available scenarios, the figures of a run, and the final comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import fields

from ops.bench.peers.all_peers import PEERS
from ops.bench.run import Comparison
from ops.bench.scenarios.all_scenarios import SCENARIOS
from ops.bench.sizes import FULL, QUICK, USUAL, Sizes
from ops.bench.summary import Row, ratio_of, spread_of, written


def listing() -> str:
    """The list of scenarios, sizes and servers."""
    lines = ["Scenarios:"]
    for scenario in SCENARIOS.values():
        only = " Measured for this hub only." if scenario.is_ours else ""
        lines += _wrapped(scenario.name, scenario.text + only)
    lines += ["", f"Sizes:{'':15}quick      usual       full"]
    texts = dict(_attributes(Sizes.__doc__ or ""))
    for one in fields(Sizes):
        quick, usual, full = (f"{getattr(sizes, one.name):>10,g}" for sizes in (QUICK, USUAL, FULL))
        lines.append(f"  {one.name:<15}{quick} {usual} {full}  {texts.get(one.name, '')}")
    lines += ["", "Servers:"]
    for peer in PEERS.values():
        lines += _wrapped(peer.name, f"{peer.title}. {peer.keeps} Limits: {peer.lacks}")
    return "\n".join(lines)


def _attributes(doc: str) -> Iterator[tuple[str, str]]:
    for line in doc.partition("Attributes:")[2].splitlines():
        name, is_there, text = line.strip().partition(": ")
        if is_there:
            yield name, text


def _wrapped(name: str, text: str) -> list[str]:
    first, *others = textwrap.wrap(text, 100)
    return [f"  {name:<15} {first}", *(f"{'':18}{other}" for other in others)]


def row_lines(row: Row) -> list[str]:
    """The figures of one run, its use of resources, and its faults."""
    head = f"{row.scenario} · {PEERS[row.peer].title}"
    if row.error:
        return [f"{head}: {row.error}"]
    shown = (f"{figure.text} {written(row.figures[figure.name])}" for figure in SCENARIOS[row.scenario].figures)
    seconds = row.spent["seconds"] or 1.0
    busy = ", ".join(f"{name} {cpu_s / seconds:.0%}" for name, cpu_s in row.spent["cpu_s"].items())
    lines = [f"{head}: {' · '.join(shown)}", f"    CPU {busy}; {row.took_s:.1f} s, load {row.load_average:.1f}"]
    return lines + [f"    FAULT: {fault}" for fault in row.faults + row.problems]


def comparison_lines(result: Comparison) -> list[str]:
    """The medians of all rounds, and the comparison of each peer with the hub, with the guarantees that the peer lacks."""
    lines = [f"{result.machine}, {result.commit}"]
    for name, why in result.skipped.items():
        lines.append(f"{name}: {why}")
    if len(result.plan.peers) == 1 and result.plan.rounds == 1:
        return lines
    for scenario in result.plan.scenarios:
        figure = scenario.figures[0]
        lines.append(f"{scenario.name}: {figure.text}")
        for peer in result.plan.peers:
            found = spread_of(result.rows, scenario.name, peer.name, figure.name)
            if found is None:
                continue
            text = f"  {peer.title:<36} {written(found.median):>10}  ({written(found.low)} to {written(found.high)})"
            ratio = ratio_of(result.rows, scenario.name, "hub", peer.name, figure.name) if peer.name != "hub" else None
            if ratio is not None:
                text += f"  hub / peer: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
            lines.append(text)
    return lines + [f"Limits of {peer.title}: {peer.lacks}" for peer in result.plan.peers]
