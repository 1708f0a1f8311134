"""Every tampering is found and named by `hub audit verify`: each is planted by a foreign hand, and the sentence is read."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis

from streams.archive.manifest import Manifest
from streams.archive.notes import Signer, read_checkpoint
from streams.archive.objects import channel_folder
from streams.channel import Channel, parse_channel
from streams.redis.append import checksum
from streams.redis.keys import Keys
from streams.redis.log import Log
from support.archive_rig import SIGNER, keeper, write
from support.redis_server import RedisServer

CommandLine = Callable[..., tuple[int, str, str]]
EVENTS, KEPT = 600, 100


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    return module_redis.url


class Scene(NamedTuple):
    """A channel of 600 events, 500 of them in the archive, in two segments; and the hands that change it."""

    redis: Redis
    channel: Channel
    archive: Path
    epoch: str
    ids: list[str]
    stream: str
    meta: str

    @property
    def folder(self) -> Path:
        """The folder of the channel's epoch."""
        return self.archive / "objects" / channel_folder(self.channel, self.epoch)

    @property
    def log_folder(self) -> Path:
        """The folder of the tenant's log of heads."""
        return self.archive / "objects" / self.channel.tenant / "log"

    def stored(self, first: str = "-", last: str = "+") -> list[tuple[bytes, list[bytes]]]:
        """Stored events, each with its fields in their order."""
        found: Any = self.redis.xrange(self.stream, first, last)
        return [(event_id, [part for pair in fields.items() for part in pair]) for event_id, fields in found]

    def entry(self, seq: int) -> list[bytes]:
        """The fields of a stored event."""
        return self.stored(self.ids[seq - 1], self.ids[seq - 1])[0][1]

    def rewrite(self, seq: int, fields: list[bytes]) -> None:
        """Put other fields under an event's id: all events are written anew, since a stream only grows."""
        whole = dict(self.stored()) | {self.ids[seq - 1].encode(): fields}
        self.redis.delete(self.stream)
        for event_id, values in whole.items():
            self.redis.execute_command("XADD", self.stream, event_id, *values)

    def forge(self, seq: int) -> None:
        """Another payload, with a checksum that fits."""
        fields = self.entry(seq)
        fields[9] = b'{"text":"forged"}'
        fields[13] = checksum(self.channel.path.encode(), fields[3], fields[5], fields[7], fields[9], fields[11])
        self.rewrite(seq, fields)

    def swap(self, seq: int) -> None:
        """The payloads of two neighbours, with checksums that fit."""
        first, second = self.entry(seq), self.entry(seq + 1)
        first[9], second[9] = second[9], first[9]
        for at, fields in ((seq, first), (seq + 1, second)):
            fields[13] = checksum(self.channel.path.encode(), fields[3], fields[5], fields[7], fields[9], fields[11])
            self.rewrite(at, fields)

    def part(self, path: Path) -> Path:
        """The file with the bytes of an object."""
        (part,) = [file for file in path.iterdir() if file.suffix != ".json"]
        return part

    def flip(self, path: Path, at: int = 100) -> None:
        """A bit of an object."""
        part = self.part(path)
        content = bytearray(part.read_bytes())
        content[at % len(content)] ^= 1
        part.write_bytes(content)


