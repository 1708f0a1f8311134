"""Runs in tests: started as the hub starts them, followed to their end, and checked against docs/protocol.md#stream-rules."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from consumers.agents.loading import served
from consumers.groups.handler import RetryPolicy
from consumers.worker import WorkerOptions, running
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft, Entry
from streams.errors import LogUnavailable
from streams.events import CATALOGUE
from streams.records.runs import Invitation, answering, cancelling, opening, run_id_of
from streams.redis.log import Log
from support.payloads import read
from support.run_rules import may

_numbers = itertools.count()


def options(url: str, agents: dict[str, Any], **more: Any) -> WorkerOptions:
    """A worker's options with short leases."""
    quick: dict[str, Any] = {
        "partition_life_ms": 900, "lease_ms": 2_000,
        "look_again_ms": 300, "job_patience_ms": 800, "block_ms": 100, "drain_s": 0.2, "grace_s": 1.0,
        "retry": RetryPolicy(attempts_max=5, first_s=0.02, factor=1.0, longest_s=0.02),
    }  # fmt: skip # a table
    found = {name: served(name, agent) for name, agent in agents.items()}
    return WorkerOptions(redis_url=url, agents=found, **(quick | more))


def conversation(tenant: str, name: str = "c") -> Channel:
    """A conversation."""
    return parse_channel(tenant, f"conversation:{name}")


POLL_S = 0.01
"""Seconds between checks of a condition that no event announces."""


class Client:
    """Appends a person's commands as the hub does."""

    def __init__(self, log: Log, channel: Channel, user: str = "alice") -> None:
        self.log, self.channel, self.user = log, channel, user

    async def command(self, type_: str, payload: dict[str, Any], *guards: Any) -> str:
        draft = Draft(
            self.channel, type_, json.dumps(payload).encode(), Actor("user", self.user), command=f"t{next(_numbers)}",
            guards=guards, is_wanted=True,
        )  # fmt: skip # many arguments
        return (await self.log.append(draft)).id

    async def ask(self, text: str, agent: str = "a", shift_ms: int = 0, **more: Any) -> str:
        """Append a chat.message that the agent answers, with the current time shifted by `shift_ms`; returns the run's ID."""
        guards = opening(self.channel, Invitation(agent, self.user, _now_ms() + shift_ms, **more))
        return run_id_of(self.channel, await self.command("chat.message", {"text": text}, *guards))

    async def invoke(self, given: Any, agent: str = "a", **more: Any) -> str:
        guards = opening(self.channel, Invitation(agent, self.user, _now_ms(), parent="", **more))
        payload = {"agent": agent, "input": given} | ({"run_id": more["run_id"]} if "run_id" in more else {})
        event_id = await self.command("agent.invoke", payload, *guards)
        return more.get("run_id") or run_id_of(self.channel, event_id)

    async def regenerate(self, message_id: str, agent: str = "a") -> str:
        guards = opening(self.channel, Invitation(agent, self.user, _now_ms(), parent=""))
        return run_id_of(self.channel, await self.command("chat.regenerate", {"message_id": message_id}, *guards))

    async def answer(self, request_id: str, **response: Any) -> str:
        guard = answering(self.channel, request_id, self.user)
        return await self.command("tool.call.response", {"request_id": request_id} | response, guard)

    async def cancel(self, run_id: str, mode: str = "graceful") -> str:
        return await self.command(
            "agent.cancel",
            {"run_id": run_id, "mode": mode},
            cancelling(self.channel, run_id, mode),  # type: ignore[arg-type]
        )

    async def events(self) -> list[Entry]:
        found: list[Entry] = []
        while page := await self.log.page(self.channel, found[-1].id.decode() if found else "0"):
            found += page
        return found

    async def until(self, type_: str, within_s: float = 40, **fields: Any) -> dict[str, Any]:
        """Wait for the first event of this type with these fields; returns its payload."""
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(LogUnavailable):  # fault tests make Redis unavailable
                    for entry in await self.events():
                        if entry.type.decode() == type_ and fields.items() <= entry.payload.items():
                            return entry.payload
                await asyncio.sleep(0.01)

    async def end(self, run_id: str, within_s: float = 40) -> dict[str, Any]:
        """Wait for the run's `agent.complete`; returns its payload."""
        return await self.until("agent.complete", within_s, run_id=run_id)

    async def served(self, agent: Any, text: str = "x", **more: Any) -> dict[str, Any]:
        """Ask one agent one question, with a worker that serves it; returns the `agent.complete`."""
        async with running(options(self.log.url, {"a": agent}), self.log):
            return await self.end(await self.ask(text, **more))

    async def text(self, run_id: str) -> str:
        """The concatenated text of the run's messages."""
        ends = [e.payload for e in await self.events() if e.type == b"assistant.message.end"]
        return "|".join(end["text"] for end in ends if end["run_id"] == run_id)

    async def types(self, *, of: str = "") -> list[str]:
        """The types of the channel's events, in order; with `of`, only those of that run."""
        return [e.type.decode() for e in await self.events() if not of or e.payload.get("run_id") == of]


