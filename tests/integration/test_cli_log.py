"""Commands that read and write the log itself: import, replay, state, key, doctor, audit; on a real Redis."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.cli import main
from ops.importing.importer import IN_FLIGHT_MAX, Import
from ops.importing.irc import drafts, parse
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.redis.log import Log
from support.redis_server import RedisServer

CORPUS = Path(__file__).parents[3] / "shared/data/irc"
LOG = """\
[23:58] <ra> ok, so try apt-get install ssh
=== robertj [~robertj@66-188.example]  has joined #ubuntu
[23:59] <robertj> aha!
[00:00] <D[4]ni> what is aha
=== robertj is now known as rob
=== Topic for #ubuntu: nothing
[00:01]  * rob waves
"""
Json = Callable[..., list[dict[str, object]]]
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lines(command_line: CommandLine, redis_url: str) -> Callable[..., list[str]]:
    """Runs `hub ARGS --redis …` and gives its lines."""

    def run(*arguments: str) -> list[str]:
        code, out, err = command_line(*arguments, "--redis", redis_url)
        assert (code, err) == (0, "")
        return out.splitlines()

    return run


@pytest.fixture
def hub(lines: Callable[..., list[str]]) -> Json:
    """The same, each line parsed."""
    return lambda *arguments: [json.loads(line) for line in lines(*arguments)]


@pytest.fixture
def irc_file(tmp_path: Path) -> Path:
    file = tmp_path / "2005-02-27.log"
    file.write_text(LOG)
    return file


def test_an_imported_log_is_replayed_in_order(hub: Json, irc_file: Path, tenant: str) -> None:
    """Messages and comings and goings are events with a dense seq, the nick as actor."""
    [summary] = hub("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)

    events = hub("replay", "conversation:ubuntu", "--tenant", tenant)
    assert (summary["events"], summary["added"], summary["present"]) == (7, 7, 0)
    assert [event["seq"] for event in events] == list(range(1, 8))
    assert [event["actor"]["id"] for event in events] == [
        "ra", "robertj", "robertj", "D~5b4~5dni", "robertj", "rob", "rob",
    ]  # fmt: skip # a table
    assert events[-1]["payload"] == {"text": "waves", "metadata": {"said_at": "2005-02-28T00:01", "form": "action"}}


def test_importing_twice_adds_nothing_and_a_grown_log_only_its_end(hub: Json, irc_file: Path, tenant: str) -> None:
    """A second run finds out by its first append how far the first one came."""
    command = ("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)
    hub(*command)

    [again] = hub(*command)
    irc_file.write_text(LOG + "[00:02] <ra> bye\n")
    [grown] = hub(*command)

    assert (again["added"], again["present"]) == (0, 7)
    assert (grown["added"], grown["present"]) == (1, 7)
    assert len(hub("replay", "conversation:ubuntu", "--tenant", tenant)) == 8


def test_replay_takes_cursors_times_and_types(hub: Json, irc_file: Path, tenant: str) -> None:
    """After an id, within moments, by type with a trailing star."""
    hub("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)
    replay = ("replay", "conversation:ubuntu", "--tenant", tenant)
    events = hub(*replay)

    assert hub(*replay, "--after", str(events[4]["id"])) == events[5:]
    assert hub(*replay, "--types", "channel.*") == [event for event in events if event["type"] == "channel.presence"]
    assert hub(*replay, "--from", "2020-01-01T00:00:00Z") == events
    assert hub(*replay, "--to", "2020-01-01T00:00:00Z") == []


def test_replay_as_text_reads_as_sentences(lines: Callable[..., list[str]], irc_file: Path, tenant: str) -> None:
    """Time, number, who, what."""
    lines("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)

    assert lines("replay", "conversation:ubuntu", "--tenant", tenant, "--format", "text")[0].endswith(
        "    #1  ra: ok, so try apt-get install ssh"
    )


def test_state_is_folded_up_to_an_event(hub: Json, irc_file: Path, tenant: str) -> None:
    """`--at` takes an id or a time, itself included; without it the state is that of the head."""
    hub("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)
    events = hub("replay", "conversation:ubuntu", "--tenant", tenant)
    state = ("state", "conversation:ubuntu", "--tenant", tenant)

    [now], [then], [never] = (
        hub(*state),
        hub(*state, "--at", str(events[2]["id"])),
        hub(*state, "--at", "2020-01-01T00:00:00Z"),
    )

    assert [found["state_at"] for found in (now, then, never)] == [7, 3, 0]
    assert [len(found["state"]["messages"]) for found in (now, then, never)] == [4, 2, 0]  # type: ignore[index]


def test_the_key_is_alone_on_its_line_and_the_lines_below_work(
    lines: Callable[..., list[str]], irc_file: Path, tenant: str
) -> None:
    """The output of `hub key` can be pasted into a shell."""
    lines("import", "irc", str(irc_file), "--channel", "conversation:ubuntu", "--tenant", tenant)

    key, length, *_ = lines("key", "conversation:ubuntu", "--tenant", tenant)

    assert key.endswith(f":{tenant}:conversation:ubuntu")
    assert subprocess.run(length, shell=True, capture_output=True, text=True, check=True).stdout.strip() == "7"


def test_doctor_finds_a_good_server_good(command_line: CommandLine, own_redis: RedisServer) -> None:
    """Every Redis check passes on a server with an append-only file."""
    code, out, _ = command_line("doctor", "--redis", own_redis.url, "--url", "http://127.0.0.1:1")
    findings = [json.loads(line) for line in out.splitlines()]

    levels = {finding["what"]: finding["level"] for finding in findings}
    assert (code, levels["redis"], levels["partitions"], levels["durability"]) == (0, "ok", "ok", "ok")
    assert levels["node"] == "warn"


@pytest.mark.parametrize(
    ("env", "value", "says"),
    [
        ("HUB_PARTITIONS", "3", "HUB_PARTITIONS must be 8"),
        ("HUB_DURABILITY", "replicated", "needs a connected replica"),
    ],
)
def test_doctor_says_what_to_mend(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    env: str,
    value: str,
    says: str,
) -> None:
    """Each failed check names the remedy, and the exit code is 1."""
    asyncio.run(write_audited(redis_url, "acme"))  # whoever opens the log first fixes its partitions
    monkeypatch.setenv(env, value)

    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--redis", redis_url])

    assert ended.value.code == 1
    assert says in capsys.readouterr().out


async def test_an_import_survives_the_death_of_its_redis(own_redis: RedisServer, tenant: str) -> None:
    """Killed with appends in flight, the log still gets every line once and in order."""
    channel = parse_channel(tenant, "conversation:big")
    text = [f"[{n // 60 % 24:02}:{n % 60:02}] <n{n % 50}> line {n}" for n in range(6 * IN_FLIGHT_MAX)]
    log = await Log.open(own_redis.url)
    job = Import(log, list(drafts(parse(text), channel, "big")), "import:big")
    killed = Counter[str]()

    def kill_once(done: int) -> None:
        if done >= IN_FLIGHT_MAX and not killed["times"]:
            killed["times"] += 1
            own_redis.kill()
            own_redis.restart()

    await job.run(on_progress=kill_once)

    stored = []
    after = "0"
    while page := await log.page(channel, after):
        stored += page
        after = page[-1].id.decode()
    await log.close()
    assert killed["times"] == 1
    assert [entry.seq for entry in stored] == list(range(1, len(text) + 1))
    assert [entry.payload["text"] for entry in stored] == [f"line {n}" for n in range(len(text))]


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the IRC corpus is not at {CORPUS}")
def test_every_message_of_the_corpus_is_read(tenant: str) -> None:
    """48,745 lines of it are messages, and every one of them becomes a valid event."""
    channel = parse_channel(tenant, "conversation:ubuntu")
    made = Counter[str]()
    for file in sorted(CORPUS.glob("*.txt")):
        made.update(draft.type for draft in drafts(parse(file.read_text().splitlines()), channel, "s"))

    assert made["chat.message"] == 48_745
    assert made["channel.presence"] == 4_539 + 2 * 1_055  # joins and leaves; a rename is one of each


@pytest.mark.slow
def test_ctrl_c_ends_a_long_replay_with_130(redis_url: str, tenant: str, irc_file: Path) -> None:
    """No traceback, the code a shell expects."""
    hub = [sys.executable, "-c", "from ops.cli import main; main()"]
    where = ["--tenant", tenant, "--redis", redis_url]
    with subprocess.Popen(
        [*hub, "import", "irc", irc_file, "--channel", "conversation:u", "--speed", "10x", *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as slow:
        assert slow.stdout is not None
        first = slow.stdout.readline()
        slow.send_signal(2)
        _, err = slow.communicate(timeout=50)

    assert json.loads(first)["progress"] == "import"
    assert (slow.returncode, err) == (130, "")


async def write_audited(redis_url: str, tenant: str, *, removed: int | None = None) -> None:
    """Five messages; the one with this number is then taken out of the stream by hand."""
    channel = parse_channel(tenant, "conversation:audited")
    log = await Log.open(redis_url)
    try:
        for number in range(1, 6):
            appended = await log.append(Draft(channel, "chat.message", b'{"text":"hello"}', Actor("user", "alice")))
            if number == removed:
                await log.redis.xdel(log.keys.of(channel).stream, appended.id)
    finally:
        await log.close()


def test_audit_verify_finds_a_whole_channel_whole(command_line: CommandLine, redis_url: str, tenant: str) -> None:
    """One JSON object: how many events, from where to where."""
    asyncio.run(write_audited(redis_url, tenant))
    code, out, err = command_line("audit", "verify", "conversation:audited", "--tenant", tenant, "--redis", redis_url)

    report = json.loads(out)
    assert (code, err) == (0, "")
    assert (report["events"], report["from_seq"], report["to_seq"], report["whole"]) == (5, 1, 5, True)


def test_audit_verify_finds_an_event_that_was_taken_out(command_line: CommandLine, redis_url: str, tenant: str) -> None:
    """The report names the place, the command fails with one line."""
    asyncio.run(write_audited(redis_url, tenant, removed=3))
    code, out, err = command_line("audit", "verify", "conversation:audited", "--tenant", tenant, "--redis", redis_url)

    assert code == 1
    assert not json.loads(out)["whole"]
    assert "follows 2" in err
    assert err.count("\n") == 1
