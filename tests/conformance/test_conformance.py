"""Both clients before the same scripted hub: every case with the same outcome, and none that a careless client would pass."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from conformance.cases import CASES, Case, seen_events
from conformance.stage import staged

HERE = Path(__file__).parent
HUB_JS = HERE.parents[1] / "hub/client_js/hub.js"
CLIENTS = {
    "python": [sys.executable, str(HERE / "python_client.py"), "{url}", "{tokens}"],
    "javascript": ["node", "--experimental-websocket", str(HERE / "js_client.mjs"), str(HUB_JS), "{url}", "{tokens}"],
}
NAIVE = [sys.executable, str(HERE / "naive_client.py"), "{url}", "{tokens}"]
NAIVE_S = 2.5
pytestmark = pytest.mark.slow


async def outcome(program: list[str], case: Case, patience_s: float = 45.0):
    """Carries out the steps of a case, and returns the messages that the client has told."""
    async with staged(program, case.tokens, patience_s) as stage:
        for name, *arguments in case.steps:
            await getattr(stage, name)(*arguments)
        events, others, ways = stage.result()
        return events, others, None if case.ways is None else ways


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case(client: str, case: Case) -> None:
    """The reader has seen all that the case says, and nothing else."""
    if shutil.which(CLIENTS[client][0]) is None:
        pytest.skip("no Node here")
    assert await outcome(CLIENTS[client], case) == (seen_events(case.events), case.others, case.ways)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_careless_client_fails(case: Case) -> None:
    """Each case tells a client that keeps the promises from one that forgets its place, or one that does not come back."""
    expected = (seen_events(case.events), case.others, case.ways)
    found = []
    for habit in ("returns", "stays away"):
        try:
            found.append(await outcome([*NAIVE, habit], case, NAIVE_S))
        except TimeoutError:
            return
        if found[-1] != expected:
            return
    assert found == ["one of them fails"]
