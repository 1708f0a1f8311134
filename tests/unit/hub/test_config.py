"""Settings: what the environment may say, and how it is refused."""

from __future__ import annotations

import pytest

from hub.config import DEV_SECRET, Settings, declarations
from hub.readers import NamedObject, RateOverride, SettingRefused
from streams.channel import Kind
from streams.envelope import Durability


def refused(**env: str) -> list[str]:
    """The variables that `from_env` refuses."""
    with pytest.raises(SettingRefused) as raised:
        Settings.from_env(env)
    return [problem.env for problem in raised.value.problems]


def test_an_empty_environment_gives_the_protocols_defaults() -> None:
    """The defaults of docs/protocol.md#settings-and-commands."""
    settings = Settings.from_env({})

    assert (settings.redis_url, settings.partitions, settings.port) == (None, 8, 8000)
    assert (settings.heartbeat_interval_s, settings.max_connections) == (30, 10_000)
    assert settings.message_size_limit_bytes == 1_048_576
    assert settings.jwt_audience == "hub"
    assert set(settings.durability.values()) == {Durability.MEMORY}


def test_an_empty_variable_is_an_unset_one() -> None:
    """Compose files pass empty strings for what is not set."""
    assert Settings.from_env({"HUB_PORT": "", "REDIS_URL": " "}) == Settings.from_env({})


@pytest.mark.parametrize(
    ("text", "size"), [("1MB", 1_048_576), ("512KB", 524_288), ("2048B", 2_048), ("2048", 2_048), ("1 mb", 1_048_576)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    """B, KB and MB are powers of 1024; no unit means bytes."""
    assert Settings.from_env({"WEBSOCKET_MESSAGE_SIZE_LIMIT": text}).message_size_limit_bytes == size


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ("HUB_PORT", "tcp://10.0.0.1:8000"), ("HUB_PORT", "65536"), ("HUB_PORT", "-1"), ("HUB_PORT", "٣"),
        ("HUB_PARTITIONS", "0"), ("HUB_PARTITIONS", "8.0"),
        ("REDIS_URL", "localhost:6379"), ("REDIS_URL", "redis:///0"),
        ("WEBSOCKET_URL", "http://x"),
        ("WEBSOCKET_HEARTBEAT_INTERVAL", "soon"), ("WEBSOCKET_HEARTBEAT_INTERVAL", "nan"),
        ("WEBSOCKET_MAX_CONNECTIONS", "0"),
        ("WEBSOCKET_MESSAGE_SIZE_LIMIT", "1GB"), ("WEBSOCKET_MESSAGE_SIZE_LIMIT", "0"),
        ("HUB_AGENTS", "demo"), ("HUB_AGENTS", "a=m:x,a=m:y"), ("HUB_AGENTS", "a b=m:x"),
        ("HUB_RATE_LIMITS", "chat=fast"), ("HUB_RATE_LIMITS", "shout=1/2"), ("HUB_RATE_LIMITS", "chat=1/0"),
        ("HUB_RATE_LIMITS", "chat=0/5"),
        ("HUB_DURABILITY", "disk"), ("HUB_DURABILITY", "room=fsync"),
        ("HUB_JWT_SECRET", "too short"), ("HUB_JWT_PUBLIC_KEY", "not pem"), ("S3_BUCKET", "No Bucket"),
    ],
)  # fmt: skip # a case a row
def test_a_wrong_value_is_refused_by_name(env: str, text: str) -> None:
    """The refusal names the variable and what is allowed, and never repeats the value."""
    with pytest.raises(SettingRefused) as raised:
        Settings.from_env({env: text})

    assert str(raised.value).startswith(f"{env} must be ")
    assert len(text) < 4 or text not in str(raised.value)


def test_all_wrong_values_are_told_at_once() -> None:
    """An operator mends them in one go."""
    assert refused(HUB_PORT="x", HUB_PARTITIONS="y") == ["HUB_PARTITIONS", "HUB_PORT"]


def test_only_one_way_of_checking_tokens_may_be_set() -> None:
    """A secret beside a public key would leave the choice of algorithm to the token."""
    assert refused(HUB_JWT_SECRET=DEV_SECRET, HUB_JWKS_URL="https://x/keys") == ["HUB_JWKS_URL"]


def test_durability_may_differ_by_kind() -> None:
    """A kind that is not named stays at memory; a bare level counts for all, later entries win."""
    settings = Settings.from_env({"HUB_DURABILITY": "fsync,team=memory"})

    assert settings.durability[Kind.CONVERSATION] is Durability.FSYNC
    assert settings.durability[Kind.TEAM] is Durability.MEMORY


def test_agents_and_rates_are_parsed() -> None:
    """Both are lists separated by commas."""
    settings = Settings.from_env({"HUB_AGENTS": "demo=shop.agents:demo", "HUB_RATE_LIMITS": "chat=200/2000,live=0.5/1"})

    assert settings.agents == (NamedObject("demo", "shop.agents", "demo"),)
    assert settings.rate_limits == {"chat": RateOverride(200, 2_000), "live": RateOverride(0.5, 1)}
    assert settings.rates is not None
    assert (settings.rates["chat"].per_s, settings.rates["agent"].burst) == (200, 20)
    assert Settings.from_env({"HUB_RATE_LIMITS": "off"}).rates is None


def test_secrets_stay_out_of_the_repr() -> None:
    """Settings end up in logs."""
    settings = Settings.from_env({"HUB_JWT_SECRET": DEV_SECRET, "REDIS_URL": "redis://:hunter2@h/0"})

    assert DEV_SECRET not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_every_shown_default_is_the_default() -> None:
    """The table's text for a plain value reads back as the field's default."""
    for name, declared in declarations().items():
        try:
            shown = declared.reader.read(declared.shown_default)
        except ValueError:
            continue  # words for what happens when it is unset
        if getattr(Settings(), name) not in (None, (), {}):
            assert getattr(Settings(), name) == shown, name
