"""Settings from files: each `NAME_FILE` is the setting `NAME`, and a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import read_secret_files
from ops.cli.failure import CommandFailed


def test_a_file_is_its_setting(tmp_path: Path) -> None:
    """White space at the ends does not count, and files of others are left alone."""
    file = tmp_path / "secret"
    file.write_text("a secret\n")
    env = {"HUB_JWT_SECRET_FILE": str(file), "AWS_SHARED_CREDENTIALS_FILE": "/x", "HUB_OTHER_FILE": "/y"}

    assert read_secret_files(env) == {"HUB_JWT_SECRET": "a secret"}


def test_two_values_are_refused(tmp_path: Path) -> None:
    """Nobody knows which one is meant."""
    with pytest.raises(CommandFailed, match="set REDIS_URL or REDIS_URL_FILE, not both"):
        read_secret_files({"REDIS_URL_FILE": str(tmp_path / "x"), "REDIS_URL": "redis://x"})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With its variable and its path."""
    with pytest.raises(CommandFailed, match=r"REDIS_URL_FILE: .*nowhere cannot be read"):
        read_secret_files({"REDIS_URL_FILE": str(tmp_path / "nowhere")})
