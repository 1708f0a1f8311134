"""One trace from a keystroke to the last delta, with a real node, worker and agent; and the context where nothing is recorded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from consumers.agents import AgentInput, Back, Context, Item, ToolCall
from consumers.worker import running
from hub.client import HubClient
from hub.client.http_socket import HttpSocket
from hub.uploads.limits import UploadLimits
from streams.channel import parse_channel
from streams.redis.log import Log
from streams.tracing import open_tracing, valid_traceparent
from support.nodes import Node, running_node, token
from support.run_rig import options
from support.socket_client import client
from support.span_tree import kept_spans, traceparent_of, tree
from support.uploads import CHANNEL as FILES
from support.uploads import file_hub

CHANNEL = "conversation:c"
GUIDE = Path(__file__).parents[2] / "docs/guides/tracing.md"
CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    exporter = kept_spans()
    exporter.clear()
    return exporter


class Gate:
    """An agent of two halves with a tool between them: the second half waits until the client has been cut off."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def talk(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
        yield "The first half. "
        await self.is_open.wait()
        yield ToolCall("look", {}, self._look)
        yield "The second half."

    async def _look(self, _args: object, _tool: object) -> str:
        with trace.get_tracer("somebody's library").start_as_current_span("query"):
            return "found"


@pytest.fixture
async def gate(log: Log) -> AsyncIterator[Gate]:
    gate = Gate()
    tracing = open_tracing(1.0)
    async with running(options(log.url, {"talk": gate.talk}, tracing=tracing), log):
        yield gate


async def test_one_trace_from_the_keystroke_to_the_last_delta_across_a_resume(
    redis_url: str, tenant: str, gate: Gate, spans: InMemorySpanExporter
) -> None:
    """The socket is cut in the middle of the answer, and the client resumes on another node."""
    async with running_node(redis_url, traced_share=1.0) as one, running_node(redis_url, traced_share=1.0) as two:
        keystroke = trace.get_tracer("the client").start_span(
            "keystroke", context=trace.set_span_in_context(trace.INVALID_SPAN)
        )
        payload = {"text": "hello", "agent": "talk"}
        meta = {"traceparent": traceparent_of(keystroke)}
        async with client(one.ws_url, token("a", tenant)) as a:
            await a.subscribe(CHANNEL)
            command = {"type": "chat.message", "id": "c1", "channel": CHANNEL, "payload": payload, "meta": meta}
            await a.send_raw(json.dumps(command))
            await a.expect("assistant.message.delta")
            last = next(frame for frame in a.seen if "seq" in frame)
            a.reset()
        async with client(two.ws_url, token("a", tenant)) as a:
            subscribed = await a.subscribe(CHANNEL, after=last["id"], seq=last["seq"])
            gate.is_open.set()
            await a.expect("agent.complete")
            deltas = [frame for frame in a.seen if frame["type"] == "assistant.message.delta"]
        keystroke.end()

    found = [
        span for span in spans.get_finished_spans() if span.context.trace_id == keystroke.get_span_context().trace_id
    ]
    told = re.search(r"~~~\nkeystroke\n.*?~~~", GUIDE.read_text(encoding="utf-8"), re.DOTALL)

    assert subscribed["recovered"]
    assert {frame["meta"]["traceparent"][3:35] for frame in deltas} == {meta["traceparent"][3:35]}
    assert len(found) == len(spans.get_finished_spans())  # there is no other trace
    assert {span.parent.span_id for span in found if span.parent} <= {span.context.span_id for span in found}
    assert told is not None
    assert tree(found) == told[0].strip("~\n")


async def test_a_command_without_a_context_begins_a_trace_and_a_metric_names_it(
    redis_url: str, tenant: str, spans: InMemorySpanExporter
) -> None:
    async with running_node(redis_url, traced_share=1.0) as node, node.http() as http:
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.subscribe(CHANNEL)
            await a.say(CHANNEL, "hello")
            (event,) = await a.events(1)
        scraped = (await http.get("/metrics", headers={"Accept": "application/openmetrics-text"})).text
    trace_id, told = event["meta"]["traceparent"][3:35], tree(spans.get_finished_spans())

    assert told == "chat.message\n  deliver chat.message"
    assert re.search(rf'hub_command_to_ack_seconds_bucket.* # {{trace_id="{trace_id}"}}', scraped)
    assert re.search(rf'hub_publish_to_deliver_seconds_bucket.* # {{trace_id="{trace_id}"}}', scraped)


async def test_of_a_share_a_client_s_decision_is_kept(redis_url: str, tenant: str, spans: InMemorySpanExporter) -> None:
    """A traced command is recorded, one that is marked as not sampled is not, and of the others none for a share this small."""
    body = {"type": "chat.message", "channel": CHANNEL, "payload": {"text": "x"}}
    metas = [{"meta": {"traceparent": CONTEXT}}, {"meta": {"traceparent": f"{CONTEXT[:-1]}0"}}, {}]
    async with running_node(redis_url, traced_share=1e-12) as node:
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.subscribe(CHANNEL)
            for number, meta in enumerate(metas):
                await a.send_raw(json.dumps({**body, "id": str(number), **meta}))
            await a.events(3)

    assert sorted(span.name for span in spans.get_finished_spans()) == ["chat.message", "deliver chat.message"]


