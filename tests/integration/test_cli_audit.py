"""`hub audit verify`, and wrong input to commands that ask a hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from ops.cli import main
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from streams.redis.log import Log

Hub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(capsys: pytest.CaptureFixture[str]) -> Hub:
    """Runs `hub ARGS` here: its exit code, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


async def write(redis_url: str, tenant: str, *, removed: int | None = None) -> None:
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


def test_audit_verify_finds_a_whole_channel_whole(hub: Hub, redis_url: str, tenant: str) -> None:
    """One JSON object: how many events, from where to where."""
    asyncio.run(write(redis_url, tenant))
    code, out, err = hub("audit", "verify", "conversation:audited", "--tenant", tenant, "--redis", redis_url)

    report = json.loads(out)
    assert (code, err) == (0, "")
    assert (report["events"], report["from_seq"], report["to_seq"], report["whole"]) == (5, 1, 5, True)


def test_audit_verify_finds_an_event_that_was_taken_out(hub: Hub, redis_url: str, tenant: str) -> None:
    """The report names the place, the command fails with one line."""
    asyncio.run(write(redis_url, tenant, removed=3))
    code, out, err = hub("audit", "verify", "conversation:audited", "--tenant", tenant, "--redis", redis_url)

    assert code == 1
    assert not json.loads(out)["whole"]
    assert "follows 2" in err
    assert err.count("\n") == 1


def test_a_channel_without_events_is_whole(hub: Hub, redis_url: str, tenant: str) -> None:
    """There is nothing to miss."""
    code, out, _ = hub("audit", "verify", "conversation:nothing", "--tenant", tenant, "--redis", redis_url)

    assert (code, json.loads(out)["events"]) == (0, 0)


@pytest.mark.parametrize("arguments", [
    ("tail", "conversation:1", "--after", "yesterday"), ("upload", "conversation:1", __file__, "--strategy", "pigeon"),
    ("audit", "verify", "nonsense", "--tenant", "acme"),
])  # fmt: skip
def test_wrong_input_is_told_before_anybody_is_asked(hub: Hub, arguments: tuple[str, ...]) -> None:
    """One line and 2, though no hub is there."""
    code, out, err = hub(*arguments)

    assert (code, out, err.count("\n")) == (2, "", 1)
