"""The calls of an operator over HTTP: unfinished runs, parked events, nodes and workers; each of the own tenant alone."""

from __future__ import annotations

import asyncio

from consumers.groups.handler import DONE, Effects, Outcome, Park, Source
from consumers.worker import running
from streams.redis.groups import Groups
from streams.redis.log import Log
from support.consumer_rig import Recorder, Rig, conversation, say
from support.nodes import running_node, token
from support.run_rig import Client, options


async def test_unfinished_runs_workers_and_nodes(redis_url: str, log: Log, tenant: str) -> None:
    """A run is listed while it is under way, for its own tenant; so are its worker with the agent, and the node that answers."""
    done = asyncio.Event()

    async def patient(ctx, given):  # type: ignore[no-untyped-def]
        yield "working"
        await done.wait()

    alice, other = (Client(log, conversation(name, "c")) for name in (tenant, f"{tenant}-b"))
    eve = token("eve", tenant, {}, scope="operator")
    async with running_node(redis_url) as node, node.http(eve) as http:
        async with running(options(redis_url, {"patient": patient}), log):
            run_id = await alice.ask("x", "patient")
            await other.ask("x", "patient")
            await alice.until("agent.status", state="running")
            listed = (await http.get("/v1/runs")).json()
            running_now = (await http.get("/v1/processes")).json()
            done.set()
            await alice.end(run_id)
        after = (await http.get("/v1/runs")).json()

    assert listed["complete"]
    assert [(run["run_id"], run["state"], run["by"], run["segment"]) for run in listed["runs"]] == [
        (run_id, "running", "alice", 1)
    ]
    assert after == {"runs": [], "complete": True}
    assert running_now["answered_by"] in [one["node"] for one in running_now["nodes"]]
    assert [one["agents"] for one in running_now["workers"] if "patient" in one["agents"]] == [["patient"]]


async def test_parked_events_are_listed_by_page_and_put_back(redis_url: str, log: Log, tenant: str) -> None:
    """The own tenant's, with the reason, over pages; `manage` on everything puts one back, once; another tenant's is not there."""
    is_mended = False

    def react(_source: Source, _effects: Effects) -> Outcome:
        return DONE if is_mended else Park("not yet")

    mine, other = Recorder(react, tenant=tenant), Recorder(react, tenant=f"{tenant}-b")
    auditor, manager = (
        token("eve", tenant, {}, scope="auditor"),
        token("mia", tenant, {"*": ["manage"]}, scope="operator"),
    )
    async with running_node(redis_url) as node, Rig(log, mine, other):
        await say(log, conversation(f"{tenant}-b", "theirs"), "x")
        for name in "abc":
            await say(log, conversation(tenant, name), "x")
        groups = Groups(log)
        while len(await groups.parked(mine.name)) + len(await groups.parked(other.name)) < 4:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)  # the handlers returned; their parking is a round trip away
        (theirs,) = await groups.parked(other.name)
        async with node.http(auditor) as http:
            told = (await http.get("/v1/parked")).json()
            rest, after = [], ""
            while after is not None:
                page = (await http.get("/v1/parked", params={"after": after, "limit": 1})).json()
                rest, after = [*rest, *page["parked"]], page["next"]
            bad = await http.get("/v1/parked", params={"after": "x"})
            refused = await http.post(f"/v1/parked/{told['parked'][0]['id']}/retry")
        is_mended = True
        async with node.http(manager) as http:
            first = told["parked"][0]
            answers = [await http.post(f"/v1/parked/{one}/retry") for one in (first["id"], first["id"], theirs.id, "x")]
        await mine.until(lambda: len(mine.seen) == 4)

    assert [(one["type"], one["reason"], one["handler"]) for one in told["parked"]] == [
        ("chat.message", "not yet", mine.name)
    ] * 3
    assert {one["channel"] for one in told["parked"]} == {f"conversation:{name}" for name in "abc"}
    assert rest == told["parked"]
    assert (bad.status_code, bad.json()["code"]) == (422, 4005)
    assert (refused.status_code, refused.json()["code"]) == (403, 4003)
    assert [answer.status_code for answer in answers] == [204, 404, 404, 404]
