"""The result as a self-contained HTML page with SVG plots. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from ops.bench.peers.peer import Peer
from ops.bench.run import Comparison
from ops.bench.scenarios.scenario import Scenario
from ops.bench.summary import Row, Spread, ratio_of, spread_of, written

_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed")
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e5e7eb }
th:first-child, td:first-child { text-align: left } td small { color: #6b7280; display: block; font-size: 11px }
svg { display: block; margin: .5rem 0 } svg text { font: 12px system-ui, sans-serif; fill: #374151 }
.fault { color: #b91c1c } .lacks { color: #6b7280; font-size: 13px } h2 { margin-top: 2.5rem }
"""
_WIDTH: Final = 860
_BAR: Final = 24
_LABEL: Final = 260
_PLOT: Final = 240
_LEFT: Final = 60
_TAIL_MAX: Final = 0.9999


def to_html(result: Comparison) -> str:
    """The page as HTML."""
    plan = result.plan
    colours = dict(zip((peer.name for peer in plan.peers), _COLOURS * len(plan.peers), strict=False))
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>hub bench</title>',
        f"<style>{_STYLE}</style></head><body><h1>hub bench</h1>",
        f"<p>{escape(_conditions(result))}</p>",
        "<h2>Guarantees of each server</h2><table><tr><th>server</th><th>keeps</th><th>limits</th></tr>",
        *(_promise(peer) for peer in plan.peers),
        "</table>",
        *(f'<p class="fault">{escape(why)}</p>' for why in result.skipped.values()),
        *(_scenario(scenario, result, colours) for scenario in plan.scenarios),
        "</body></html>",
    ]
    return "\n".join(parts)


def _conditions(result: Comparison) -> str:
    return (
        f"{result.machine}; commit {result.commit}; {result.at}; {result.plan.rounds} rounds in turns. The nodes under measurement "
        "have one core, Redis and the load generator the rest; every run has fresh processes. Figures are medians, below them the "
        "least and the most of all rounds."
    )


def _promise(peer: Peer) -> str:
    return "".join(
        (
            "<tr>",
            *(f'<td style="text-align:left">{escape(text)}</td>' for text in (peer.title, peer.keeps, peer.lacks)),
            "</tr>",
        )
    )


def _scenario(scenario: Scenario, result: Comparison, colours: dict[str, str]) -> str:
    rows = [row for row in result.rows if row.scenario == scenario.name]
    peers = [peer for peer in result.plan.peers if any(row.peer == peer.name for row in rows)]
    if not rows:
        return ""
    first = scenario.figures[0]
    spreads = [(peer, spread_of(rows, scenario.name, peer.name, first.name)) for peer in peers]
    bars = [(peer.title, spread, colours[peer.name]) for peer, spread in spreads if spread is not None]
    lines = [
        (peer.title, name, curve, colours[peer.name]) for peer in peers for name, curve in _curves(rows, peer.name)
    ]
    return "\n".join(
        (
            f'<h2 id="{scenario.name}">{scenario.name}</h2><p>{escape(scenario.text)}</p>',
            bar_chart(f"{first.text} ({'more' if first.is_more_better else 'less'} is better)", bars),
            _table(scenario, rows, peers),
            curve_chart(lines),
            *(f'<p class="fault">{escape(_fault(row, text))}</p>' for row in rows for text in _faults(row)),
        )
    )


def _fault(row: Row, text: str) -> str:
    return f"{row.peer}, round {row.number + 1}: {text}"


def _faults(row: Row) -> list[str]:
    return [*row.faults, *row.problems, *([row.error] if row.error else [])]