def _now_ms() -> int:
    import time

    return int(time.time() * 1000)


def check_rules(entries: Iterable[Entry]) -> None:
    """Check a channel's events against docs/protocol.md#stream-rules (1, 5, 7, 8, 10, 11), and payloads against the catalogue."""
    events = list(entries)
    by_id = {event.id.decode(): event for event in events}
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for event in events:
        read(CATALOGUE[event.type.decode()], event.payload)
        meta = json.loads(event.meta)
        if b'"user"' not in event.actor:
            source = by_id[meta["causation"]]
            assert meta["correlation"] == json.loads(source.meta).get("correlation", meta["causation"])
    runs = {e.payload["run_id"] for e in events if e.type == b"agent.status"}
    for run_id in runs:
        _check_run([e for e in events if e.payload.get("run_id") == run_id])


def _check_run(events: list[Entry]) -> None:
    def of(type_: str) -> list[dict[str, Any]]:
        return [event.payload for event in events if event.type.decode() == type_]

    states = [None, *(status["state"] for status in of("agent.status"))]
    for previous, following in itertools.pairwise(states):
        assert may(previous, following), f"{previous} -> {following} in {states}"
    completes = of("agent.complete")
    assert len(completes) <= 1
    if completes:
        after = [e for e in events[[e.type for e in events].index(b"agent.complete") + 1 :] if b'"user"' not in e.actor]
        assert not after, [e.type for e in after]
    for start, end in (("assistant.message.start", ("assistant.message.end",)),):
        _paired(of(start), [p for name in end for p in of(name)], "message_id", is_over=bool(completes))
    results = of("tool.call.complete") + of("tool.call.error")
    _paired(of("tool.call.start"), results, "tool_call_id", is_over=bool(completes))
    _paired(of("tool.call.request"), of("tool.call.resolved"), "request_id", is_over=bool(completes))
    assert [output["index"] for output in of("agent.output")] == list(range(len(of("agent.output"))))
    attempts: dict[str, int] = {}
    for event in events:
        payload = event.payload
        if "message_id" in payload and "attempt" in payload:
            assert payload["attempt"] >= attempts.get(payload["message_id"], 0)
            attempts[payload["message_id"]] = payload["attempt"]


def _paired(opened: list[dict[str, Any]], closed: list[dict[str, Any]], name: str, *, is_over: bool) -> None:
    begun, ended = [one[name] for one in opened], [one[name] for one in closed]
    assert len(begun) == len(set(begun)), f"begun twice: {begun}"
    assert len(ended) == len(set(ended)), f"ended twice: {ended}"
    assert set(ended) <= set(begun)
    if is_over:
        assert set(ended) == set(begun), f"left open: {set(begun) - set(ended)}"


async def wait_until(condition: Callable[[], Awaitable[object]], within_s: float = 40) -> None:
    """Wait for a condition in Redis that no event announces."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(POLL_S)