@pytest.fixture
def scene(redis_url: str, tenant: str, data: Path) -> Iterator[Scene]:
    channel = parse_channel(tenant, "conversation:a")

    async def begin() -> list[str]:
        log = await Log.open(redis_url)
        at_work = keeper(log, data / "archive", f"{tenant}/*=hot_count:{KEPT}")
        found = await write(log, channel, EVENTS // 2)
        await at_work.turn()
        found += await write(log, channel, EVENTS // 2)
        await at_work.turn()
        await log.close()
        return found

    ids = asyncio.run(begin())
    with Redis.from_url(redis_url) as redis:
        config = redis.hgetall("hub:config")
        names = Keys(int(config[b"partitions"]), config[b"tags"].decode().split()).of(channel)  # type: ignore[union-attr,index]
        epoch = redis.hget(names.meta.decode(), "epoch")
        yield Scene(redis, channel, data / "archive", epoch.decode(), ids, names.stream.decode(), names.meta.decode())  # type: ignore[union-attr]
        redis.delete(names.stream, names.meta, *redis.keys(f"hub:*:{tenant}:channels:*"))  # type: ignore[misc]


Verify = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def verify(command_line: CommandLine, redis_url: str, data: Path, tenant: str) -> Verify:
    """Runs `hub audit verify`: exit code, report, errors."""

    def run(*more: str) -> tuple[int, dict[str, Any], str]:
        where = ("--tenant", tenant, "--redis", redis_url, "--data", str(data))
        code, out, err = command_line("audit", "verify", "conversation:a", *where, *more)
        return code, json.loads(out), err

    return run


def test_an_untouched_channel_is_whole(scene: Scene, verify: Verify, command_line: CommandLine, data: Path) -> None:
    """With its signer, and the range that checkpoints cover; also without any Redis."""
    code, report, _ = verify()
    assert (code, report["whole"], report["events"], report["hot_events"], report["to_seq"]) == (
        0,
        True,
        EVENTS,
        KEPT,
        EVENTS,
    )
    assert report["archive"] | {"bytes": 0} == {
        "segments": 2, "archived_from_seq": 1, "archived_to_seq": EVENTS - KEPT, "covered_to_seq": EVENTS, "bytes": 0,
        "checkpoints": 2, "signed_by": ["hub.test"],
    }  # fmt: skip # a table
    assert "against its leaf" in report["covers"]
    told = "Intact: events 1 to 600 are there, in order and undamaged. Up to 600 each is the one recorded under a checkpoint"
    assert report["told"] == f"{told} signed by hub.test."
    code, out, _ = command_line(
        "audit", "verify", "--all", "--archive-only", "--tenant", scene.channel.tenant, "--data", str(data)
    )
    alone = json.loads(out)
    assert (code, alone["faults"], alone["events"], len(alone["unknown"])) == (0, [], EVENTS - KEPT, 1)


def newest(folder: Path) -> Path:
    """The newest object of a folder."""
    return max(folder.iterdir())


def restore_old_log(scene: Scene) -> None:
    """The newest checkpoint is taken away."""
    shutil.rmtree(newest(scene.log_folder / "checkpoint"))


def sign_again(scene: Scene) -> None:
    """The newest checkpoint is signed by a key of the attacker's."""
    part = scene.part(newest(scene.log_folder / "checkpoint"))
    text = part.read_bytes().partition(b"\n\n")[0] + b"\n"
    part.write_bytes(text + b"\n" + Signer("hub.test", os.urandom(32)).sign(text))


def set_back(scene: Scene) -> None:
    """The newest event is removed, and the record is set back."""
    scene.redis.xdel(scene.stream, scene.ids[-1])
    scene.redis.hset(scene.meta, "seq", EVENTS - 1)


def forge_removal(scene: Scene) -> None:
    """A manifest of the attacker's says that a policy removed the first segment, and the segment is removed."""
    before = scene.folder / "manifest" / "0000000002.json"
    forged = before.with_name("0000000003.json")
    shutil.copytree(before, forged)
    manifest = Manifest.parse(scene.part(before).read_bytes()).without(1)
    scene.part(forged).write_bytes(manifest.to_json())
    shutil.rmtree(min((scene.folder / "segment").iterdir()))
    scene.redis.hset(scene.meta, "archive", str(manifest.mark))


def forge_mark(scene: Scene) -> None:
    """The record in Redis is made to say that a policy removed what is in the archive."""
    number, _, _, upto_id, upto = scene.redis.hget(scene.meta, "archive").decode().split()  # type: ignore[union-attr]
    scene.redis.hset(scene.meta, "archive", f"{number} {scene.ids[199]} 200 {upto_id} {upto}")


TAMPERING: list[tuple[str, Callable[[Scene], object], int, str]] = [
    ("a payload forged under its id", lambda s: s.forge(550), 550,
     "is not the one that was recorded: its bytes were changed since"),
    ("two payloads swapped", lambda s: s.swap(560), 560, "is not the one that was recorded"),
    ("a bit flipped in Redis", lambda s: s.rewrite(570, [*s.entry(570)[:9], b'{"text":"hellp"}', *s.entry(570)[10:]]), 570,
     "is damaged: its bytes do not match their checksum"),
    ("an event removed at the head", lambda s: s.redis.xdel(s.stream, s.ids[500]), 501, "follows 500"),
    ("an event removed in the middle", lambda s: s.redis.xdel(s.stream, s.ids[549]), 550, "seq 551"),
    ("the newest event removed", lambda s: s.redis.xdel(s.stream, s.ids[-1]), EVENTS, "the head is 600, but the last event is 599"),
    ("the newest event removed and the record set back", set_back, EVENTS, "600 events recorded under a checkpoint"),
    ("the stream deleted", lambda s: s.redis.delete(s.stream), 501, "100 events recorded, 0 found: the stream was deleted"),
    ("stream and record deleted", lambda s: s.redis.delete(s.stream, s.meta), 1, "600 events recorded under a checkpoint, 0 found"),
    ("a segment removed", lambda s: shutil.rmtree(newest(s.folder / "segment")), 201, "is missing: 300 events, seq 201 to 500"),
    ("a bit flipped in a segment", lambda s: s.flip(newest(s.folder / "segment")), 201, "is damaged: its bytes do not match"),
    ("a bit flipped in a tile", lambda s: s.flip(s.folder / "tile" / "0" / "000"), 1, "tiles were changed"),
    ("a tile removed", lambda s: shutil.rmtree(s.folder / "tile" / "0" / "001"), 257,
     "is missing: the leaf record ends at seq 256"),
    ("a bit flipped in a tile of a higher level", lambda s: s.flip(s.folder / "tile" / "1" / "000.p" / "2", 40), 257,
     "tile/1/000 does not fit the leaves below it: it was changed"),
    ("a tile of a higher level removed", lambda s: shutil.rmtree(s.folder / "tile" / "1" / "000.p"), 1, "/000.p/2 is missing"),
    ("the beginning exchanged", lambda s: s.part(s.folder / "begin.json").write_text('{"id":"0-0","seq":9}'), 1,
     "begin.json names seq 9; the checkpoints name seq 0"),
    ("the beginning removed", lambda s: shutil.rmtree(s.folder / "begin.json"), 1, "begin.json is missing"),
    ("a segment removed and a manifest forged that says so", forge_removal, 1,
     "is missing: a manifest says that a policy removed it, but no checkpoint covers that"),
    ("the record in Redis says that events were removed", forge_mark, 1, "from seq 201 to 500, manifest 2 from 1 to 500"),
    ("the archive's mark removed from Redis", lambda s: s.redis.hdel(s.meta, "archive", "covered"), 1,
     "events up to seq 500 were trimmed, but the record in Redis names 0 as archived"),
    ("the manifest rolled back", lambda s: shutil.rmtree(newest(s.folder / "manifest")), 1,
     "is missing: the archive was rolled back"),
    ("the log of heads rolled back", restore_old_log, 301, "600 events were under a checkpoint, the log of heads names 300"),
    ("a checkpoint signed by another key", sign_again, 1, "checkpoint 2 cannot be trusted: no known key has signed it"),
    ("a bit flipped in the log of heads", lambda s: s.flip(newest(s.log_folder / "tile" / "entries" / "000.p")), 1, "log of heads"),
]  # fmt: skip # a table: done, seq, said


@pytest.mark.parametrize(("plant", "seq", "said"), [row[1:] for row in TAMPERING], ids=[row[0] for row in TAMPERING])
def test_every_tampering_is_found_and_named(
    scene: Scene, verify: Verify, plant: Callable[[Scene], object], seq: int, said: str
) -> None:
    """The first bad seq, and what is wrong with it."""
    plant(scene)

    code, report, err = verify()

    assert (code, report["whole"]) == (1, False)
    assert any(said in fault for fault in report["faults"]), report["faults"][:5]
    assert report["first_bad_seq"] == seq, report["faults"][:5]
    assert "is not intact from seq" in err


def redate(scene: Scene, *, by_s: int) -> Path:
    """The newest checkpoint gets another date, with the hub's own key."""
    part = scene.part(newest(scene.log_folder / "checkpoint"))
    found = read_checkpoint(part.read_bytes())
    part.write_bytes(found._replace(extra=(f"time {found.time_s + by_s}",)).signed(SIGNER))
    return part


def test_a_checkpoint_that_was_dated_anew_is_told(
    scene: Scene, verify: Verify, command_line: CommandLine, redis_url: str, data: Path, tmp_path: Path
) -> None:
    """Before the one it follows: with all. By whoever kept it, or one that is dated later: in any case."""
    kept = tmp_path / "checkpoint"
    kept.write_bytes(redate(scene, by_s=60).read_bytes())
    redate(scene, by_s=-30)
    assert "have 2 heads and different dates: it was written anew" in verify("--known", str(kept))[1]["faults"][0]

    (older,) = (part for part in (scene.log_folder / "checkpoint" / "000000000001").iterdir() if part.suffix != ".json")
    found = read_checkpoint(older.read_bytes())
    kept.write_bytes(found._replace(extra=(f"time {found.time_s + 3_600}",)).signed(SIGNER))
    assert "is dated before one kept elsewhere: a clock was set back" in verify("--known", str(kept))[1]["faults"][0]

    redate(scene, by_s=-3_600)
    where = ("--tenant", scene.channel.tenant, "--redis", redis_url, "--data", str(data))
    code, _, err = command_line("audit", "verify", "--all", *where)
    assert (code, "checkpoint 2 is dated before the one it follows: a clock was set back" in err) == (1, True)


def test_a_tile_of_the_log_of_heads_is_compared_with_all(
    scene: Scene, command_line: CommandLine, redis_url: str, data: Path
) -> None:
    """No proof fits a changed one, so the verification of a tenant reads them."""
    scene.flip(scene.log_folder / "tile" / "0" / "000.p" / "2", 40)
    where = ("--tenant", scene.channel.tenant, "--redis", redis_url, "--data", str(data))

    code, out, err = command_line("audit", "verify", "--all", *where)

    assert (code, json.loads(out)["whole"]) == (1, False)
    assert "log/tile/0/000 does not fit the leaves below it: it was changed" in err


def test_a_log_rewritten_with_the_hubs_own_key_is_given_away_by_a_checkpoint_kept_elsewhere(
    scene: Scene, verify: Verify, redis_url: str, data: Path, tmp_path: Path
) -> None:
    """Whoever has Redis, store and key writes a history that fits itself, and only what others hold tells."""
    part = scene.part(newest(scene.log_folder / "checkpoint"))
    kept = tmp_path / "checkpoint"
    kept.write_bytes(part.read_bytes())
    scene.forge(550)
    shutil.rmtree(scene.archive / "objects" / scene.channel.tenant)
    scene.redis.hdel(scene.meta, "archive", "covered")

    async def again() -> None:
        log = await Log.open(redis_url)
        await keeper(log, data / "archive", f"{scene.channel.tenant}/*=forever").turn()
        await log.close()

    asyncio.run(again())
    assert verify()[0] == 0

    code, report, _ = verify("--known", str(kept))

    assert code == 1
    assert "the log was rolled back" in report["faults"][0]


def test_a_mistyped_channel_is_an_error(command_line: CommandLine, scene: Scene, redis_url: str, data: Path) -> None:
    """Neither Redis nor the archive knows it."""
    where = ("--tenant", scene.channel.tenant, "--redis", redis_url, "--data", str(data))
    code, out, err = command_line("audit", "verify", "conversation:aa", *where)

    assert (code, out) == (1, "")
    assert "no such channel: conversation:aa" in err


def test_a_channel_is_not_whole_without_its_archive(
    command_line: CommandLine, scene: Scene, redis_url: str, tmp_path: Path
) -> None:
    """The events that were moved cannot be checked where the archive is not at hand."""
    where = ("--tenant", scene.channel.tenant, "--redis", redis_url, "--data", str(tmp_path))
    code, out, _ = command_line("audit", "verify", "conversation:a", *where)

    report = json.loads(out)
    assert (code, report["whole"], report["first_bad_seq"]) == (1, False, 1)
    assert "events up to seq 500 were archived, but there is no archive here" in report["faults"][0]


def test_a_replay_says_that_it_is_not_all(
    command_line: CommandLine, scene: Scene, redis_url: str, data: Path, tmp_path: Path
) -> None:
    """A hole, and a beginning that is not at hand: told, and the exit code is 1."""
    scene.redis.xdel(scene.stream, scene.ids[549])
    where = ("--tenant", scene.channel.tenant, "--redis", redis_url)
    code, out, err = command_line("replay", "conversation:a", *where, "--data", str(data))
    assert (code, len(out.splitlines())) == (1, EVENTS - 1)
    assert "seq 550 to 550 are missing before event" in err

    code, out, err = command_line("replay", "conversation:a", *where, "--data", str(tmp_path))
    assert (code, len(out.splitlines())) == (1, KEPT - 1)
    assert "events up to seq 500" in err
    assert "were removed" in err
