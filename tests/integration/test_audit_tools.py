"""The auditor's commands on a log with an archive, a replica, a read-only user, and on the archive alone; nothing is written."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
import pytest
from redis import Redis

from hub.storage.choice import make_key
from ops.cli.audit_export import ExportFormat, export
from ops.cli.selection import Selection
from streams.archive.keeper import Keeper
from streams.archive.notes import Signer
from streams.archive.retention import parse_retention
from streams.audit.sources import LoggedHistories
from streams.channel import Channel, parse_channel
from streams.redis.keys import Keys
from streams.redis.log import Log
from streams.redis.stored import StoredLog
from support.archive_rig import SIGNER, archive_in, keeper, write
from support.redis_server import RedisServer
from support.replica import replicated
from support.until import until

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
    report, is_alone = json.loads(out), "--archive-only" in where
    lacking = f"seq {EVENTS - KEPT + 1} to {EVENTS} are recorded under a checkpoint, but not in the archive"
    assert (code, err, report["whole"]) == (0, f"{scene.long.wire}: {lacking}\n" if is_alone else "", not is_alone)
    hot = 0 if is_alone else KEPT
    counts = [report[name] for name in ("events", "hot_events", "archived_events", "from_seq", "to_seq")]
    assert counts == [EVENTS - KEPT + hot, hot, EVENTS - KEPT, 1, EVENTS - KEPT + hot]
    code, out, err = command_line("audit", "prove", scene.long.wire, scene.ids[100], *where)
    assert (code, err, json.loads(out)["seq"]) == (0, "", 101)
    code, _, err = command_line("audit", "prove", "conversation:lung", scene.ids[100], *where)
    assert (code, "no such channel" in err) == (1, True)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "cloudevents"])
def test_events_are_exported_across_hot_and_cold(
    command_line: CommandLine, scene: Scene, where: tuple[str, ...], tmp_path: Path, form: str
) -> None:
    """In every format each event once and in order; with the archive alone those that are in it, and a word about the rest."""
    out = tmp_path / "history"
    code, told, err = command_line("audit", "export", "--all", "--format", form, "-o", str(out), *where)
    is_alone = "--archive-only" in where
    count = EVENTS - KEPT if is_alone else EVENTS + 5
    assert (code, json.loads(told)["events"], json.loads(told)["whole"]) == (0, count, not is_alone)
    assert ("recorded, but not yet in the archive" in err) is is_alone
    rows = READERS[form](out)
    assert [(one["channel"], one["seq"]) for one in rows[: EVENTS - KEPT]] == [
        (scene.long.wire, seq) for seq in range(1, EVENTS - KEPT + 1)
    ]
    assert [one["id"] for one in rows][:EVENTS] == scene.ids[: min(count, EVENTS)]
    assert rows[7]["payload"] == {"text": "hello 7"}
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cloudevents(path: Path) -> list[dict[str, Any]]:
    found = jsonl(path)
    assert {"specversion", "id", "source", "type", "time", "data"} <= found[0].keys()
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for one in found for name in one)  # the rule for attributes
    return [
        {
            "channel": one["source"].rpartition("/")[2],
            "seq": int(one["sequence"]),
            "id": one["id"],
            "payload": one["data"],
        }
        for one in found
    ]


def rows_of_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [one | {"seq": int(one["seq"]), "payload": json.loads(one["payload"])} for one in csv.DictReader(file)]


def rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    found = pyarrow.parquet.read_table(path).to_pylist()
    assert found[0]["time"].year >= 2020
    return [one | {"payload": json.loads(one["payload"])} for one in found]


READERS = {"jsonl": jsonl, "csv": rows_of_csv, "parquet": rows_of_parquet, "cloudevents": cloudevents}


def test_an_export_is_of_a_time_and_of_types_and_byte_for_byte(
    command_line: CommandLine, scene: Scene, tmp_path: Path
) -> None:
    """JSON lines are the bytes that `hub replay` prints, which clients got."""
    out = tmp_path / "lines"
    begin = datetime.fromtimestamp(int(scene.ids[300].partition("-")[0]) / 1000, UTC).isoformat()
    code, _, err = command_line("audit", "export", scene.long.wire, "-o", str(out), "--from", begin, *scene.whole)
    _, replayed, _ = command_line("replay", scene.long.wire, "--from", begin, *scene.whole)
    assert (code, err, out.read_text()) == (0, "", replayed)
    command_line("audit", "export", scene.long.wire, "-o", str(out), "--types", "team.*", *scene.whole)
    assert out.read_bytes() == b""
    code, _, err = command_line("audit", "export", scene.long.wire, "-o", str(out), "--format", "xml", *scene.whole)
    assert (code, "jsonl, csv, parquet, cloudevents" in err) == (2, True)


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_folder_is_refused_as_the_file(command_line: CommandLine, scene: Scene, tmp_path: Path, command: str) -> None:
    """Before the work begins, and without a signature that is left of it."""
    folder = tmp_path / "page"
    folder.mkdir()
    for out in (str(folder), "."):
        code, _, err = command_line("audit", command, scene.long.wire, "-o", out, *scene.whole)
        assert (code, "is a folder" in err) == (2, True), err
    assert list(tmp_path.iterdir()) == [folder]


async def test_an_interrupted_export_leaves_no_file(scene: Scene, tmp_path: Path) -> None:
    """Ctrl-C cancels the task: there is neither a file nor a half one, and an earlier file stays as it was."""
    out = tmp_path / "history"
    out.write_text("earlier")
    log = await StoredLog.open(scene.url)
    assert log is not None
    work = export(LoggedHistories(log), [scene.long], Selection("0", "+", ()), ExportFormat.JSONL, out)
    task = asyncio.create_task(work)
    await until((tmp_path / "history.part").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    log.close()
    assert (sorted(stored(tmp_path)), out.read_text()) == ([str(out)], "earlier")


def test_holes_and_a_trimmed_beginning_are_told(command_line: CommandLine, tmp_path: Path) -> None:
    """By replay and export, in Redis and in the archive: at the beginning, in the middle, at the end; the code is 1."""
    server = RedisServer()
    try:
        channel, ids = parse_channel(TENANT, "conversation:a"), asyncio.run(_broken(server.url, tmp_path))
        where = ("--tenant", TENANT, "--redis", server.url, "--data", str(tmp_path))
        with Redis.from_url(server.url) as redis:
            config: Any = redis.hgetall("hub:config")
            stream = Keys(int(config[b"partitions"]), config[b"tags"].decode().split()).of(channel).stream.decode()

            def told() -> str:
                code, _, err = command_line("replay", channel.wire, *where)
                exported = command_line("audit", "export", channel.wire, "-o", str(tmp_path / "out"), *where)
                assert (code, exported[0], json.loads(exported[1])["whole"]) == (1, 1, False)
                assert err.splitlines()[:-1] == exported[2].splitlines()[:-1]
                return err

            assert command_line("replay", channel.wire, *where)[0] == 0
            redis.xdel(stream, ids[70])
            assert "seq 71 to 71 are missing before event" in told()
            redis.xdel(stream, ids[-1])
            assert "seq 100 to 100 are missing at the end" in told()
            redis.delete(stream)
            assert "seq 51 to 100 are missing at the end" in told()
        (segment,) = (tmp_path / "archive" / "objects" / TENANT).rglob("segment/*")
        shutil.move(segment, tmp_path / "kept")
        assert "is damaged, or its segment is missing" in told()
        shutil.rmtree(tmp_path / "archive")
        assert "events up to seq 50" in told()
    finally:
        server.close()


async def _broken(url: str, data: Path) -> list[str]:
    log = await Log.open(url)
    ids = await write(log, parse_channel(TENANT, "conversation:a"), 100)
    await keeper(log, data / "archive", "*=hot_count:50").turn()
    await log.close()
    return ids


def test_a_report_says_what_was_found_and_is_signed(
    command_line: CommandLine, scene: Scene, where: tuple[str, ...], tmp_path: Path
) -> None:
    """One page that loads nothing; `hub audit check` tells a page that was changed, or signed by somebody else."""
    page, own = tmp_path / "report.html", tmp_path / "auditor.key"
    code, public, _ = command_line("audit", "key", "--new", str(own), "--name", "eve")
    assert (code, command_line("audit", "key", "--new", str(own))[0]) == (0, 2)
    year = datetime.now(UTC).year
    made = command_line(
        "audit", "report", "--all", "--period", f"{year}", "-o", str(page), "--signer", str(own), *where
    )
    is_cold = "--archive-only" in where
    result = f"It is not all: the newest {KEPT:,} of" if is_cold else "Everything that was recorded is there"
    assert (made[0], made[2], result in made[1]) == (0, "", True)
    text = page.read_text()
    count = EVENTS - KEPT if is_cold else EVENTS + 5
    for told in ("chat.message", f"{count:,}", "conversation:long", "hub.test/audited", "Signed by", "realtime-hub 0"):
        assert told in text
    assert not re.search(r"<(script|link|img)|(src|href)=|url\(|@import", text)
    checked = command_line("audit", "check", str(page), "--key", public)
    assert (checked[0], checked[1]) == (0, "the report report.html is as it was signed by eve\n")
    assert command_line("audit", "check", str(page), "--key", str(SIGNER.public))[0] == 1
    page.write_text(text.replace("chat.message", "chat.massage"))
    code, _, err = command_line("audit", "check", str(page), "--key", public)
    assert (code, "its SHA-256 is another" in err) == (1, True)


@pytest.mark.parametrize(
    ("period", "count"),
    [
        ("1999", 0),
        ("1999-12", 0),
        ("2020-02-29..2100", EVENTS),
        ("2020-02-30", None),
        ("2021..2020", None),
        ("9999-12-31", None),
    ],
)
def test_a_report_is_of_a_period(
    command_line: CommandLine, scene: Scene, tmp_path: Path, period: str, count: int | None
) -> None:
    """A year, a month, a day, or a range; the hub's own key signs if no other is named."""
    page = tmp_path / "report.html"
    code, _, err = command_line("audit", "report", scene.long.wire, "--period", period, "-o", str(page), *scene.whole)
    if count is None:
        assert (code, "--period" in err, page.exists()) == (2, True, False)
        return
    assert (code, f"<td>{count:,}</td>" in page.read_text()) == (0, True)
    assert command_line("audit", "check", str(page), "--key", str(SIGNER.public))[0] == 0


