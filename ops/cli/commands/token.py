"""Print a signed token for a user, with grants."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import DEFAULT_DATA, Data, new_app

app = new_app()


@app.command()
def token(
    user: Annotated[str, typer.Option(help="The user, as in the claim `sub`.")],
    tenant: Annotated[str, typer.Option(help="The tenant.")],
    grant: Annotated[
        list[str] | None, typer.Option(help="PATTERN=ACTION,…, such as 'conversation:*=read,write'. May be repeated.")
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            help="auditor: may read all channels of the tenant, and write nothing; operator: may also list and close connections."
        ),
    ] = "",
    tenants: Annotated[
        str, typer.Option(help="With --scope: other tenants that the token may read, separated by commas.")
    ] = "",
    ttl: Annotated[float, typer.Option(help="Seconds until the token expires.", min=1)] = 3600,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a token signed with HUB_JWT_SECRET or, if that is unset, with the secret made by the hub running on the --data folder.

    If there is neither, the token is signed with the development secret.

    Examples: hub token --user alice --tenant acme --grant 'conversation:*=read,write';
    hub token --user eve --tenant acme --scope auditor
    """
    from hub.auth.signing import parse_grants
    from ops.cli.identity import settings_beside, signed

    if scope not in {"", "auditor", "operator"}:
        raise CommandFailed("--scope must be auditor or operator", EXIT_USAGE)
    if not grant and not scope:
        raise CommandFailed("give --grant or --scope: a token without either allows nothing", EXIT_USAGE)
    if grant and scope == "auditor":
        raise CommandFailed("leave --grant out: the scope auditor reads everything and writes nothing", EXIT_USAGE)
    if tenants and not scope:
        raise CommandFailed("--tenants needs --scope", EXIT_USAGE)
    try:
        grants = parse_grants(grant or [])
    except ValueError as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused
    others = [name.strip() for name in tenants.split(",") if name.strip()]
    print(signed(settings_beside(data), user, tenant, grants, ttl, scope=scope or None, tenants=others))
