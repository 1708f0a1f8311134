"""`hub ask` against a real `hub dev`: a pipe, a terminal, questions, Ctrl-C, failures."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub_process import Server
from support.terminal_command import PATIENCE_S, hub, hub_on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the server is killed")]

AGENTS = """
import asyncio
from consumers.agents import AgentFailed, Reasoning

PACE_S = 0.05

async def fail(ctx, given):
    yield "I was about to "
    raise AgentFailed("no_budget", "the budget is spent")

async def choose(ctx, given):
    yield Reasoning("Hot or cold?")
    answer = await ctx.ask("Tea or coffee?", response_schema={"enum": ["tea", "coffee"]})
    yield f"One {answer.value}."

async def endless(ctx, given):
    while True:
        yield "on and on "
        await asyncio.sleep(PACE_S)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a hub with agents of this file."""
    folder = tmp_path_factory.mktemp("ask")
    (folder / "agents_of_ask.py").write_text(AGENTS)
    named = ",".join(f"{name}=agents_of_ask:{name}" for name in ("fail", "choose", "endless"))
    env = {"HUB_AGENTS": named, "PYTHONPATH": f"{folder}:{Path.cwd()}"}
    server = Server("dev", "--port", "0", "--data", str(folder), env=env)
    yield folder
    server.process.terminate()
    server.process.communicate(timeout=PATIENCE_S)


def events(data: Path, channel: str, kind: str) -> list[dict[str, Any]]:
    """Payloads of one type, out of the log."""
    out = hub(data, "replay", channel, "--tenant", "acme", "--types", kind)[1]
    return [json.loads(line)["payload"] for line in out.splitlines()]


def test_a_pipe_gets_the_text_and_nothing_else(data: Path) -> None:
    """Calls of tools are lines on stderr."""
    channel = "conversation:pipe"
    hub(data, "send", channel, "the deadline is Friday")
    code, out, err = hub(data, "ask", "--agent", "demo", "--channel", channel, "who said deadline?")

    assert code == 0
    assert out.startswith("Let me look. \n\n1 message about “deadline”:")
    assert out == "\n\n".join(end["text"] for end in events(data, channel, "assistant.message.end")) + "\n"
    assert err.startswith('  tool search_history {"words": "deadline"}: ok, ')
    assert err.count("\n") == 1


def test_a_terminal_sees_it_grow(data: Path) -> None:
    """Word by word, not at once at the end."""
    asked = hub_on_terminal(data, "ask", "--agent", "demo", "--channel", "conversation:grow", "help")

    assert asked.end() == 0
    assert asked.text.rstrip().endswith("- export (asks you first)")
    assert asked.part_count > 5


@pytest.mark.parametrize(("typed", "says"), [("y", "Here it is"), ("n", "Then I leave it.")])
def test_an_approval_is_asked_for_on_a_terminal(data: Path, typed: str, says: str) -> None:
    """An answer that is neither y nor n is asked again."""
    channel = f"conversation:approval-{typed}"
    asked = hub_on_terminal(data, "ask", "--agent", "demo", "--channel", channel, "export")
    asked.wait_for("[y/n] ")
    asked.type("perhaps\n")
    asked.wait_for("perhaps\nExport")
    asked.type(f"{typed}\n")

    assert asked.end() == 0
    assert says in asked.text
    assert ("output history.csv (artifact)" in asked.text) == (typed == "y")


def test_a_question_is_answered_by_one_of_its_choices(data: Path) -> None:
    """They stand behind the question; anything else is asked again."""
    asked = hub_on_terminal(data, "ask", "--agent", "choose", "--channel", "conversation:choice", "--reasoning", "hi")
    asked.wait_for("Tea or coffee? [tea/coffee] ")
    asked.type("beer\n")
    asked.wait_for("beer\nTea or coffee?")
    asked.type("tea\n")

    assert asked.end() == 0
    assert asked.text.startswith("Hot or cold?\n")
    assert "One tea.\n" in asked.text


def test_without_a_terminal_a_question_ends_with_3(data: Path) -> None:
    """It says which; `--yes` approves."""
    channel = "conversation:nobody"
    code, _, err = hub(data, "ask", "--agent", "demo", "--channel", channel, "export")
    (request,) = events(data, channel, "tool.call.request")

    assert code == 3
    assert request["request_id"] in err
    assert request["prompt"] in err
    code, out, err = hub(data, "ask", "--agent", "demo", "--channel", "conversation:yes", "--yes", "export")
    assert (code, "approved by alice" in err) == (0, True)
    assert "Here it is, as the output history.csv." in out


def test_ctrl_c_cancels_the_run(data: Path) -> None:
    """It ends with 130, and the run with it."""
    channel = "conversation:stop"
    asked = hub_on_terminal(data, "ask", "--agent", "endless", "--channel", channel, "go")
    asked.wait_for("on and on on and on ")
    asked.process.send_signal(signal.SIGINT)

    assert asked.end() == 130
    assert "cancelled" in asked.text
    follow = hub(data, "ask", "--agent", "demo", "--channel", channel, "help")  # runs of a conversation stand in a row
    assert follow[0] == 0
    assert [end["outcome"] for end in events(data, channel, "agent.complete")] == ["cancelled", "success"]


def test_a_failed_run_ends_with_1_and_its_reason(data: Path) -> None:
    """The text so far is printed."""
    code, out, err = hub(data, "ask", "--agent", "fail", "--channel", "conversation:fail", "x")

    assert (code, out) == (1, "I was about to \n")
    assert err == "hub ask: fail failed (no_budget): the budget is spent\n"


@pytest.mark.long
def test_refusals_say_what_to_do(data: Path) -> None:
    """An agent nobody serves, and no agent at all."""
    err = hub(data, "ask", "--agent", "nobody", "x")[2]
    assert "hub ask: no worker serves the agent nobody; there are: " in err
    assert "demo" in err.splitlines()[-1]
    code, _, err = hub(data, "ask", "x")
    assert (code, "name one with --agent" in err) == (1, True)


@pytest.mark.long
def test_send_may_name_an_agent(data: Path) -> None:
    """The run is told."""
    told = json.loads(hub(data, "send", "conversation:send", "help", "--agent", "demo")[1])

    assert told["run_id"]
