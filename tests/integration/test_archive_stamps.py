"""Checkpoints are stamped by a time-stamping authority, which can hold up nothing; an audit verifies the stamps offline."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from consumers.metrics import ConsumerCollector
from hub.storage.timestamping import HttpAuthority, stamper_of
from ops.cli.worker_process import running_worker, worker_options
from streams.archive.heads import HeadLog
from streams.archive.notes import Checkpoint
from streams.archive.retention import parse_retention
from streams.archive.stamper import Stamper
from streams.archive.stamps import read_authorities
from streams.channel import Channel, parse_channel
from streams.errors import ConfigurationRefused
from streams.redis.log import Log
from support.archive_rig import SIGNER, archive_in, keeper, write
from support.nodes import settings
from support.redis_server import RedisServer
from support.timestamp_authority import Behaviour, LocalAuthority

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def redis_url(module_redis: RedisServer) -> str:
    """A server of this module: a keeper archives every channel it finds, and other tests break theirs."""
    return module_redis.url


@pytest.fixture
async def authority(tmp_path: Path) -> AsyncIterator[LocalAuthority]:
    async with LocalAuthority(tmp_path / "tsa").serving() as one:
        yield one


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[Log]:
    one = await Log.open(redis_url)
    yield one
    await one.close()


@pytest.fixture
def channel(tenant: str) -> Channel:
    return parse_channel(tenant, "conversation:a")


def stamper(data: Path, tenant: str, authority: LocalAuthority, *, answer_s: float = 60.0) -> Stamper:
    """A stamper of one tenant that trusts this authority."""
    asked = HttpAuthority(authority.url, answer_s)
    trusted = read_authorities(authority.ca.read_bytes())
    return Stamper(archive_in(data / "archive"), asked, lambda: [tenant], trusted)


async def grow(log: Log, data: Path, channel: Channel) -> None:
    """One more checkpoint."""
    await write(log, channel, 5)
    await keeper(log, data / "archive", f"{channel.tenant}/*=forever").turn()


async def test_a_checkpoint_is_stamped_once_an_hour_and_openssl_verifies_it(
    log: Log, channel: Channel, data: Path, authority: LocalAuthority, command_line: CommandLine, tmp_path: Path
) -> None:
    """By one stamper and by the next; the audit names time and authority, and the stamp is one for every tool."""
    await grow(log, data, channel)
    for _ in range(2):
        one = stamper(data, channel.tenant, authority)
        await one.look()
        await one.look()
        await grow(log, data, channel)
    assert authority.asked == 1
    assert await HeadLog(archive_in(data / "archive"), channel.tenant, "").stamped() == [1]

    where = ("--tenant", channel.tenant, "--data", str(data), "--tsa-ca", str(authority.ca))
    run = asyncio.to_thread
    code, out, err = await run(command_line, "audit", "verify", "--all", *where, "--redis", log.url)
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["archive"]["stamps"] | {"time": ""} == {
        "count": 1, "checkpoint": 1, "time": "", "authority": "Test Timestamps",
    }  # fmt: skip # a table
    assert "checkpoint 1 was stamped by Test Timestamps at 20" in report["told"]

    kept = tmp_path / "kept.checkpoint"
    code, out, _ = await run(command_line, "audit", "checkpoints", *where, "--stamped", "--out", str(kept))
    assert (code, json.loads(out)["stamp"]["authority"]) == (0, "Test Timestamps")
    code, out, _ = await run(
        command_line, "audit", "check", str(kept), "--key", str(SIGNER.public), "--tsa-ca", str(authority.ca)
    )
    assert (code, "signed by hub.test; stamped by Test Timestamps at 20" in out) == (0, True)
    stamp = ("-in", f"{kept}.tsr", "-CAfile", str(authority.ca))
    verified = await run(
        subprocess.run, ["openssl", "ts", "-verify", "-data", str(kept), *stamp], capture_output=True, check=False
    )
    assert verified.returncode == 0, verified.stderr

    code, out, _ = await run(
        command_line, "audit", "report", "--all", *where, "--redis", log.url, "-o", str(tmp_path / "report.html"),
        "--signer", str(_key_file(tmp_path)),
    )  # fmt: skip # its arguments in two groups
    assert (code, "1; checkpoint 1 was stamped by Test Timestamps at 20" in (tmp_path / "report.html").read_text()) == (
        0,
        True,
    )


def _key_file(folder: Path) -> Path:
    path = folder / "signer.key"
    path.write_text(SIGNER.to_file())
    return path


LIES: list[tuple[Behaviour, str]] = [
    ("failing", "answers with the status 500"),
    ("hanging", "has not answered within 0.5 s"),
    ("endless", "more than 65,536 bytes"),
    ("nonsense", "this is no stamp"),
    ("refusing", "did not grant a stamp"),
    ("other_digest", "the stamp is over other bytes"),
    ("other_nonce", "its nonce is not the one that was sent"),
]


async def test_an_authority_that_fails_hangs_or_lies_is_told_and_nothing_of_it_is_kept(
    log: Log, channel: Channel, data: Path, authority: LocalAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next attempt waits; checkpoints are made meanwhile. So it is with one that is not trusted, or gone."""
    await grow(log, data, channel)

    async def refused(one: Stamper, said: str) -> None:
        await one.look()
        await one.look()
        assert one.counts == {"stored": 0, "failed": 1}
        assert said in caplog.records[-1].getMessage()

    for behaviour, said in LIES:
        authority.behaviour = behaviour
        await refused(stamper(data, channel.tenant, authority, answer_s=0.5 if behaviour == "hanging" else 60.0), said)
    authority.behaviour = "honest"
    trusted = read_authorities(LocalAuthority(tmp_path / "other").ca.read_bytes())
    other = Stamper(archive_in(data / "archive"), HttpAuthority(authority.url), lambda: [channel.tenant], trusted)
    await refused(other, "no trusted authority has signed the stamp")
    authority.url = "http://127.0.0.1:1/"
    await refused(stamper(data, channel.tenant, authority), "the authority cannot be asked")

    await grow(log, data, channel)
    heads = HeadLog(archive_in(data / "archive"), channel.tenant, "")
    assert (await heads.checkpoint_count(), await heads.stamped()) == (2, [])


