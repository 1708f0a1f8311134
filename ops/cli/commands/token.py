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
        list[str], typer.Option(help="PATTERN=ACTION,…, such as 'conversation:*=read,write'. May be repeated.")
    ],
    ttl: Annotated[float, typer.Option(help="Seconds until the token expires.", min=1)] = 3600,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a token signed with HUB_JWT_SECRET or, if that is unset, with the secret of the hub that uses --data.

    Example: hub token --user alice --tenant acme --grant 'conversation:*=read,write'
    """
    from hub.auth.tokens import parse_grants
    from ops.cli.identity import settings_beside, signed

    try:
        grants = parse_grants(grant)
    except ValueError as refused:
        raise CommandFailed(str(refused), EXIT_USAGE) from refused
    print(signed(settings_beside(data), user, tenant, grants, ttl))