def test_keys_are_rotated_and_old_checkpoints_stay_verifiable(command_line: CommandLine, tmp_path: Path) -> None:
    """While both keys sign, whoever knows either accepts; afterwards the former key is known and signs no more."""
    server = RedisServer()
    try:
        where = ("--data", str(tmp_path))
        verify = ("audit", "verify", "--all", "--tenant", TENANT, "--redis", server.url, *where)
        assert command_line("audit", "key", "--rotate", *where)[0] == 1
        make_key(tmp_path / "audit.key", "hub")
        (former,) = printed(command_line, "audit", "key", *where)
        asyncio.run(_grown(server.url, tmp_path))
        new, *rest = printed(command_line, "audit", "key", "--rotate", *where)
        assert (rest, (tmp_path / "audit.key").stat().st_mode & 0o777) == ([former], 0o600)
        asyncio.run(_grown(server.url, tmp_path))
        for keys in ((), ("--key", former), ("--key", former, "--key", new)):
            assert command_line(*verify, *keys)[0] == 0
        found = command_line("audit", "checkpoints", "--tenant", TENANT, *where)[1]
        signed = [json.loads(line)["signatures"] for line in found.splitlines()]
        ids = ["+".join(one.split("+")[:2]) for one in (new, former)]
        assert signed == [ids, ids[1:]]
        assert printed(command_line, "audit", "key", "--retire", *where) == [new, former]
        asyncio.run(_grown(server.url, tmp_path))
        assert command_line(*verify)[0] == 0
        code, _, err = command_line(*verify, "--key", former)
        assert (code, "checkpoint 3 cannot be trusted: no known key has signed it" in err) == (1, True)
    finally:
        server.close()


