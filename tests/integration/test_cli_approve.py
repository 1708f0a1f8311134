"""`hub approve` and `hub cancel` against a real `hub dev`: a run that waits for a person has a way out on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub_process import Server
from support.terminal_command import PATIENCE_S, hub
from support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the server is killed")]

AGENTS = """
async def choose(ctx, given):
    answer = await ctx.ask("Tea or coffee?", response_schema={"enum": ["tea", "coffee"]})
    yield f"One {answer.value}."
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a hub with the agent of this file."""
    folder = tmp_path_factory.mktemp("approve")
    (folder / "agents_of_approve.py").write_text(AGENTS)
    env = {"HUB_AGENTS": "choose=agents_of_approve:choose", "PYTHONPATH": f"{folder}:{Path.cwd()}"}
    server = Server("dev", "--port", "0", "--data", str(folder), env=env)
    yield folder
    server.process.terminate()
    server.process.communicate(timeout=PATIENCE_S)


def waiting(data: Path, channel: str, agent: str, text: str) -> str:
    """Begin a run that asks; the id of its question, which the command lists."""
    code, _, err = hub(data, "ask", "--agent", agent, "--channel", channel, text)
    assert code == 3, err
    code, out, _ = hub(data, "approve", channel)
    (request,) = map(json.loads, out.splitlines())
    assert code == 0
    return str(request["request_id"])


async def ended(data: Path, channel: str, count: int = 1) -> list[dict[str, Any]]:
    """The ends of runs in the channel, once there are so many."""

    def found() -> list[dict[str, Any]]:
        out = hub(data, "replay", channel, "--tenant", "acme", "--types", "agent.complete")[1]
        return [json.loads(line)["payload"] for line in out.splitlines()]

    await until(lambda: len(found()) >= count)
    return found()


@pytest.mark.parametrize(
    ("option", "resolution"),
    [((), "approved"), pytest.param(("--deny", "--reason", "no"), "denied", marks=pytest.mark.long)],
)
async def test_an_approval_is_given_or_denied_later(data: Path, option: tuple[str, ...], resolution: str) -> None:
    """The run goes on from another command than the one that asked."""
    channel = f"conversation:{resolution}"
    request = waiting(data, channel, "demo", "export")
    code, out, err = hub(data, "approve", channel, request, *option)
    (end,) = await ended(data, channel)
    resolved = hub(data, "replay", channel, "--tenant", "acme", "--types", "tool.call.resolved")[1]
    after = hub(data, "approve", channel)

    assert (code, json.loads(out)["request_id"]) == (0, request), err
    assert (end["outcome"], json.loads(resolved)["payload"]["resolution"]) == ("success", resolution)
    assert after[:2] == (0, "")


async def test_a_question_is_answered_by_one_of_its_choices(data: Path) -> None:
    """An answer that is none, or a decision, is refused with the choices, and the run still waits."""
    channel = "conversation:choice"
    request = waiting(data, channel, "choose", "hi")
    refused = [hub(data, "approve", channel, request, *more) for more in ((), ("--answer", "beer"), ("--deny",))]
    taken = hub(data, "approve", channel, request, "--answer", "tea")
    (end,) = await ended(data, channel)

    assert [code for code, _, _ in refused] == [2, 2, 2]
    assert all("[tea/coffee]" in err for _, _, err in refused)
    assert (taken[0], end["outcome"]) == (0, "success")


async def test_a_waiting_run_is_cancelled_and_the_one_behind_it_goes_on(data: Path) -> None:
    """With several under way one must be named; without any it says so."""
    channel = "conversation:stuck"
    request = waiting(data, channel, "choose", "hi")
    stuck = request.rpartition(".")[0]
    behind = json.loads(hub(data, "send", channel, "--agent", "demo", "help")[1])["run_id"]
    unnamed = hub(data, "cancel", channel)
    named = hub(data, "cancel", channel, stuck)
    ends = {end["run_id"]: end["outcome"] for end in await ended(data, channel, 2)}
    nothing = hub(data, "cancel", channel)

    assert (unnamed[0], stuck in unnamed[2], behind in unnamed[2]) == (1, True, True)
    assert (named[0], ends) == (0, {stuck: "cancelled", behind: "success"})
    assert (nothing[0], "no run is under way" in nothing[2]) == (1, True)


@pytest.mark.parametrize("command", ["approve", "cancel"])
def test_help_has_examples(data: Path, command: str) -> None:
    """And a question that nobody asked is named as such."""
    code, out, _ = hub(data, command, "--help")
    assert (code, f"hub {command} conversation:42" in out) == (0, True)
    assert hub(data, "approve", "conversation:none", "r1.q0")[0] == 1
