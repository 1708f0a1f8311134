"""Wrong settings and wrong input, whichever command meets them: exit code 2, one line, the name and what is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.config import DEV_SECRET, Settings
from hub.readers import SettingRefused
from streams.redis.log import Log

Hub = Callable[..., tuple[int, str]]
WEAK_KEY = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----"""
READ = ("replay", "conversation:1", "--tenant", "acme")
SECRET = "a-secret-for-tests-of-more-than-32-bytes"


@pytest.fixture
def hub(command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """Runs `hub ARGS` here with these variables: its exit code and errors."""
    monkeypatch.setenv("HUB_DATA", str(tmp_path))

    def run(*arguments: str, **env: str) -> tuple[int, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        code, _, err = command_line(*arguments)
        return code, err

    return run


@pytest.mark.parametrize("command", [("dev",), ("serve",), ("worker",), READ, ("send", "conversation:1", "hello")])
def test_a_wrong_setting_is_wrong_input(hub: Hub, command: tuple[str, ...]) -> None:
    """As a wrong option is: 2, by every command that reads the settings."""
    assert hub(*command, HUB_PARTITIONS="many") == (
        2,
        f"hub {command[0]}: HUB_PARTITIONS must be a whole number from 1 to 1024\n",
    )


@pytest.mark.parametrize("url", [
    "redis://host:port/0", "redis://host:99999/0", "redis://[::1", "redis://127.0.0.1:1/zero", "localhost:6379",
    "redis://127.0.0.1:1/0?socket_timeout=soon", "redis://127.0.0.1:1/0?no_such_option=1",
])  # fmt: skip # a case a row
@pytest.mark.parametrize("command", [READ, ("worker",)])
def test_a_malformed_redis_url_is_named(hub: Hub, command: tuple[str, ...], url: str) -> None:
    """Before anybody connects, and without the text: it may hold a password."""
    code, told = hub(*command, REDIS_URL=url)

    assert (code, told.count("\n")) == (2, 1)
    assert "REDIS_URL" in told
    assert "such as redis://host:6379/0" in told
    assert url not in told


def test_a_redis_that_is_away_is_no_wrong_input(hub: Hub) -> None:
    """The URL is one; who should answer there does not: 1."""
    code, told = hub(*READ, REDIS_URL="redis://127.0.0.1:1/0")

    assert (code, told.count("\n")) == (1, 1)


@pytest.mark.parametrize(("key", "allowed"), [
    ("-----BEGIN PUBLIC KEY-----", "must be a public key in PEM"), (WEAK_KEY, "RSA of at least 2048 bits"),
])  # fmt: skip # a case a row
def test_a_key_that_checks_no_token_is_named(hub: Hub, redis_url: str, key: str, allowed: str) -> None:
    """In one line, not in a traceback of the server."""
    code, told = hub("serve", "--port", "0", REDIS_URL=redis_url, HUB_JWT_PUBLIC_KEY=key)

    assert (code, told.count("\n")) == (2, 1)
    assert "HUB_JWT_PUBLIC_KEY" in told
    assert allowed in told


def test_a_node_without_any_key_is_wrong_input(hub: Hub, redis_url: str) -> None:
    """It says which three variables would do."""
    code, told = hub("serve", REDIS_URL=redis_url)

    assert code == 2
    assert "set HUB_JWT_SECRET, HUB_JWT_PUBLIC_KEY or HUB_JWKS_URL" in told


@pytest.mark.parametrize(
    ("command", "host"), [("serve", "127.0.0.1"), ("serve", "0.0.0.0"), ("dev", "0.0.0.0"), ("dev", "hub.internal")]
)
def test_the_public_dev_secret_is_refused_where_others_may_connect(hub: Hub, command: str, host: str) -> None:
    """`serve` never takes it, `dev` on an address of this machine alone; the sentence says what to set."""
    code, told = hub(command, "--port", "0", HUB_JWT_SECRET=DEV_SECRET, HUB_HOST=host)

    assert (code, told.count("\n")) == (2, 1)
    assert "HUB_JWT_SECRET must be a secret of your own" in told
    assert DEV_SECRET not in told


def test_the_public_dev_secret_is_refused_on_any_other_server() -> None:
    """The application does not know which address its server listens on."""
    with pytest.raises(SettingRefused, match="HUB_JWT_SECRET must be a secret of your own"):
        Settings.for_any_server({"HUB_JWT_SECRET": DEV_SECRET, "REDIS_URL": "redis://127.0.0.1:1/0"})


def test_an_agent_that_is_not_there_is_a_wrong_setting(hub: Hub, redis_url: str) -> None:
    """The line begins with the variable and says which agent."""
    code, told = hub("worker", REDIS_URL=redis_url, HUB_AGENTS="a=no_such_module:run")

    assert code == 2
    assert told.startswith("hub worker: HUB_AGENTS: agent a: no_such_module:run cannot be imported")


async def begin(redis_url: str) -> None:
    """Begin a log with 8 partitions, as the first node does."""
    log = await Log.open(redis_url, partitions=8)
    await log.close()


def test_partitions_of_another_log_are_a_wrong_setting(hub: Hub, redis_url: str) -> None:
    """The log was begun with 8; the server is fine, the setting is not."""
    asyncio.run(begin(redis_url))
    code, told = hub("serve", "--port", "0", REDIS_URL=redis_url, HUB_PARTITIONS="9", HUB_JWT_SECRET=SECRET)

    assert code == 2
    assert "HUB_PARTITIONS must be 8" in told


@pytest.mark.parametrize("arguments", [
    ("tail", "conversation:1", "--after", "yesterday"), ("upload", "conversation:1", __file__, "--strategy", "pigeon"),
    ("audit", "verify", "nonsense", "--tenant", "acme"),
    ("delete", "conversation:1", "--tenant", "acme", "--by", "a name"), ("erase", "maria", "--tenant", "acme", "--by", '"'),
])  # fmt: skip # a row a command
def test_wrong_input_is_told_before_anybody_is_asked(
    command_line: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...]
) -> None:
    """One line and 2, though no hub is there."""
    code, out, err = command_line(*arguments)

    assert (code, out, err.count("\n")) == (2, "", 1)
