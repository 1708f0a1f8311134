"""The roles of ops/redis/users.acl on a real Redis: each does its work, and has no right that it does not need."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from hub.auth.signing import sign
from hub.client import HubClient
from support.hub_process import PROGRAM, Server
from support.nodes import ALL
from support.redis_place import Place

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the servers are killed")]

ROOM = "conversation:1"
ROLES = ("node", "worker", "auditor")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("redis"))
    yield place
    place.close()


def start_worker(place: Place, data: dict[str, str]) -> subprocess.Popen[str]:
    """A worker with the demo agent, and without a secret for tokens."""
    env = place.hub("worker", HUB_AGENTS="demo=consumers.agents.demo:agent", **data)
    worker = subprocess.Popen([*PROGRAM, "worker"], env=env, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert "is up" in worker.stdout.readline()
    return worker


async def use(url: str, token: str, file: Path) -> None:
    """The actions of users: messages, an answer of an agent, signals, a file, settings, a document, states and pages."""
    async with HubClient(url, token) as a, HubClient(url, token) as b:
        feed = b.subscribe(ROOM, after="0", presence=True, signals=True)
        await a.send(ROOM, "hi")
        await a.command("chat.message", ROOM, {"text": "explain", "agent": "demo"})
        async for item in feed:
            if getattr(item, "type", "") == "assistant.message.end":
                break
        a.publish_nowait("chat.typing", ROOM, {"state": "start"})
        await a.upload(ROOM, file)
        await a.command("chat.configure", ROOM, {"settings": {"title": "T"}})
        patch = [{"op": "add", "path": "/a", "value": 1}]
        await a.command("document.update", "document:d", {"base_version": 0, "patch": patch})
        await a.state(ROOM)
        await a.history(ROOM)
        await feed.aclose()
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as http:
        assert (await http.get(f"/v1/channels/{ROOM}/audit")).json()["whole"]


def rights(place: Place, role: str, url: str, **more: str) -> tuple[int, str]:
    """The exit code of `hub doctor` in a role, and its finding about rights."""
    env = place.hub(role, **more)
    done = subprocess.run([*PROGRAM, "doctor", "--url", url], env=env, capture_output=True, text=True, check=False)
    found = {one["what"]: one["text"] for one in map(json.loads, done.stdout.splitlines())}
    return done.returncode, found["acl"]


def test_each_role_can_do_its_work(place: Place, tmp_path: Path) -> None:
    """A node, a worker that has no secret for tokens, and an auditor: nothing is refused, as Redis and the doctor say."""
    secret, data = place.secrets / "jwt_secret", {"HUB_DATA": str(tmp_path)}
    file = tmp_path / "a.txt"
    file.write_text("hello")
    node = Server("serve", "--port", "0", env=place.hub("node", HUB_JWT_SECRET_FILE=str(secret), **data))
    worker = start_worker(place, data)
    try:
        asyncio.run(use(node.url, sign(secret.read_text(), "a", "t", ALL, 600, time.time()), file))
        denied = place.denied()
        examined = {role: rights(place, role, node.url, HUB_JWT_SECRET_FILE=str(secret), **data) for role in ROLES[:2]}
    finally:
        worker.terminate()
        worker.communicate(timeout=40)
        node.end(signal.SIGTERM)
    for command in (["replay", ROOM], ["state", ROOM], ["audit", "verify", ROOM], ["audit", "channels"]):
        asked = [*PROGRAM, *command, "--tenant", "t"]
        done = subprocess.run(asked, env=place.hub("auditor"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    denied += [one for one in place.denied() if one[0] == "auditor"]  # those of the node are what the doctor tried
    assert denied == []
    assert examined == {
        "node": (0, "the user has the rights that a node needs, and not those of a worker"),
        "worker": (0, "the user has the rights that the hub needs"),
    }


FORBIDDEN = ["FLUSHALL", "KEYS *", "CONFIG SET maxmemory 1", "ACL LIST", "SHUTDOWN", "MONITOR", "SET other 1"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("command", [*FORBIDDEN, "CLIENT KILL ID 1", "REPLICAOF NO ONE"])
def test_no_role_can_do_more(place: Place, role: str, command: str) -> None:
    """Not even read or write a key of somebody else."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        place.as_role(role).execute_command(command)


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("auditor", "XADD hub:x * a b"),
        ("auditor", "DEL hub:config"),
        ("auditor", "HSET hub:config a b"),
        ("node", "XREADGROUP GROUP g c STREAMS hub:{p00-x}:work >"),
        ("node", "GET arq:job:1"),
    ],
)
def test_roles_differ(place: Place, role: str, command: str) -> None:
    """An auditor changes nothing, and a node takes no work."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        place.as_role(role).execute_command(*command.split())


def test_without_a_name_there_is_nothing(place: Place) -> None:
    """Only the health check needs no password, and it may do nothing else."""
    for url, error in (
        ("redis://", redis.AuthenticationError),
        ("redis://health:x@", redis.exceptions.NoPermissionError),
    ):
        with redis.Redis.from_url(f"{url}127.0.0.1:{place.port}/0") as somebody, pytest.raises(error):
            somebody.info()
    with redis.Redis.from_url(f"redis://health:x@127.0.0.1:{place.port}/0") as health:
        assert health.ping()
