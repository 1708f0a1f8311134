"""Commands that look: channels, watch, top, state, completion, the banner of `hub dev`; against a real `hub dev`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.hub_process import PROGRAM, Server, clean_environment
from support.terminal_command import PATIENCE_S, hub, hub_on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the server is killed")]


class Dev(NamedTuple):
    """A running `hub dev` and its folder."""

    server: Server
    data: Path

    def hub(self, *arguments: str) -> str:
        """The output of a command that succeeds."""
        code, out, err = hub(self.data, *arguments)
        assert code == 0, err
        return out

    def send(self, channel: str, text: str) -> None:
        self.hub("send", channel, text)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A hub in which a few channels have events."""
    folder = tmp_path_factory.mktemp("inspect")
    server = Server("dev", "--port", "0", "--data", str(folder))
    running = Dev(server, folder)
    for channel, text in (("conversation:a1", "one"), ("conversation:a1", "two"), ("conversation:b1", "three")):
        running.send(channel, text)
    yield running
    server.process.terminate()
    server.process.communicate(timeout=PATIENCE_S)


def test_the_banner_names_the_agents_and_the_token_once(dev: Dev) -> None:
    """The token is in the console's address, where it is needed."""
    assert re.search(r"^  agents   demo ", dev.server.banner, re.MULTILINE)
    (token,) = re.findall(r"eyJ[\w.-]+", dev.server.banner)
    assert f"/console#token={token}\n" in dev.server.banner


def test_channels_lists_heads_by_pattern(dev: Dev) -> None:
    """A pattern has a kind or is for names of any kind; another tenant has none of them."""
    rows = [json.loads(line) for line in dev.hub("channels", "conversation:?1").splitlines()]

    assert [(row["channel"], row["head"], row["kept"]) for row in rows] == [
        ("conversation:a1", 2, 2),
        ("conversation:b1", 1, 1),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["active"]) for row in rows)
    assert [json.loads(line)["channel"] for line in dev.hub("channels", "b*").splitlines()] == ["conversation:b1"]
    assert hub(dev.data, "channels", "team:*")[1:] == ("", "no channel of tenant acme fits team:*\n")
    assert hub(dev.data, "channels", "?1", "--tenant", "other")[1] == ""


def test_channels_says_when_there_are_more(dev: Dev) -> None:
    """It is bounded, and does not look whole when it is not."""
    code, out, err = hub(dev.data, "channels", "?1", "--limit", "1")

    assert (code, len(out.splitlines())) == (0, 1)
    assert err == "more than 1 channels match: raise --limit, or narrow the pattern\n"


def test_channels_on_a_terminal_is_for_people(dev: Dev) -> None:
    """A line for each, in columns."""
    shown = hub_on_terminal(dev.data, "channels", "conversation:a1")

    assert shown.end() == 0
    assert re.fullmatch(r"conversation:a1 +#2 +2 kept  \d{4}-\d\d-\d\d \d\d:\d\d\n", shown.text)


@pytest.mark.long
def test_watch_prints_what_is_written_to_any_channel(dev: Dev) -> None:
    """New channels too, and nothing that was there before; it ends at the count."""
    dev.send("conversation:w1", "before")
    watching = subprocess.Popen(
        [*PROGRAM, "watch", "conversation:w*", "--interval", "0.1", "--count", "2"],
        env=clean_environment(HUB_DATA=str(dev.data)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip # many arguments
    assert watching.stderr is not None
    assert watching.stderr.readline() == "watching 1 channels and new ones\n"
    for channel in ("conversation:w1", "conversation:x1", "conversation:w2"):
        dev.send(channel, f"to {channel}")
    out, err = watching.communicate(timeout=PATIENCE_S)

    events = [json.loads(line) for line in out.splitlines()]
    assert (watching.returncode, err) == (0, "")
    assert [(event["channel"], event["seq"], event["payload"]["text"]) for event in events] == [
        ("conversation:w1", 2, "to conversation:w1"),
        ("conversation:w2", 1, "to conversation:w2"),
    ]


def test_top_shows_figures_of_a_node(dev: Dev) -> None:
    """Once, in a pipe, as JSON; an address where nothing answers is told."""
    (line,) = dev.hub("top", "--once", "--interval", "0.2").splitlines()
    figures = json.loads(line)

    assert figures["address"] == dev.server.url
    assert figures["connections"] == 0
    assert figures["appended_per_s"] >= 0
    assert "trouble" not in figures
    code, out, err = hub(dev.data, "top", "--once", "--url", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "hub top: no metrics at http://127.0.0.1:1: start a hub, or see --url" in err


def test_connections_are_found_by_user_and_one_is_closed(dev: Dev) -> None:
    """The client comes back by itself and misses nothing; without the grant it is 4003."""
    following = subprocess.Popen(
        [*PROGRAM, "tail", "conversation:t1", "--user", "bob", "--format", "text"],
        env=clean_environment(HUB_DATA=str(dev.data)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip # many arguments
    try:
        assert following.stdout is not None
        found = ""
        while "conversation:t1" not in found:
            found = dev.hub("connections", "bob")
        told = json.loads(found)
        dev.send("conversation:t1", "before")
        assert following.stdout.readline().endswith("alice: before\n")
        closed = json.loads(dev.hub("connections", "--close", told["session_id"]))
        dev.send("conversation:t1", "after")
        assert following.stdout.readline().endswith("alice: after\n")
    finally:
        following.kill()
        following.communicate(timeout=PATIENCE_S)

    assert closed == {"closed": told["session_id"]}
    assert (told["user"], told["kind"]) == ("bob", "socket")
    assert {"user:bob", "conversation:t1"} == told["channels"].keys()
    weak = dev.hub("token", "--user", "eve", "--tenant", "acme", "--grant", "conversation:*=*").strip()
    code, out, err = hub(dev.data, "connections", "--token", weak)
    assert (code, out) == (1, "")
    assert "403 4003 permission_denied: this is for operators" in err
    code, _, err = hub(dev.data, "connections", "--close", "nobody")
    assert (code, "404 4018 not_found" in err) == (1, True)


def test_state_is_for_people_on_a_terminal_and_json_elsewhere(dev: Dev) -> None:
    """`--json` is for a terminal as well."""
    shown, as_json = (
        hub_on_terminal(dev.data, "state", "conversation:a1", "--tenant", "acme", *more) for more in ((), ("--json",))
    )

    assert (shown.end(), as_json.end()) == (0, 0)
    assert shown.text.startswith("conversation:a1 at #2, epoch ")
    assert "  messages (2)\n    alice: one\n    alice: two\n" in shown.text
    assert json.loads(as_json.text) == json.loads(dev.hub("state", "conversation:a1", "--tenant", "acme"))


def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """By the script that `hub completion bash` prints, in a real bash."""
    program = tmp_path / "hub"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from ops.cli import main; main()" "$@"\n')
    program.chmod(0o755)
    asked = (("hub", "stat"), ("hub", "state", "--t"), ("hub", "audit", "v"), ("hub", "replay", "--format", ""))
    lines = [
        f"COMP_WORDS=({' '.join(word or repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; _hub; "
        "echo ${COMPREPLY[@]}"
        for words in asked
    ]
    script = "\n".join(["source <(hub completion bash)", *lines])
    env = clean_environment(PATH=f"{tmp_path}:{os.environ['PATH']}", PYTHONPATH=str(Path.cwd()))
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["state", "--tenant", "verify", "jsonl text"]
