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


class EachCase:
    """Every case with one client. A class for each client, so that test processes take one each."""

    client: str

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    async def test_case(self, case: Case) -> None:
        """The client sees exactly the events, the other messages and the ways that the case names."""
        if shutil.which(CLIENTS[self.client][0]) is None:
            pytest.skip("no Node here")
        assert await outcome(CLIENTS[self.client], case) == (seen_events(case.events), case.others, case.ways)


class TestPython(EachCase):
    """The client in `hub.client`."""

    client = "python"


class TestJavaScript(EachCase):
    """The client in `hub/client_js`."""

    client = "javascript"


CARELESS = [pytest.param(case, marks=[] if at % 8 == 0 else pytest.mark.long) for at, case in enumerate(CASES)]
"""A careless client fails late: most of these wait for what it never asks for."""


@pytest.mark.parametrize("case", CARELESS, ids=lambda case: case.name)
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