async def test_without_tracing_the_context_is_stored_and_passed_on(redis_url: str, tenant: str) -> None:
    """Of a socket's command and of a request; a malformed header is ignored, a malformed field is refused."""
    body = {"type": "chat.message", "payload": {"text": "x"}}
    events = f"/v1/channels/{CHANNEL}/events"
    async with running_node(redis_url) as node, node.http(token("a", tenant)) as http:
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.subscribe(CHANNEL)
            await a.send_raw(json.dumps({**body, "id": "1", "channel": CHANNEL, "meta": {"traceparent": CONTEXT}}))
            await http.post(events, json=body, headers={"traceparent": CONTEXT})
            await http.post(events, json=body, headers={"traceparent": "00-0-0-0"})
            stored = [event["meta"].get("traceparent") if "meta" in event else None for event in await a.events(3)]
            await a.send_raw(json.dumps({**body, "id": "2", "channel": CHANNEL, "meta": {"traceparent": "00-0-0-0"}}))
            refused = await a.expect("connection.error", re="2")

    assert stored == [CONTEXT, CONTEXT, None]
    assert refused["payload"]["code"] == 4005
    assert refused["payload"]["details"][0]["field"] == "meta"


async def test_the_client_sends_its_trace_with_each_command(redis_url: str, tenant: str) -> None:
    """A function is called for each command; over HTTP the trace is a header of the request."""
    contexts = [CONTEXT, None]
    async with running_node(redis_url) as node:
        async with HubClient(node.url, token("a", tenant), traceparent=lambda: contexts.pop(0)) as hub:
            await hub.send(CHANNEL, "one")
            await hub.send(CHANNEL, "two")
        async with HubClient(node.url, token("a", tenant), traceparent=CONTEXT) as hub:
            await hub.send(CHANNEL, "three")
            stored = (await hub.history(CHANNEL)).events
        socket = HttpSocket(node.url)
        opening = {"type": "connection.init", "id": "i", "payload": {"token": token("a", tenant)}}
        command = {"type": "chat.message", "id": "1", "channel": CHANNEL, "payload": {"text": "x"}}
        await socket.send(json.dumps(opening).encode())
        await socket.recv()
        await socket.send(json.dumps(command | {"meta": {"traceparent": CONTEXT}}).encode())
        posted = json.loads(await socket.recv())["payload"]["id"]
        await socket.close()
        async with HubClient(node.url, token("a", tenant)) as hub:
            (last,) = (await hub.history(CHANNEL, after=stored[-1].id)).events

    assert [event.meta.get("traceparent") for event in stored] == [CONTEXT, None, CONTEXT]
    assert (last.id, last.meta["traceparent"]) == (posted, CONTEXT)


FILE, LATE, RUN, CALL = (f"00-{number:032x}-{'1' * 16}-01" for number in range(1, 5))


async def test_the_end_of_a_file_is_in_the_trace_of_its_upload(redis_url: str, tenant: str, tmp_path: Path) -> None:
    """It is decided by a worker, or by its deadline."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"some bytes")
    async with file_hub(redis_url, tenant, tmp_path / "data") as files:
        async with HubClient(files.node.url, files.token(), traceparent=FILE) as hub:
            await hub.upload(FILES, path)
        async with HubClient(files.node.url, files.token(), traceparent=LATE) as hub:
            await hub.command("file.upload.request", FILES, {"filename": "b", "size": 1, "mime": "text/plain"})
        files.pass_s(UploadLimits().life_s + 1)
        await files.finisher.reap()
        found = [
            (event["type"], event["meta"]["traceparent"]) for event in await stored_events(files.node, tenant, FILES)
        ]

    assert sorted(found) == sorted(
        [
            *((f"file.{step}", FILE) for step in ("upload.request", "upload.complete", "ready")),
            *((f"file.{step}", LATE) for step in ("upload.request", "upload.failed")),
        ]
    )


async def test_what_follows_from_a_traced_command_is_in_its_trace(redis_url: str, tenant: str, gate: Gate) -> None:
    """A run that was cancelled before it began, and a recorded call."""
    async with running_node(redis_url) as node:
        async with HubClient(node.url, token("a", tenant)) as hub:
            await hub.send(CHANNEL, "the channel's turn is taken", agent="talk")
        async with HubClient(node.url, token("a", tenant), traceparent=RUN) as hub:
            asked = await hub.command("agent.invoke", CHANNEL, {"agent": "talk", "input": "x"})
            await hub.command("agent.cancel", CHANNEL, {"run_id": asked.payload["run_id"]})
        gate.is_open.set()
        async with client(node.ws_url, token("b", tenant)) as b:
            await b.subscribe(CHANNEL, after="0")
            await b.event("agent.complete", run_id=asked.payload["run_id"])
        async with node.http(token("eve", tenant, {}, scope="auditor")) as http:
            await http.get(f"/v1/channels/{CHANNEL}/state", headers={"traceparent": CALL})
        told = [
            *(await stored_events(node, tenant, CHANNEL)),
            *(await stored_events(node, tenant, "system:operators")),
        ]

    found = {
        (event["type"], event["meta"].get("traceparent"))
        for event in told
        if event["type"] == "operator.call" or event["payload"].get("run_id") == asked.payload["run_id"]
    }
    assert found == {*((f"agent.{step}", RUN) for step in ("cancel", "status", "complete")), ("operator.call", CALL)}


async def stored_events(node: Node, tenant: str, channel: str) -> list[dict[str, Any]]:
    page = await node.hub.log.page(parse_channel(tenant, channel), "0")
    return [json.loads(entry.wire(channel.encode())) for entry in page]


@pytest.mark.parametrize(
    "text",
    [
        CONTEXT[:-1],
        CONTEXT.upper(),
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"01{CONTEXT[2:]}",
        7,
    ],
)
def test_what_is_no_context_is_none(text: object) -> None:
    assert valid_traceparent(text) is None
    assert valid_traceparent(CONTEXT) == CONTEXT
