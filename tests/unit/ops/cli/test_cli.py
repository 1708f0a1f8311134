"""The `hub` command as a frame: finding commands, refusing wrong input, exit codes. What needs a server is tested elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from hub.config import DEV_SECRET
from ops.cli import known_commands
from ops.cli.options import Format, pace_of
from ops.cli.output import line

ROOT = Path(__file__).parents[4]
Hub = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(command_line: Hub) -> Hub:
    """The command line."""
    return command_line


def test_help_lists_every_command_file(hub: Hub) -> None:
    """A command is a file; its first line is its help."""
    code, out, _ = hub("--help")

    files = {file.stem.rstrip("_") for file in (ROOT / "ops/cli/commands").glob("[a-z]*.py")}
    assert code == 0
    assert set(known_commands()) == files
    assert {row.split()[0] for row in out.splitlines() if row.startswith("  ")} == files
    assert all(text.endswith(".") for text in known_commands().values())


def test_help_imports_no_command() -> None:
    """`hub --help` must come at once: nothing but the standard library is imported for it."""
    program = (
        "import sys; sys.argv = ['hub', '--help']\nfrom ops.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    program += "print([name for name in ('typer', 'redis', 'pydantic', 'fastapi', 'asyncio') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(known_commands()))
def test_every_command_has_help(hub: Hub, name: str) -> None:
    """Each one loads and tells its options."""
    code, out, _ = hub(name, "--help")

    assert code == 0
    assert out.startswith(f"Usage: hub {name}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tokn",), "did you mean `hub token`?"),
        (("xyzzy",), "`hub --help` lists them"),
        (("token",), "Missing option '--user'"),
        (("token", "--user", "a b", "--tenant", "t", "--grant", "x=read"), "--user must be"),
        (("token", "--user", "a", "--tenant", "t:", "--grant", "x=read"), "--tenant must be"),
        (("token", "--user", "a", "--tenant", "t", "--grant", "x"), "a grant is written"),
        (("token", "--user", "a", "--tenant", "t", "--grant", "x=fly"), "action"),
        (("token", "--user", "a", "--tenant", "t", "--grant", "x=read", "--ttl", "soon"), "--ttl"),
        (("token", "--user", "a", "--tenant", "t"), "give --grant or --scope"),
        (("token", "--user", "a", "--tenant", "t", "--scope", "god"), "--scope must be"),
        (("token", "--user", "a", "--tenant", "t", "--scope", "auditor", "--grant", "x=read"), "leave --grant out"),
        (("token", "--user", "a", "--tenant", "t", "--grant", "x=read", "--tenants", "b"), "--tenants needs"),
        (("replay", "lobby:1", "--tenant", "t"), "kind must be one of"),
        (("replay", "team:1", "--tenant", "t", "--after", "5"), "--after: a cursor is"),
        (("replay", "team:1", "--tenant", "t", "--from", "noon"), "--from: write a time like"),
        (("replay", "team:1", "--tenant", "t", "--after", "1-0", "--from", "2026-01-01T00:00:00Z"), "not both"),
        (("replay", "team:1", "--tenant", "t", "--speed", "fast"), "--speed must be max"),
        (("replay", "team:1", "--tenant", "t", "--format", "xml"), "--format"),
        (("state", "team:1", "--tenant", "t", "--at", "x"), "--at"),
        (("import", "irc", "/nowhere", "--channel", "team:1", "--tenant", "t"), "does not exist"),
        (("import", "cvs"), "cvs"),
        (("serve", "--workers", "0"), "--workers"),
        (("tail", "lobby:1"), "kind must be one of"),
        (("send", "conversation", "hi"), "a channel's name is"),
        (("upload", "lobby:1", __file__), "kind must be one of"),
        (("tail", "team:1", "--url", "localhost"), "--url"),
        (("doctor", "--redis", "localhost"), "--redis"),
        (("replay", "team:1", "--tenant", "t", "--redis", "localhost:6379"), "--redis"),
        (("dev", "--port", "65536"), "--port"),
    ],
)
def test_wrong_input_is_one_line_and_a_code(hub: Hub, arguments: tuple[str, ...], says: str) -> None:
    """The line is on stderr and names what was wrong; nothing is on stdout; the code is 2."""
    code, out, err = hub(*arguments)

    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_serving_without_a_key_is_refused(hub: Hub) -> None:
    """A node that cannot check tokens must not start; `hub dev` has its dev secret instead."""
    code, _, err = hub("serve")

    assert code == 2
    assert "HUB_JWT_SECRET" in err


def test_wrong_settings_are_refused_together(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names every variable."""
    monkeypatch.setenv("HUB_PORT", "x")
    monkeypatch.setenv("HUB_PARTITIONS", "0")

    code, _, err = hub("serve")

    assert code == 2
    assert err.count("\n") == 1
    assert "HUB_PORT must be" in err
    assert "HUB_PARTITIONS must be" in err


def test_a_missing_server_extra_names_the_remedy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who installed only the client is told what to install."""
    monkeypatch.setitem(sys.modules, "typer.main", None)

    code, _, err = hub("token")

    assert code == 1
    assert "pip install 'realtime-hub[server]'" in err


def test_a_token_has_the_claims_asked_for(hub: Hub) -> None:
    """Alone on stdout, signed with the dev secret when no other is set."""
    code, out, _ = hub(
        "token", "--user", "alice", "--tenant", "acme", "--grant", "conversation:*=read,write", "--ttl", "60"
    )

    claims = jwt.decode(out.strip(), DEV_SECRET, algorithms=["HS256"], audience="hub")
    assert code == 0
    assert (claims["sub"], claims["tenant"]) == ("alice", "acme")
    assert claims["grants"] == {"conversation:*": ["read", "write"]}
    assert claims["exp"] - claims["iat"] == 60
    assert abs(claims["iat"] - time.time()) < 60


def test_a_token_for_an_auditor_has_a_scope_and_no_grants(hub: Hub) -> None:
    """The tenants that it may read as well stand beside it."""
    code, out, _ = hub("token", "--user", "eve", "--tenant", "acme", "--scope", "auditor", "--tenants", "b, c")

    claims = jwt.decode(out.strip(), DEV_SECRET, algorithms=["HS256"], audience="hub")
    assert code == 0
    assert (claims["scope"], claims["tenants"], claims["grants"]) == ("auditor", ["b", "c"], {})


def test_output_to_a_pipe_is_the_wire_event_and_on_request_a_sentence() -> None:
    """JSON lines are the stored bytes; the sentence shows no control characters."""
    event = {
        "id": "1795367479511-0",
        "seq": 12,
        "type": "chat.message",
        "actor": {"id": "bob"},
        "payload": {"text": "a\x1b[2J"},
    }
    raw = json.dumps(event).encode()

    assert line(raw) == raw.decode()
    assert line(raw, Format.TEXT).endswith("   #12  bob: a�[2J")


def test_paces_scale_time() -> None:
    """`10x` plays ten seconds of the past in one; `max` waits for nothing."""
    assert pace_of("10x").due(100.0, 50.0) == 105.0
    assert pace_of("1x").due(100.0, 50.0) == 150.0
    assert not pace_of("max").is_limited