def printed(command_line: CommandLine, *command: str) -> list[str]:
    """The lines of a command that succeeds."""
    code, out, err = command_line(*command)
    assert (code, err) == (0, "")
    return out.splitlines()


async def _grown(url: str, data: Path) -> None:
    log = await Log.open(url)
    await write(log, parse_channel(TENANT, "conversation:a"), 3)
    signer = Signer.parse((data / "audit.key").read_text())
    await Keeper(log, archive_in(data / "archive"), parse_retention("*=hot_count:2"), signer, 60.0).turn()
    await log.close()


async def test_a_replica_is_enough_for_an_audit(command_line: CommandLine, tmp_path: Path) -> None:
    """Every command of an auditor works where no write and no script is taken."""
    channel = parse_channel(TENANT, "conversation:a")
    (tmp_path / "audit.key").write_text(str(SIGNER))
    async with replicated() as pair:
        log = await Log.open(pair.master.url)
        ids = await write(log, channel, 60)
        await keeper(log, tmp_path / "archive").turn()
        await log.close()
        await pair.catch_up()
        where = ("--tenant", TENANT, "--redis", pair.replica.url, "--data", str(tmp_path))
        for command in (
            ("channels",),
            ("verify", channel.wire),
            ("verify", "--all"),
            ("prove", channel.wire, ids[7]),
            ("export", "--all", "-o", str(tmp_path / "out")),
            ("report", "--all", "-o", str(tmp_path / "report.html")),
        ):
            code, _, err = await asyncio.to_thread(command_line, "audit", *command, *where)
            assert (code, err) == (0, ""), (command, err)
