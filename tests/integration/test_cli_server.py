"""`hub dev` and `hub serve` as processes: they come up, survive what they supervise, and end cleanly."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.client import HubClient
from hub.config import DEV_SECRET, Settings
from ops.cli.identity import ALL_GRANTS, signed
from support.blocking_agent import begun
from support.hub_process import PROGRAM, Server
from support.nodes import SECRET, data_folder, token
from support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Server]:
    """`hub dev` on a free port and a data folder of its own."""
    server = Server("dev", "--port", "0", "--data", str(tmp_path / "data"))
    yield server
    server.process.kill()
    server.process.communicate()


def a_token(tenant: str) -> str:
    return signed(Settings(jwt_secret=DEV_SECRET), "alice", tenant, ALL_GRANTS, 600)


async def test_dev_survives_its_redis_and_keeps_what_was_said(dev: Server, tmp_path: Path, tenant: str) -> None:
    """The client's socket stays, its command is answered once Redis is back, the history is whole."""
    async with HubClient(dev.url, a_token(tenant), connect_timeout_s=100) as hub:
        welcome = hub.welcome
        await hub.send("conversation:1", "before")
        noted = json.loads((tmp_path / "data/redis.json").read_text())
        async with asyncio.timeout(40):
            while not _is_written(tmp_path / "data", "before"):  # noqa: ASYNC110 - another process raises no event
                await asyncio.sleep(0)
        os.kill(noted["pid"], signal.SIGKILL)

        await hub.send("conversation:1", "after")

        told = [event.payload["text"] for event in (await hub.history("conversation:1")).events]
        assert told == ["before", "after"]
        assert hub.welcome == welcome
        assert json.loads((tmp_path / "data/redis.json").read_text())["url"] == noted["url"]


