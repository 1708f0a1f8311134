"""Check settings, Redis and node, and say what to fix."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, Redis, Url, new_app, run
from ops.cli.output import is_terminal

if TYPE_CHECKING:
    from hub.config import Settings

app = new_app()


@app.command()
def doctor(redis: Redis = "", data: Data = DEFAULT_DATA, url: Url = "") -> None:
    """Print one finding per line; exit with 1 if one of them prevents a node from starting.

    Example: hub doctor --redis redis://localhost:6379/0
    """
    from ops.cli.checks import check_build, check_node, check_settings
    from ops.cli.findings import Finding, Level
    from ops.cli.log_access import present_redis_at
    from ops.cli.redis_checks import check_redis_fully
    from ops.cli.running_hub import address_of
    from streams.errors import StreamsError

    findings = [check_build(), *check_settings(os.environ)]
    try:
        with present_redis_at(redis, data) as address:
            findings += run(check_redis_fully(address, _settings()))
    except CommandFailed as absent:
        findings.append(Finding(Level.WARN, "redis", str(absent)))
    except StreamsError as refused:
        findings.append(Finding(Level.FAIL, "redis", str(refused)))
    findings.append(check_node(address_of(url, data)))
    for finding in findings:
        print(f"{finding.level:<4}  {finding.what}: {finding.text}" if is_terminal() else json.dumps(finding._asdict()))
    failed = sum(finding.level is Level.FAIL for finding in findings)
    if failed:
        raise CommandFailed(f"{failed} of {len(findings)} checks failed")


def _settings() -> Settings | None:
    from hub.config import Settings
    from hub.readers import SettingRefused

    try:
        return Settings.from_env(os.environ)
    except SettingRefused:
        return None  # check_settings reports it
