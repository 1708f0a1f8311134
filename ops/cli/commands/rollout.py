"""Show and change who may use WebSocket, and the variants of a tenant."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, DEFAULT_TENANT, DEFAULT_USER, Data, Token, Url, User, new_app

app = new_app()
_WORDS: Final = {"on": 100.0, "off": 0.0}
Whose = Annotated[str, typer.Option("--tenant", help="The tenant named in the token that the command signs.")]


@app.callback()
def rollout() -> None:
    """Show and change who may use WebSocket, and the variants of a tenant.

    Example: hub rollout show, then hub rollout set --websocket 25
    """


@app.command()
def show(
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Whose = DEFAULT_TENANT,
) -> None:
    """Print the tenant's rollout; in a pipe, as JSON. The token needs the scope operator or auditor.

    Example: hub rollout show --tenant acme
    """
    from ops.cli.http_calls import http_call

    address, bearer = _access(url, data, token, user, tenant)
    _print(json.loads(http_call(address, "/v1/rollout", bearer)))


@app.command(name="set")
def change(
    websocket: Annotated[
        str,
        typer.Option(
            "--websocket",
            metavar="PERCENT",
            help="Percentage of the users that may use WebSocket, or on (100), or off (0).",
            show_default=False,
        ),
    ] = "",
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME=PERCENT",
            help="A variant, and the percentage of the users that get it; may be repeated. Replaces all variants.",
            show_default=False,
        ),
    ] = None,
    no_variants: Annotated[bool, typer.Option("--no-variants", help="Remove all variants.")] = False,
    note: Annotated[str, typer.Option("--note", help="The reason, kept with the change.", show_default=False)] = "",
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Whose = DEFAULT_TENANT,
) -> None:
    """Change the tenant's rollout on every node, without a restart. The token needs the scope operator.

    Examples: hub rollout set --websocket 25; hub rollout set --variant blue=50 --variant green=50
    """
    from ops.cli.http_calls import http_call

    body: dict[str, Any] = {}
    if websocket:
        body["websocket_percent"] = _WORDS[websocket] if websocket in _WORDS else _percent("--websocket", websocket)
    if no_variants or variant:
        body["variants"] = [] if no_variants else [_variant(one) for one in variant or []]
    if not body:
        raise CommandFailed("nothing to change: give --websocket, --variant or --no-variants", EXIT_USAGE)
    if note:
        body["note"] = note
    address, bearer = _access(url, data, token, user, tenant)
    _print(json.loads(http_call(address, "/v1/rollout", bearer, "PUT", json.dumps(body).encode())))


def _access(url: str, data: Any, token: str, user: str, tenant: str) -> tuple[str, str]:
    """The address of the hub, and the given token or one that is signed with the scope operator."""
    from ops.cli.identity import DAY_S, settings_beside, signed
    from ops.cli.running_hub import address_of

    bearer = token or signed(settings_beside(data), user, tenant, {}, DAY_S, scope="operator")
    return address_of(url, data).url, bearer


def _percent(option: str, text: str) -> float:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise CommandFailed(f"{option}: {text} is no percentage", EXIT_USAGE) from None


def _variant(text: str) -> dict[str, Any]:
    name, _, percent = text.partition("=")
    return {"name": name, "percent": _percent("--variant", percent)}


def _print(found: dict[str, Any]) -> None:
    from ops.cli.output import is_terminal, printable

    if not is_terminal():
        print(json.dumps(found))
        return
    print(f"WebSocket  {found['websocket_percent']:g} % of the users")
    for one in found["variants"]:
        print(printable(f"variant    {one['name']}: {one['percent']:g} %"))
    if found["revision"]:
        times = "once" if found["revision"] == 1 else f"{found['revision']} times"
        print(printable(f"changed    {times}, last by {found['changed_by']} ({found['changed_id']})"))
    print(printable(f"decided by {found['provider']}"))
