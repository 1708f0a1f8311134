"""Wheel and source distribution, each installed from PyPI into an empty environment and run in a folder with names like ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from support.redis_server import RedisServer

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a program without our environment; returns what it printed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PIP_INDEX_URL", "PIP_CERT") if name in os.environ}
    done = subprocess.run(command, cwd=cwd, env=kept | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, whose own packages have the names of ours and must not be imported."""
    for name in ("hub", "ops", "streams"):
        (tmp_path / "user" / name).mkdir(parents=True)
        (tmp_path / "user" / name / "__init__.py").write_text(f"raise SystemExit('imported {name} of the user')")
    return tmp_path / "user"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_built_installs_and_runs(kind: str, tmp_path: Path, folder: Path, own_redis: RedisServer) -> None:
    """`hub --version` and `hub doctor`, with the dependencies that a user gets today; a node answers in the user's folder."""
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    built = run(sys.executable, "-c", BUILD, f"build_{kind}", tmp_path, cwd=source).splitlines()[-1]
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", f"{tmp_path / built}[server]", cwd=tmp_path)

    version = run(bin_ / "hub", "--version", cwd=folder)
    own = {"REDIS_URL": own_redis.url, "HUB_JWT_SECRET": "s" * 40}
    findings = [json.loads(line) for line in run(bin_ / "hub", "doctor", cwd=folder, **own).splitlines()]

    assert version.startswith(built.split("-")[1].removesuffix(".tar.gz"))
    assert {finding["level"] for finding in findings} <= {"ok", "warn"}
    assert any(finding["what"] == "redis" for finding in findings)
