"""Unbreakable answer: client, node and worker killed while it streams; every device ends with the text of its end.

Each answer is struck at three random places: a client is cut or thrown away, a node and the worker at it get SIGKILL. The seed is
printed; `HUB_TORTURE_SEED` repeats it, `HUB_TORTURE_POINTS` is the number of strikes (20 of them are the full run).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest

from ops.children import NodeProcess
from streams.channel import Channel, parse_channel
from streams.redis.log import Log
from support import slow_agent
from support.answer_stage import Audience, Device, Stage, WorkerProcess, offsets, stage_in
from support.run_rig import Client
from support.stream_rules import lines_of, log_violations

STRIKES = ("client", "node", "worker")
POINTS = int(os.environ.get("HUB_TORTURE_POINTS", "12"))
ANSWERS = -(-POINTS // len(STRIKES))
SEED = int(os.environ.get("HUB_TORTURE_SEED") or random.SystemRandom().randrange(2**32))
CANCEL_WITHIN_S = 1.0
LEAD = 60
"""Code points by which an answer may run ahead of the place where it is struck next: on a starved machine it waits there."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The processes; each test puts back what it killed."""
    with stage_in(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
async def log(stage: Stage) -> AsyncIterator[Log]:
    """The log itself: what every device must agree with."""
    await stage.start()
    log = await Log.open(stage.redis.url)
    yield log
    await log.close()


class Act:
    """One answer to one question, from the question until everybody has seen its end."""

    def __init__(self, stage: Stage, log: Log, name: str, chance: random.Random) -> None:
        self.stage, self.log, self.name, self.chance = stage, log, name, chance
        self.channel: Channel = parse_channel("t", f"conversation:{name}")
        self.audience = Audience(stage, self.channel.wire)
        self.client = Client(log, self.channel)
        self.run_id = ""
        self.struck: list[str] = []
        self.struck_ms: list[float] = []
        self._asking: asyncio.Task[Any] | None = None
        self._restarts: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.stage.start()
        for user, node in (("alice", 0), ("alice", 1), ("bob", 0)):
            await self.audience.join(user, first_node=node)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await asyncio.gather(*self._restarts)
        await self.audience.leave()

    @property
    def devices(self) -> list[Device]:
        """Everybody who follows."""
        return self.audience.devices

    def allow(self, offset: int) -> None:
        """Let the slow agent go on to this place of its answer, and no further."""
        slow_agent.allow(self.stage.effects, self.name, offset)

    def ask(self, agent: str) -> None:
        """Ask the agent on the first device. The answer to the command may take as long as the device is dead."""
        command = self.devices[0].command("chat.message", {"text": self.name, "agent": agent})
        self._asking = asyncio.create_task(command)

    async def begun(self) -> str:
        """The run's id, from the reply to the question."""
        assert self._asking is not None
        async with asyncio.timeout(60):
            self.run_id = (await self._asking)["run_id"]
        return self.run_id

    async def seen(self, offset: int) -> None:
        """Until some device shows so much of the answer, or its end."""
        await self.audience.until(
            lambda: any(d.screen.length >= offset or "agent.complete" in d.screen.types for d in self.devices)
        )

    async def strike(self, what: str) -> None:
        """Kill one of them. Nodes and workers are started again at once; nobody waits for that."""
        self.struck.append(what)
        self.struck_ms.append(time.time() * 1000)
        if what == "node":
            self._replace(self.chance.choice(self.stage.nodes))
        elif what == "client":
            device = self.chance.choice(self.devices)
            if self.chance.random() < 0.5:
                device.cut()
            else:
                await device.reload()
        else:
            await self._kill_worker()

    async def _kill_worker(self) -> None:
        """The one that is at the run, if one is already; else any, which may be about to take it."""
        run_id = await self.begun()
        worker = await self.stage.holder(self.log, self.channel, run_id)
        living = [worker for worker in self.stage.workers if worker.pid]
        self._replace(worker or self.chance.choice(living))

    def _replace(self, process: NodeProcess | WorkerProcess) -> None:
        process.kill()
        self._restarts.append(asyncio.create_task(self.stage.restart(process)))

    async def over(self) -> dict[str, Any]:
        """Until every device has seen everything; the run's `agent.complete`."""
        complete = await self.client.end(await self.begun(), within_s=150)
        last = (await self.client.events())[-1].seq
        await self.audience.until(lambda: all(device.screen.seq >= last for device in self.devices))
        return complete

    async def check(self, complete: dict[str, Any]) -> None:
        """Every device holds what the log says, and the log keeps the rules."""
        events = await self.client.events()
        ends = [e.payload["text"] for e in events if e.type == b"assistant.message.end"]
        for number, device in enumerate(self.devices):
            assert not device.trouble, f"device {number}: {device.trouble}"
            assert device.screen.faults == [], f"device {number}"
            assert device.screen.texts(self.run_id) == ends, f"device {number}"
            if device.screen.starts == 1 and not device.is_harmed:
                tapes = [shown.tape for shown in device.screen.messages.values()]
                await self.audience.until(lambda tapes=tapes: tapes == ends, within_s=60)
        assert [e.payload["run_id"] for e in events if e.type == b"agent.complete"] == [self.run_id]
        assert complete["attempts"] == 1 + sum(
            e.type == b"agent.status" and e.payload.get("reason") == "its worker was lost" for e in events
        )
        lines = lines_of(self.channel, events)
        assert log_violations({self.channel.wire: lines}, self.channel.tenant) == []

    def in_time(self, complete_ms: float) -> int:
        """The number of strikes that hit before the answer was over."""
        return sum(struck_ms < complete_ms for struck_ms in self.struck_ms)


async def _complete_ms(act: Act) -> int:
    return next(int(e.id.split(b"-")[0]) for e in await act.client.events() if e.type == b"agent.complete")


@pytest.mark.timeout(200 + 50 * ANSWERS)
async def test_every_device_ends_with_the_text_of_the_end(stage: Stage, log: Log) -> None:
    """Client, node and worker killed at random places of each answer; a further device opens the channel in the middle."""
    print(f"HUB_TORTURE_SEED={SEED}, {ANSWERS} answers, {ANSWERS * len(STRIKES)} strikes")
    chance = random.Random(SEED)
    told: Counter[str] = Counter()
    for number in range(ANSWERS):
        name = f"q{number}"
        length = sum(map(len, slow_agent.texts(name)))
        places = offsets(chance, len(STRIKES) + 1, length)
        plan = chance.sample([*STRIKES, "join"], len(places))
        async with Act(stage, log, name, chance) as act:
            act.allow(0)
            act.ask("slow")
            for place, what in zip(places, plan, strict=True):
                act.allow(min(place + LEAD, length - LEAD))
                await act.seen(place)
                if what == "join":
                    await _join_in_the_middle(act, length)
                else:
                    await act.strike(what)
            act.allow(length)
            complete = await act.over()

            story = f"seed {SEED}, answer {number}: " + ", ".join(
                f"{what}@{place}" for what, place in zip(plan, places, strict=True)
            )
            print(story, f"attempts {complete['attempts']}")
            await act.check(complete)
            assert complete["outcome"] == "success", story
            assert act.devices[1].screen.texts(act.run_id) == slow_agent.texts(name), story
            calls = Counter(slow_agent.effects(stage.effects, act.run_id))
            assert set(calls) == {f"{act.run_id}/1/{act.run_id}.c0", f"{act.run_id}/note"}, story
            assert max(calls.values()) <= complete["attempts"], story
            told["strikes in time"] += act.in_time(await _complete_ms(act))
            told["effects repeated under their key"] += sum(calls.values()) - len(calls)
            told[f"attempts {complete['attempts']}"] += 1
            told["resets"] += sum(e.type == b"assistant.message.reset" for e in await act.client.events())
    print(json.dumps(told))

    assert told["strikes in time"] == ANSWERS * len(STRIKES), told


async def _join_in_the_middle(act: Act, length: int) -> None:
    """A device that opens the channel now shows at once what the others have seen."""
    seen = max(device.screen.length for device in act.devices)
    device = await act.audience.join("carol", first_node=act.chance.randrange(2))
    is_reset = any("assistant.message.reset" in other.screen.types for other in act.devices)
    assert device.screen.length >= seen or is_reset
    assert device.screen.length <= length
    device.is_harmed = True  # it has missed the beginning: its tape does not come from deltas alone


async def test_a_tool_that_may_not_be_repeated_is_not(stage: Stage, log: Log) -> None:
    """The worker killed around a tool with an effect: it was carried out at most once, and the run says how it ended."""
    chance = random.Random(SEED)
    length = len("".join([*slow_agent.words("once", 0)[:10], *slow_agent.words("once", 1)[:10]]))
    outcomes: Counter[str] = Counter()
    for number, has_begun in enumerate((False, True)):
        async with Act(stage, log, f"once{number}", chance) as act:
            act.ask("once")
            await act.begun()
            if has_begun:
                await act.client.until("tool.call.start", run_id=act.run_id)
            else:
                await act.seen(chance.randrange(length // 3))
            await act.strike("worker")
            complete = await act.over()

            await act.check(complete)
            calls = slow_agent.effects(stage.effects, act.run_id)
            assert len(calls) <= 1
            is_told = [e for e in await act.client.events() if e.type == b"tool.call.error"]
            if complete["outcome"] == "failed":
                assert complete["error"]["code"] == is_told[0].payload["reason"] == "worker_lost"
            else:
                assert len(calls) == 1
            outcomes[complete["outcome"]] += 1
    print(f"seed {SEED}: {dict(outcomes)}")


async def test_a_run_that_loses_two_workers_fails_with_the_same_text_everywhere(stage: Stage, log: Log) -> None:
    """The second attempt is the last: what was said so far is its end, on every device."""
    chance = random.Random(SEED)
    name = "two"
    async with Act(stage, log, name, chance) as act:
        act.allow(LEAD)
        act.ask("slow")
        await act.begun()
        await act.client.until("assistant.message.start", run_id=act.run_id)
        await act.strike("worker")
        again = await act.client.until("agent.status", run_id=act.run_id, state="running", attempt=2)
        act.allow(4 * LEAD)
        await act.seen(2 * LEAD)
        await act.strike("worker")
        complete = await act.over()

        await act.check(complete)
    assert again["segment"] == 1
    assert (complete["outcome"], complete["attempts"]) == ("failed", 2)
    assert "".join(slow_agent.texts(name)).startswith("".join(act.devices[0].screen.texts(act.run_id)))


async def test_a_third_device_stops_an_answer_within_a_second(stage: Stage, log: Log) -> None:
    """Whoever may write can stop it, from any device and node, also when the node of the one who asked is dead.

    The second is counted in words: what is said after the cancel is less than what the agent says in a second.
    """
    chance = random.Random(SEED)
    async with Act(stage, log, "stop", chance) as act:
        act.ask("endless")
        await act.begun()
        await act.seen(200)
        stage.nodes[0].kill()
        shown = max(device.screen.length for device in act.devices)
        await act.seen(shown + 100)
        third = await act.audience.join("bob", first_node=1)
        third.is_harmed = True

        shown = max(device.screen.length for device in act.devices)
        began_s = time.monotonic()
        reply = await third.command("chat.cancel", {"reason": "enough"})
        await act.audience.until(lambda: "agent.complete" in third.screen.types)
        took_s = time.monotonic() - began_s
        complete = await act.over()

        await act.check(complete)
        print(f"stopped within {took_s * 1000:.0f} ms")
        assert (reply["run_id"], reply["state"]) == (act.run_id, "cancelling")
        assert complete["outcome"] == "cancelled"
        end = await act.client.until("assistant.message.end", run_id=act.run_id)
        assert end["finish_reason"] == "cancelled"
        paced = len("".join(slow_agent.words("stop", 0))) / (slow_agent.PARTS[0] * slow_agent.PACE_S)
        assert (
            len(end["text"]) - shown < CANCEL_WITHIN_S * paced
        )  # in the answer's own time: a starved worker talks slower
        assert "".join(slow_agent.words("stop", 0) * 50).startswith(end["text"])
