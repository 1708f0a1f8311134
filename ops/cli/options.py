"""Options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from hub.setting import Reader, redis_url, url


def _checked(reader: Reader[str | None]) -> Callable[[str], str]:
    def read(given: str) -> str:
        try:
            return given and (reader.read(given) or "")
        except ValueError as refused:
            raise typer.BadParameter(f"it must be {reader.allowed}") from refused

    return read


Url: TypeAlias = Annotated[
    str,
    typer.Option(
        "--url", envvar="HUB_URL", help="The hub to talk to.", callback=_checked(url("http", "https", "ws", "wss"))
    ),
]
Token: TypeAlias = Annotated[
    str,
    typer.Option(
        "--token", envvar="HUB_TOKEN", help="The token to show; by default the command signs one.", show_default=False
    ),
]
User: TypeAlias = Annotated[str, typer.Option("--user", help="The user of the token that the command signs.")]
Tenant: TypeAlias = Annotated[str, typer.Option("--tenant", help="The tenant the channel belongs to.")]
Redis: TypeAlias = Annotated[
    str,
    typer.Option(
        "--redis",
        envvar="REDIS_URL",
        help="The Redis to read; default: the embedded one.",
        show_default=False,
        callback=_checked(redis_url()),
    ),
]
Data: TypeAlias = Annotated[Path, typer.Option("--data", envvar="HUB_DATA", help="Folder of the embedded Redis.")]

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_DATA = Path(".hub")
DEFAULT_TENANT = "acme"
"""The tenant of tokens that `hub dev` prints and that commands sign for themselves."""
DEFAULT_USER = "alice"
