"""Find a user's connections, their devices and channels, and close one."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ops.cli.failure import CommandFailed
from ops.cli.options import DEFAULT_DATA, DEFAULT_TENANT, DEFAULT_USER, Data, Token, User, new_app
from ops.cli.output import is_terminal, printable

app = new_app()


@app.command()
def connections(
    of: Annotated[
        str, typer.Argument(metavar="[USER]", help="Only the connections of this user.", show_default=False)
    ] = "",
    close: Annotated[
        str, typer.Option("--close", metavar="ID", help="Close the connection with this session ID.")
    ] = "",
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            help="A node; may be repeated.  [default: the hub running on the --data folder]",
            show_default=False,
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Annotated[
        str, typer.Option("--tenant", help="The tenant named in the token that the command signs.")
    ] = DEFAULT_TENANT,
) -> None:
    """Print one line per connection, with the cursor of each channel it follows; in a pipe, each line is JSON.

    Every node knows its own connections: give --url for each node, not for a load balancer. A closed client behaves as after a
    restart of its node: it reconnects and resumes. The token needs a grant of * on *.

    Examples: hub connections alice; hub connections --close 5Ks0Vn8nHZb1yQ2w
    """
    from ops.cli.identity import token_of
    from ops.cli.running_hub import address_of

    addresses, token = url or [address_of("", data).url], token_of(token, user, tenant, data)
    if close:
        _close(addresses, token, close)
        return
    count = 0
    for address in addresses:
        count += _list(address, token, of)
    if not count and is_terminal():
        print(f"no connection{' of ' + of if of else ''} to {', '.join(addresses)}")


def _list(address: str, token: str, of: str) -> int:
    from ops.cli.http_calls import http_call

    query = f"?user={quote(of, safe='')}" if of else ""
    found: dict[str, Any] = json.loads(http_call(address, f"/v1/connections{query}", token))
    for one in found["connections"]:
        print(_line(one, found["node"]) if is_terminal() else json.dumps({"node": found["node"], **one}))
    left = found["total"] - len(found["connections"])
    if left and is_terminal():
        print(f"{left} more on {found['node']}: name a user")
    return len(found["connections"])


def _line(one: dict[str, Any], node: str) -> str:
    channels = ", ".join(f"{name} at #{cursor['seq']}" for name, cursor in one["channels"].items()) or "no channel"
    about = f"{one['user']:<16}  {one['client_id']:<16}  {one['session_id'] or one['kind']}"
    return printable(f"{about}  {node}  {one['address']}  since {one['opened_at']}  {channels}")


def _close(addresses: list[str], token: str, session_id: str) -> None:
    from ops.cli.http_calls import http_call

    refusals: list[str] = []
    for address in addresses:
        try:
            http_call(address, f"/v1/connections/{quote(session_id, safe='')}", token, "DELETE")
        except CommandFailed as refused:
            refusals.append(str(refused))
        else:
            print(f"closed {session_id} on {address}" if is_terminal() else json.dumps({"closed": session_id}))
            return
    raise CommandFailed("; ".join(refusals))
