"""The auditor's commands on a log with an archive, a replica, a read-only user, and on the archive alone; nothing is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis

from streams.channel import Channel, parse_channel
from streams.redis.log import Log
from support.archive_rig import SIGNER, keeper, write
from support.redis_server import RedisServer

CommandLine = Callable[..., tuple[int, str, str]]
EVENTS, KEPT, TENANT = 600, 100, "audited"


class Scene(NamedTuple):
    """A channel of 600 events, the oldest 500 in the archive; one that is hot; and the folder with archive and key."""

    url: str
    data: Path
    long: Channel
    short: Channel
    ids: list[str]

    @property
    def whole(self) -> tuple[str, ...]:
        """Options that name the log."""
        return ("--tenant", TENANT, "--redis", self.url, "--data", str(self.data))

    @property
    def alone(self) -> tuple[str, ...]:
        """Options that name the archive alone."""
        return ("--tenant", TENANT, "--data", str(self.data), "--archive-only")


@pytest.fixture(scope="module")
def scene(module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    data = tmp_path_factory.mktemp("data")
    (data / "audit.key").write_text(str(SIGNER))
    long, short = parse_channel(TENANT, "conversation:long"), parse_channel(TENANT, "team:short")

    async def begin() -> list[str]:
        log = await Log.open(module_redis.url)
        ids = await write(log, long, EVENTS)
        await write(log, short, 5, "short")
        await keeper(log, data / "archive", f"conversation=hot_count:{KEPT};team=forever").turn()
        await log.close()
        return ids

    return Scene(module_redis.url, data, long, short, asyncio.run(begin()))


@pytest.fixture(params=["log", "read-only user", "archive alone"])
def where(request: pytest.FixtureRequest, scene: Scene) -> Iterator[tuple[str, ...]]:
    """The options of each place that an auditor may have; Redis and archive are afterwards as they were."""
    with Redis.from_url(scene.url) as redis:
        redis.execute_command("ACL", "SETUSER", "auditor", "on", ">secret", "~*", "+@read", "+@connection")
        before = redis.dbsize(), stored(scene.data)
        if request.param == "archive alone":
            yield scene.alone
        elif request.param == "log":
            yield scene.whole
        else:
            url = scene.url.replace("unix://", "unix://auditor:secret@")
            yield ("--tenant", TENANT, "--redis", url, "--data", str(scene.data))
        assert (redis.dbsize(), stored(scene.data)) == before


def stored(data: Path) -> dict[str, float]:
    """All files of a folder with the times of their last changes."""
    return {str(one): one.stat().st_mtime for one in data.rglob("*") if one.is_file()}


def test_channels_are_listed_with_their_extent(command_line: CommandLine, scene: Scene, where: tuple[str, ...]) -> None:
    """Head, count, bytes, last activity, hot or cold, archived up to; the archive alone knows what a checkpoint covers."""
    code, out, err = command_line("audit", "channels", *where)
    found = {one["channel"]: one for one in map(json.loads, out.splitlines())}
    assert (code, err, sorted(found)) == (0, "", ["conversation:long", "team:short"])
    one: dict[str, Any] = found["conversation:long"]
    is_alone = "--archive-only" in where
    assert (one["head"], one["archived_to"], one["covered_to"]) == (EVENTS, EVENTS - KEPT, EVENTS)
    assert (one["count"], one["hot"]) == ((EVENTS - KEPT, None) if is_alone else (EVENTS, KEPT))
    assert one["where"] == ("cold" if is_alone else "both")
    assert one["archive_bytes"] > 1_000
    assert (one["hot_bytes"] > 1_000) is not is_alone
    assert one["last_activity"].startswith("20")
    assert found["team:short"]["where"] == ("none" if is_alone else "hot")
    assert command_line("audit", "channels", "nobody:*", *where)[0] == 1


def test_events_are_verified_and_proved(command_line: CommandLine, scene: Scene, where: tuple[str, ...]) -> None:
    """Each place is enough for it."""
    code, out, err = command_line("audit", "verify", scene.long.wire, *where)
    assert (code, err, json.loads(out)["whole"]) == (0, "", True)
    code, out, err = command_line("audit", "prove", scene.long.wire, scene.ids[100], *where)
    assert (code, err, json.loads(out)["seq"]) == (0, "", 101)
    code, _, err = command_line("audit", "prove", "conversation:lung", scene.ids[100], *where)
    assert (code, "no such channel" in err) == (1, True)