def _is_written(data: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in data.rglob("*.aof*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_ends_cleanly_and_takes_its_redis_along(dev: Server, number: int, tmp_path: Path) -> None:
    """Ctrl-C is how it is stopped, and so a success as SIGTERM is; no traceback, no redis-server left."""
    redis = json.loads((tmp_path / "data/redis.json").read_text())["pid"]

    assert dev.end(number) == (0, "")

    assert dev.banner.endswith(f"Stopped; the data stays in {tmp_path}/data.\n")
    assert not Path(f"/proc/{redis}").exists()


async def test_a_failure_is_told_in_lines_for_people_on_a_terminal(tmp_path: Path, tenant: str) -> None:
    """The traceback of an agent stands below its line; elsewhere than on a terminal a line is JSON."""
    (tmp_path / "boom.py").write_text("async def run(ctx, given):\n    yield given.nothing\n")
    terminal, ours = os.openpty()
    env = {"HUB_AGENTS": "boom=boom:run", "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    server = Server("dev", "--port", "0", "--data", str(tmp_path / "data"), env=env, stderr=ours)
    try:
        async with HubClient(server.url, a_token(tenant), connect_timeout_s=100) as hub:
            followed = hub.subscribe("conversation:1")
            await hub.send("conversation:1", "go", agent="boom")
            async for event in followed:
                if event.type == "agent.complete":
                    break
        server.end(signal.SIGTERM)
    finally:
        server.process.kill()
        server.process.communicate()
        os.close(ours)
    told = os.read(terminal, 1 << 16).decode().replace("\r\n", "\n")
    os.close(terminal)

    assert re.search(r"Z error consumers\.\S+ agent boom failed in run .*\n    Traceback .*:\n", told), told
    assert "    AttributeError: " in told


def test_a_taken_port_is_one_line(dev: Server, tmp_path: Path) -> None:
    """The second one says what to do and changes nothing."""
    port = dev.url.rpartition(":")[2]

    second = subprocess.run(
        [*PROGRAM, "dev", "--port", port, "--data", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 1
    assert re.fullmatch(r"hub dev: cannot listen on .*: choose another --port\n", second.stderr)
    assert not (tmp_path / "other").exists()


async def test_serving_processes_share_a_port_and_are_replaced(redis_url: str, tenant: str) -> None:
    """A node that is killed is started again on the same port; SIGTERM ends all of them."""
    env = {
        "REDIS_URL": redis_url, "HUB_JWT_SECRET": SECRET, "HUB_DRAIN_SECONDS": "0", "HUB_DATA": data_folder(),
    }  # fmt: skip # a table
    server = Server("serve", "--workers", "2", "--port", "0", env=env)
    try:
        async with HubClient(server.url, token("alice", tenant), connect_timeout_s=100) as hub:
            await hub.send("conversation:1", "one")
            victims = server.nodes()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)

            await hub.send("conversation:1", "two")

            assert [event.seq for event in (await hub.history("conversation:1")).events] == [1, 2]
        assert len(victims) == 2
    finally:
        code, _ = server.end(signal.SIGTERM)
    assert code == 0


async def test_dev_on_another_address_makes_and_prints_a_secret_of_its_own(tmp_path: Path, tenant: str) -> None:
    """Others reach it, so the public secret signs nothing; the printed one does, and the token beside it is good."""
    server = Server("dev", "--port", "0", "--data", str(tmp_path / "data"), env={"HUB_HOST": "0.0.0.0"})
    try:
        made = re.search(r"HUB_JWT_SECRET=(\S+)", server.banner)
        assert made, server.banner
        own = signed(Settings(jwt_secret=made[1]), "alice", tenant, ALL_GRANTS, 600)
        async with httpx.AsyncClient(base_url=server.url) as http:
            statuses = [
                (
                    await http.get("/v1/channels/conversation:1/events", headers={"Authorization": f"Bearer {text}"})
                ).status_code
                for text in (a_token(tenant), own)
            ]
    finally:
        server.process.kill()
        server.process.communicate()

    assert len(made[1]) >= 32
    assert made[1] != DEV_SECRET
    assert statuses == [401, 200]


async def test_dev_on_another_address_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    """A page whose name was pointed at it (DNS rebinding) reads nothing, whatever the secret; a setting lists more names."""
    env = {"HUB_HOST": "0.0.0.0", "HUB_ALLOWED_HOSTS": "hub.test", "HUB_JWT_SECRET": "s" * 40}
    server = Server("dev", "--port", "0", "--data", str(tmp_path / "data"), env=env)
    names = ("rebind.example", "localhost", "127.0.0.1", "hub.test", socket.gethostname())
    try:
        async with httpx.AsyncClient(base_url=server.url) as http:
            answers = {name: await http.get("/openapi.json", headers={"Host": name}) for name in names}
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://rebind.example:{urlsplit(server.url).port}/ws", host="127.0.0.1")
    finally:
        server.process.kill()
        server.process.communicate()

    foreign = answers.pop("rebind.example")
    assert (foreign.status_code, foreign.headers["content-type"]) == (403, "application/problem+json")
    assert "HUB_ALLOWED_HOSTS" in foreign.text
    assert {answer.status_code for answer in answers.values()} == {200}
    assert refused.value.response.status_code == 403


async def test_the_node_beside_a_blocking_agent_answers(tmp_path: Path, tenant: str) -> None:
    """In `hub dev` everybody else goes on, and so does the run afterwards."""
    gate = tmp_path / "gate"
    gate.touch()
    env = {
        "HUB_AGENTS": "block=support.blocking_agent:run",
        "BLOCKING_AGENT_GATE": str(gate),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    server = Server("dev", "--port", "0", "--data", str(tmp_path / "data"), env=env)
    try:
        async with HubClient(server.url, a_token(tenant), connect_timeout_s=100) as hub:
            followed = hub.subscribe("conversation:1")
            await hub.send("conversation:1", "block", agent="block")
            await until(lambda: len(begun(gate)) == 1)
            for number in range(5):
                await hub.send("conversation:2", f"{number}")
            gate.unlink()
            async with asyncio.timeout(60):
                async for event in followed:
                    if event.type == "agent.complete":
                        break
        code, err = server.end(signal.SIGINT)
    finally:
        server.process.kill()
        server.process.communicate()

    assert event.payload["outcome"] == "success"
    assert (code, err) == (0, "")
