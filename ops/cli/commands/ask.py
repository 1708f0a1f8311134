"""Ask an agent and watch its answer being written."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.options import (
    DEFAULT_DATA,
    DEFAULT_TENANT,
    DEFAULT_USER,
    Data,
    Tenant,
    Token,
    Url,
    User,
    channel_of,
    new_app,
    run,
)

app = new_app()


@app.command(epilog="Example: hub ask --agent demo 'summary'")
def ask(
    text: Annotated[str, typer.Argument(help="The question.")],
    agent: Annotated[str, typer.Option(help="The agent's name.  [default: the one in the channel's settings]")] = "",
    channel: Annotated[str, typer.Option(help="The conversation to ask in.")] = "conversation:demo",
    yes: Annotated[
        bool, typer.Option("--yes", help="Approve everything for which the agent requests approval.")
    ] = False,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Also show the reasoning, on stderr.")] = False,
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Ask an agent, show the answer while it is written, and pass the agent's questions on to you.

    Ctrl-C cancels the run; the exit code is then 130. If the run does not succeed, the exit code is 1. If the agent asks a
    question that cannot be answered here, because input is not a terminal, the exit code is 3; the run then waits for an answer
    from another client.
    """
    from ops.cli.dialogue import AskOrder, ask_agent
    from ops.cli.hub_access import access_to

    place, access = channel_of(tenant, channel), access_to(url, data, token, user, tenant)
    run(ask_agent(access, place, AskOrder(text, agent, approves=yes, shows_reasoning=reasoning)))
