"""Settings whose values are in files, as containers are given secrets: `HUB_JWT_SECRET_FILE` names the file of `HUB_JWT_SECRET`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ops.cli.failure import EXIT_USAGE, CommandFailed

_SUFFIX: Final = "_FILE"
_PREFIXES: Final = ("HUB_", "REDIS_", "S3_", "WEBSOCKET_")


def read_secret_files(env: Mapping[str, str]) -> dict[str, str]:
    """The settings that are given as files, each with the content of its file without white space at the ends.

    Raises:
        CommandFailed: a file cannot be read, or its setting is given directly as well.
    """
    return {name: _content(name, path, env) for name, path in _named(env)}


def _named(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    given = {name: path for name, path in env.items() if name.endswith(_SUFFIX) and name.startswith(_PREFIXES) and path}
    if given:
        from hub.config import declarations  # takes long, and hardly any command is given a file

        settings = {declared.env for declared in declarations().values()}
        for name, path in given.items():
            if (setting := name.removesuffix(_SUFFIX)) in settings:
                yield setting, path


def _content(setting: str, path: str, env: Mapping[str, str]) -> str:
    if env.get(setting, "").strip():
        raise CommandFailed(f"set {setting} or {setting}{_SUFFIX}, not both", EXIT_USAGE)
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{setting}{_SUFFIX}: {path} cannot be read: {error}", EXIT_USAGE) from error