def _table(scenario: Scenario, rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    head = [figure.text for figure in scenario.figures]
    parts = ["CPU of nodes", "of Redis", "of the generator", "memory of nodes, MB", "of Redis, MB", "hub / peer"]
    lines = [f"<table><tr><th>server</th>{''.join(f'<th>{escape(text)}</th>' for text in head + parts)}</tr>"]
    for peer in peers:
        cells = [_cell(spread_of(rows, scenario.name, peer.name, figure.name)) for figure in scenario.figures]
        mine = [row for row in rows if row.peer == peer.name and row.spent]
        cells += [
            _cell(_spread(row.spent["cpu_s"][part] / (row.spent["seconds"] or 1) * 100 for row in mine), "%")
            for part in ("nodes", "redis", "generator")
        ]
        cells += [_cell(_spread(row.spent["rss_bytes"][part] / 1e6 for row in mine)) for part in ("nodes", "redis")]
        ratio = ratio_of(rows, scenario.name, "hub", peer.name, scenario.figures[0].name)
        shown = (
            ""
            if ratio is None or peer.name == "hub"
            else (f"{ratio.median:.2f}<small>{ratio.low:.2f} to {ratio.high:.2f}</small>")
        )
        title = f"<td>{escape(peer.title)}</td>{''.join(cells)}<td>{shown}</td>"
        lines += [f"<tr>{title}</tr>"]
        lines += [f'<tr><td colspan="{len(head + parts) + 1}" class="lacks">limits: {escape(peer.lacks)}</td></tr>']
    return "\n".join((*lines, "</table>"))


def _spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    return Spread.of(found) if found else None


def _cell(spread: Spread | None, unit: str = "") -> str:
    if spread is None:
        return "<td></td>"
    ends = f"<small>{written(spread.low)} to {written(spread.high)}</small>" if spread.count > 1 else ""
    return f"<td>{written(spread.median)}{unit}{ends}</td>"


def _curves(rows: Sequence[Row], peer: str) -> list[tuple[str, list[list[float]]]]:
    """The latency curves of a peer, from its last round that has any."""
    for row in reversed([row for row in rows if row.peer == peer and row.latencies]):
        return [(name, one["curve"]) for name, one in row.latencies.items() if one["curve"]]
    return []


def bar_chart(title: str, bars: Sequence[tuple[str, Spread, str]]) -> str:
    """A chart of horizontal bars: each has a name, the median, minimum and maximum as a line across its end, and a colour."""
    most = max((spread.high for _, spread, _ in bars), default=0) or 1
    scale = (_WIDTH - _LABEL - 100) / most
    parts = [
        f'<svg width="{_WIDTH}" height="{_BAR * len(bars) + 24}" role="img"><text x="0" y="14">{escape(title)}</text>'
    ]
    for number, (name, spread, colour) in enumerate(bars):
        y = 24 + number * _BAR
        low, high, end = (_LABEL + value * scale for value in (spread.low, spread.high, spread.median))
        parts += [
            f'<text x="0" y="{y + 14}">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{y + 2}" width="{max(1.0, end - _LABEL):.1f}" height="{_BAR - 8}" fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10}" y2="{y + 10}" stroke="#111827" stroke-width="1.5"/>',
            f'<text x="{high + 6:.1f}" y="{y + 14}">{written(spread.median)}</text>',
        ]
    return "".join((*parts, "</svg>"))


def curve_chart(lines: Sequence[tuple[str, str, list[list[float]], str]]) -> str:
    """A chart of latency by percentile: 50, 90, 99 … % are equally spaced, and milliseconds are on a logarithmic scale."""
    values = [value for _, _, curve, _ in lines for _, value in curve if value > 0]
    if not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(share: float) -> float:
        return _LEFT + -math.log10(1 - min(share, _TAIL_MAX)) / 4 * (_WIDTH - _LEFT - 250)

    def y(value: float) -> float:
        return 10 + (high - math.log10(max(value, 10.0**low))) / (high - low) * (_PLOT - 40)

    parts = [f'<svg width="{_WIDTH}" height="{max(_PLOT, 20 * len(lines) + 30)}" role="img">']
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{_LEFT}" x2="{x(1):.1f}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="0" y="{at + 4:.1f}">{10.0**power:g} ms</text>')
    parts += [
        f'<text x="{x(share) - 10:.1f}" y="{_PLOT - 8}">{share * 100:g}</text>'
        for share in (0.0, 0.5, 0.9, 0.99, 0.999, _TAIL_MAX)
    ]
    for number, (title, name, curve, colour) in enumerate(lines):
        points = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in curve if value > 0)
        dash = f' stroke-dasharray="{4 * number} 3"' if number and name != lines[0][1] else ""
        at, key = 20 + number * 20, _WIDTH - 235
        style = f'stroke="{colour}" stroke-width="2"{dash}'
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        parts.append(f'<line x1="{key}" x2="{key + 20}" y1="{at}" y2="{at}" {style}/>')
        parts.append(f'<text x="{_WIDTH - 210}" y="{at + 4}">{escape(f"{title}: {name}"[:34])}</text>')
    return "".join((*parts, "</svg>"))