async def test_a_worker_whose_authority_hangs_archives_and_is_ready(
    log: Log, channel: Channel, data: Path, authority: LocalAuthority
) -> None:
    """The request is under way while checkpoints are made; the failures of one that fails are counted."""
    authority.behaviour = "hanging"
    own = settings(
        log.url, data_dir=str(data), retention=parse_retention(f"{channel.tenant}/*=hot_count:10"),
        checkpoint_interval_s=0.2, timestamp_url=authority.url, timestamp_ca=str(authority.ca),
    )  # fmt: skip # its arguments in two groups
    await write(log, channel, 40)
    async with running_worker(own, worker_options(own)) as worker, asyncio.timeout(60):
        await authority.arrived.wait()
        heads = HeadLog(archive_in(data / "archive"), channel.tenant, "")
        while await heads.checkpoint_count() < 2:
            await write(log, channel, 20)
        assert worker.troubles() == []
        shown = {one.name: one for one in ConsumerCollector(worker.metrics, worker.log).collect()}
        counted = {sample.labels["result"]: sample.value for sample in shown["hub_archive_stamps"].samples}
        assert (counted.keys(), counted["stored"]) == ({"stored", "failed"}, 0)


async def test_a_stamp_of_other_bytes_and_a_clock_set_back_are_told(
    log: Log, channel: Channel, data: Path, authority: LocalAuthority, command_line: CommandLine
) -> None:
    """A stamp that was changed or exchanged proves nothing; a checkpoint that follows a stamp cannot be dated before it."""
    archive = archive_in(data / "archive")
    heads = HeadLog(archive, channel.tenant, "")
    where = ("--tenant", channel.tenant, "--data", str(data), "--redis", log.url, "--tsa-ca", str(authority.ca))

    async def told() -> str:
        code, out, _ = await asyncio.to_thread(command_line, "audit", "verify", "--all", *where)
        return "" if code == 0 else " | ".join(json.loads(out)["faults"])

    await grow(log, data, channel)
    assert "no checkpoint has a stamp by RFC 3161" in await told()
    await stamper(data, channel.tenant, authority).look()
    await grow(log, data, channel)
    assert await told() == ""

    reply = await heads.stamp(1)
    assert reply is not None
    await heads.keep_stamp(2, reply)
    assert "the stamp of checkpoint 2 proves nothing: the stamp is over other bytes" in await told()
    key = f"{channel.tenant}/log/stamp/{2:012}"
    await archive.delete(key)

    note = await heads.checkpoint(2)
    assert note is not None
    origin, size, root, time = note.decode().split("\n")[:4]
    earlier = Checkpoint(origin, int(size), _decoded(root), (f"time {int(time.removeprefix('time ')) - 3_600}",))
    key = f"{channel.tenant}/log/checkpoint/{2:012}"
    await archive.delete(key)
    await archive.put(key, earlier.signed(SIGNER))
    found = await told()
    assert "checkpoint 2 is dated before the one it follows: a clock was set back" in found
    assert ", after checkpoint 1 was stamped at 20" in found


def _decoded(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text)


async def test_an_authority_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, redis_url: str) -> None:
    """A file without certificates; none of the settings, and there is no stamper."""
    (tmp_path / "ca.pem").write_text("nothing")
    archive = archive_in(tmp_path)
    assert stamper_of(settings(redis_url), archive, list) is None
    own = settings(redis_url, timestamp_url="https://tsa.example/", timestamp_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationRefused, match="HUB_TIMESTAMP_CA must be a file with certificates in PEM form"):
        stamper_of(own, archive, list)
