"""Generates the Grafana dashboards: `python -m ops.monitoring.dashboards` writes them beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parent
_WIDTH: Final = 12
_HEIGHT: Final = 7
_PER_ROW: Final = 2


class Panel(NamedTuple):
    """A panel: its title, its unit as Grafana names it, and a query for each legend."""

    title: str
    unit: str
    queries: Mapping[str, str]


def _quantiles(metric: str, *labels: str) -> dict[str, str]:
    by = ", ".join(("le", *labels))
    legend = "".join(f" {{{{{label}}}}}" for label in labels)
    return {
        f"p{percent}{legend}": f"histogram_quantile({percent / 100}, sum by ({by}) (rate({metric}_bucket[$__rate_interval])))"
        for percent in (50, 99)
    }


def _rate(metric: str, *labels: str) -> dict[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or metric
    return {legend: f"sum by ({', '.join(labels)}) (rate({metric}[$__rate_interval]))"}


def _each(metric: str, *labels: str) -> dict[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in ("instance", *labels))
    return {f"{metric.removeprefix('hub_')} {legend}": metric}


DASHBOARDS: Final[Mapping[str, tuple[Panel, ...]]] = {
    "Hub: clients and delivery": (
        Panel("Connections", "short", _each("hub_connections") | _each("hub_connections_pending")),
        Panel("Messages", "cps", {
            "commands": "sum(rate(hub_commands_total[$__rate_interval]))",
            "events delivered": "sum(rate(hub_events_delivered_total[$__rate_interval]))",
            "signals delivered": "sum(rate(hub_signals_delivered_total[$__rate_interval]))",
        }),
        Panel("Publish to deliver", "s", _quantiles("hub_publish_to_deliver_seconds", "origin")),
        Panel("Command to acknowledgement", "s", _quantiles("hub_command_to_ack_seconds")),
        Panel("Publish to store", "s", _quantiles("hub_publish_to_store_seconds")),
        Panel("Subscribe and resume", "s", {
            **{f"subscribe {name}": query for name, query in _quantiles("hub_subscribe_seconds").items()},
            **{f"resume {name}": query for name, query in _quantiles("hub_resume_seconds").items()},
        }),
        Panel("Errors by code", "cps", _rate("hub_errors_total", "code")),
        Panel("Limits met", "cps", _rate("hub_limits_met_total", "class")),
        Panel("Gaps told", "cps", _rate("hub_gaps_total", "reason")),
        Panel("Lag", "short", _each("hub_lag_events") | _each("hub_subscriptions_behind") | _each("hub_turns_waited_for")),
        Panel("HTTP: requests", "cps", _rate("hub_http_request_seconds_count", "route", "status")),
        Panel("HTTP: time to answer", "s", _quantiles("hub_http_request_seconds", "route")),
    ),
    "Hub: log and workers": (
        Panel("Redis", "short", _each("hub_redis_up") | _each("hub_durability_degraded", "kind")),
        Panel("Redis: memory", "bytes", _each("hub_redis_memory_bytes") | _each("hub_redis_memory_limit_bytes")),
        Panel("Redis: round trip", "s", _quantiles("hub_redis_round_trip_seconds", "call")),
        Panel("Appends", "cps", _rate("hub_events_appended_total", "instance")),
        Panel("Background loops", "short", _each("hub_loop_up", "loop") | _each("hub_presence_lag_seconds")),
        Panel("Backlog", "short", {
            "{{handler}}": "sum by (handler) (hub_handler_backlog)", "parked": "sum(hub_parked_events)",
        }),
        Panel("Oldest unfinished event", "s", {"{{handler}}": "max by (handler) (hub_handler_oldest_seconds)"}),
        Panel("Handled", "cps", _rate("hub_handled_total", "handler", "outcome")),
        Panel("Answers", "short", {
            "in progress": "sum(hub_runs_active)",
            "ended {{outcome}}": "sum by (outcome) (increase(hub_runs_ended_total[$__rate_interval]))",
            "taken over {{did}}": "sum by (did) (increase(hub_runs_reaped_total[$__rate_interval]))",
        }),
        Panel("First token", "s", _quantiles("hub_first_token_seconds")),
        Panel("Deltas", "cps", _rate("hub_deltas_total") | _rate("hub_deltas_joined_total")),
        Panel("Uploads", "s", _quantiles("hub_upload_seconds")),
    ),
}  # fmt: skip # a table


def dashboard(title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    return {
        "uid": file_name(title).removesuffix(".json"),
        "title": title,
        "tags": ["hub"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _PER_ROW)
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": query,
                "legendFormat": legend,
                "datasource": source,
                "exemplar": "_bucket" in query,
            }
            for at, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def file_name(title: str) -> str:
    """The dashboard's file."""
    return title.lower().replace(": ", "-").replace(" ", "-") + ".json"


def texts() -> dict[str, str]:
    """Each dashboard as JSON, by the name of its file."""
    return {
        file_name(title): json.dumps(dashboard(title, panels), indent=1) + "\n" for title, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
