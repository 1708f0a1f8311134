"""The dialogue of `hub ask`: the answer as it is written, and the agent's questions to the person at the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from hub.client import Answer, ClientError, Event, HubClient, HubError, Item, Stored, follow
from ops.cli.answer_screen import AnswerScreen, question_text, response_to
from ops.cli.failure import EXIT_UNANSWERED, CommandFailed
from ops.cli.hub_access import Access
from streams.channel import Channel, Kind

_CANCEL_WITHIN_S: Final = 5.0
_AGENT_UNAVAILABLE: Final = 4007
_INVALID_STATE: Final = 4021


@dataclass(frozen=True, slots=True)
class AskOrder:
    """The question, and the options of the command."""

    text: str
    agent: str
    approves: bool
    shows_reasoning: bool


async def ask_agent(access: Access, place: Channel, order: AskOrder) -> None:
    """Ask, and hold the dialogue until the run has ended.

    Raises:
        AnswerFailed: the run did not succeed.
        CommandFailed: no agent answers, or the run waits for an answer that cannot be given here.
    """
    async with access.connected(*(["reasoning"] if order.shows_reasoning else [])) as hub:
        try:
            asked = await _send(hub, place, order)
        except HubError as refused:
            if refused.code == _AGENT_UNAVAILABLE:
                raise CommandFailed(await _without_agent(hub, order.agent)) from refused
            raise
        if "run_id" not in asked.payload:
            raise CommandFailed(f"no agent answers in {place.wire} by itself: name one with --agent")
        dialogue = Dialogue(hub, place.wire, Answer(asked), order)
        try:
            await dialogue.run()
        except asyncio.CancelledError:
            await dialogue.cancel()
            raise


async def _without_agent(hub: HubClient, wanted: str) -> str:
    """Says that nobody serves an agent, and which agents are served."""
    agents = (await hub.command("agent.list")).payload["agents"]
    served = ", ".join(agent["name"] for agent in agents if agent["available"])
    return f"no worker serves the agent {wanted or 'of this channel'}; " + (
        f"there are: {served}" if served else "none is served, so start `hub worker` or `hub dev`"
    )


async def _send(hub: HubClient, place: Channel, order: AskOrder) -> Stored:
    named = {"agent": order.agent} if order.agent else {}
    if place.kind is Kind.AGENT:
        return (await hub.command("agent.invoke", place.wire, {"input": order.text, **named})).stored
    return await hub.send(place.wire, order.text, **named)


class Dialogue:
    """One answer on the terminal, and the agent's questions to the person there."""

    def __init__(self, hub: HubClient, channel: str, answer: Answer, order: AskOrder) -> None:
        self._hub, self._channel, self._answer, self._order = hub, channel, answer, order
        self._screen = AnswerScreen()
        self._open: dict[str, dict[str, Any]] = {}
        self._typed: asyncio.Future[str] | None = None
        self._questions: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Show the answer until the run has ended.

        Raises:
            AnswerFailed: the run did not succeed.
            CommandFailed: the run waits for an answer that cannot be given here.
        """
        await self._tell_of_others()
        try:
            async with asyncio.TaskGroup() as group, aclosing(follow(self._hub, self._channel, self._answer)) as items:
                asking = group.create_task(self._ask_in_turn())
                await self._show(items)
                asking.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._screen.finish(self._answer.text)

    async def cancel(self) -> None:
        """Cancel the run."""
        try:
            async with asyncio.timeout(_CANCEL_WITHIN_S):
                await self._hub.command("agent.cancel", self._channel, {"run_id": self._answer.run_id})
        except (ClientError, TimeoutError) as error:
            self._screen.note(f"  the run was not cancelled: {error}")
        else:
            self._screen.note("  cancelled")

    async def _tell_of_others(self) -> None:
        """Mention earlier runs of the conversation: runs take turns, and one that waits for a person would look like a hang."""
        runs = (await self._hub.state(self._channel)).state.get("active_runs", [])
        for one in runs:
            if one["run_id"] == self._answer.run_id:
                break
            self._screen.note(f"  behind run {one['run_id']} of {one['agent']}, which is {one['state']}")

    async def _show(self, items: AsyncGenerator[Item]) -> None:
        async for item in items:
            if self._order.shows_reasoning:
                self._screen.show_reasoning(self._answer.reasoning)
            self._screen.show(self._answer.text)
            if isinstance(item, Event):
                self._take(item.type, dict(item.payload))

    def _take(self, kind: str, payload: dict[str, Any]) -> None:
        self._screen.show_event(kind, payload)
        if kind == "tool.call.request":
            self._requested(payload)
        elif kind == "tool.call.resolved" and self._open.pop(payload["request_id"], {}):
            if self._typed is not None and not self._typed.done():
                self._typed.set_result("")
            self._screen.note(f"  {payload['resolution']} by {payload.get('by', 'nobody')}")

    def _requested(self, request: dict[str, Any]) -> None:
        assignees = request.get("assignees")
        if assignees and self._hub.welcome["user"] not in assignees:
            self._screen.note(f"  {question_text(request)}: {', '.join(assignees)} may answer")
            return
        is_approved = self._order.approves and request["kind"] in {"approval", "confirmation"}
        if not is_approved and (request["kind"] == "client_tool" or not sys.stdin.isatty()):
            raise CommandFailed(
                f"the run waits for an answer ({request['request_id']}): {question_text(request)}", EXIT_UNANSWERED
            )
        self._open[request["request_id"]] = request
        self._questions.put_nowait(request["request_id"])

    async def _ask_in_turn(self) -> None:
        """Ask one question after the other, until cancelled."""
        while True:
            request = self._open.get(await self._questions.get())
            if request is not None:
                await self._settle(request)

    async def _settle(self, request: dict[str, Any]) -> None:
        if self._order.approves and request["kind"] in {"approval", "confirmation"}:
            self._screen.note(f"{question_text(request)} y")
            await self._respond(request, {"decision": "approve"})
            return
        response = None
        while response is None and request["request_id"] in self._open:
            self._screen.prompt(question_text(request))
            line = await self._line()
            if not line:  # answered elsewhere, or Ctrl-D
                break
            response = response_to(request, line)
        if response is not None:
            await self._respond(request, response)
        elif request["request_id"] in self._open:
            self._screen.note("  left for another client to answer; Ctrl-C cancels the run")

    async def _respond(self, request: dict[str, Any], response: dict[str, Any]) -> None:
        try:
            payload = {"request_id": request["request_id"], **response}
            await self._hub.command("tool.call.response", self._channel, payload)
        except HubError as refused:
            if refused.code != _INVALID_STATE:
                raise
            self._screen.note("  already answered by another client")

    async def _line(self) -> str:
        """Read a line with its line end; "" at the end of the input, or when the question is answered elsewhere."""
        loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
        typed: asyncio.Future[str] = loop.create_future()
        self._typed = typed

        def read() -> None:
            if not typed.done():
                typed.set_result(os.read(descriptor, 65_536).decode(errors="replace"))

        loop.add_reader(descriptor, read)
        try:
            return await typed
        finally:
            loop.remove_reader(descriptor)
