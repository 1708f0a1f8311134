"""Answer a question that an agent's run is waiting on, or list the open questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.answer_screen import choices_of, choices_text, question_text, response_to
from ops.cli.failure import EXIT_USAGE, CommandFailed
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
from ops.cli.output import is_terminal, printable

if TYPE_CHECKING:
    from ops.cli.hub_access import Access

app = new_app()


@app.command(
    epilog="Examples: hub approve conversation:42 (lists); hub approve conversation:42 r1.q0 --deny; "
    "hub approve conversation:42 r1.q0 --answer tea"
)
def approve(
    channel: Annotated[str, typer.Argument(help="The channel that the run is in.")],
    request: Annotated[
        str, typer.Argument(help="The ID of the question; without it, the open questions are listed.")
    ] = "",
    deny: Annotated[bool, typer.Option("--deny", help="Deny instead of approving.")] = False,
    answer: Annotated[
        str | None,
        typer.Option(
            help="The answer, if the question asks for more than yes or no; if it asks for a tool's result, JSON."
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="The reason, which the agent is told.")] = "",
    url: Url = "",
    data: Data = DEFAULT_DATA,
    token: Token = "",
    user: User = DEFAULT_USER,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Approve, --deny or --answer a question that a run is waiting on; without the question's ID, list the open questions."""
    from ops.cli.hub_access import access_to

    place, access = channel_of(tenant, channel).wire, access_to(url, data, token, user, tenant)
    run(_approve(access, place, GivenAnswer(request, deny, answer, reason)))


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """The answer that the command line gives to a question."""

    request_id: str
    denies: bool
    answer: str | None
    reason: str


async def _approve(access: Access, channel: str, given: GivenAnswer) -> None:
    async with access.connected() as hub:
        waiting = {one["request_id"]: one for one in (await hub.state(channel)).state.get("pending_requests", [])}
        if not given.request_id:
            _list(channel, waiting)
            return
        if given.request_id not in waiting:
            named = f"open are {', '.join(waiting)}" if waiting else "none is open"
            raise CommandFailed(f"no question {given.request_id} is open in {channel}: {named}")
        response = _response(waiting[given.request_id], given)
        stored = (await hub.command("tool.call.response", channel, {"request_id": given.request_id, **response})).stored
    if is_terminal():
        print(f"answered {given.request_id} as #{stored.seq}")
    else:
        print(json.dumps({"request_id": given.request_id, **response, "id": stored.id, "seq": stored.seq}))


def _list(channel: str, waiting: Mapping[str, Mapping[str, Any]]) -> None:
    if not waiting and is_terminal():
        print(f"no question is open in {channel}")
    for request_id, request in waiting.items():
        print(printable(f"{request_id}  {question_text(request)}") if is_terminal() else json.dumps(request))


def _response(request: Mapping[str, Any], given: GivenAnswer) -> dict[str, Any]:
    """The fields of the `tool.call.response`.

    Raises:
        CommandFailed: the options do not fit the question.
    """
    more = {"reason": given.reason} if given.reason else {}
    if request["kind"] in {"approval", "confirmation"}:
        if given.answer is not None:
            raise CommandFailed(
                "this question is answered without --answer: it is approved, or denied with --deny", EXIT_USAGE
            )
        return {"decision": "deny" if given.denies else "approve", **more}
    if given.denies or given.answer is None:
        hint = choices_text(choices_of(request))
        raise CommandFailed(
            f"this question needs --answer {hint or 'TEXT'}; `hub cancel` ends its run instead", EXIT_USAGE
        )
    if request["kind"] == "client_tool":
        return {"result": _json(given.answer), **more}
    response = response_to(request, given.answer)
    if response is None:
        raise CommandFailed(f"that is no answer to: {question_text(request)}", EXIT_USAGE)
    return response | more


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise CommandFailed("--answer must be JSON: it is the result of a tool", EXIT_USAGE) from None
