"""`make smoke`, without the `make`, which might set something up while other tests run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.hub_process import clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="a server is started and stopped")]

ROOT = Path(__file__).parents[2]


def smoke(**settings: str) -> tuple[int, str]:
    """Its exit code and what it said."""
    env = clean_environment(REDIS_URL="redis://127.0.0.1:1/0", **settings)
    command = [sys.executable, "-m", "ops.smoke"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_the_smoke_test_sees_all_of_it() -> None:
    """The environment's Redis, which is unreachable, is left alone."""
    code, told = smoke()

    assert code == 0, told
    assert re.search(r"plug pulled after \d+ of \d+ characters of an answer", told)
    assert "without a hole" in told
    assert "SIGTERM ended it" in told


def test_the_smoke_test_says_what_is_missing() -> None:
    """Here a hub that starts."""
    code, told = smoke(HUB_PARTITIONS="many")

    assert code != 0
    assert "MISSING: a hub that is up; it said: " in told
    assert "HUB_PARTITIONS" in told
