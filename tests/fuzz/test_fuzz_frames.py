"""Hostile frames against a live hub: no fault of ours, each id answered as often as it is owed, and it goes on.

`python tests/fuzz/run.py` does the same for as long as one likes; what it found is kept in `found.json`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.agents import EveryAgent
from fuzz.frames import CHANNELS, INBOUND, FrameSource
from fuzz.inside import Fuzzed, Tally, fuzz_hub
from hub.app import open_hub
from hub.errors import ERROR_CODES
from hub.node.hub import Hub
from streams.events import CATALOGUE
from support.examples import examples
from support.nodes import settings as node_settings
from support.nodes import token
from support.payload_strategies import payloads

FOUND = json.loads((Path(__file__).parent / "found.json").read_text())


class Live:
    """A hub that lives through many examples, in a loop of its own."""

    def __init__(self, redis_url: str, tenant: str, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.token = token("fuzz", tenant)
        self._stack = AsyncExitStack()
        self.hub: Hub = self.runner.run(self._open(redis_url, folder))

    async def _open(self, redis_url: str, folder: Path) -> Hub:
        hub = await self._stack.enter_async_context(open_hub(node_settings(redis_url, data_dir=str(folder))))
        hub.agents = EveryAgent()
        return hub

    def feed(self, messages: list[bytes], owed: dict[str, int]) -> Tally:
        """Messages on one new connection."""
        return self.runner.run(self._feed(messages, owed))

    async def _feed(self, messages: list[bytes], owed: dict[str, int]) -> Tally:
        tally = Tally()
        fuzzed = Fuzzed(self.hub, FrameSource(0), tally)
        await fuzzed.open(self.token)
        for data in messages:
            if fuzzed.sink.close_code is None:
                await fuzzed.feed(data, {})
        fuzzed._owed.update(owed)
        fuzzed._sent.update(dict.fromkeys(owed, b"[" + b",".join(messages) + b"]"))
        await fuzzed.end()
        return tally

    def close(self) -> None:
        """Stop the hub and the loop."""
        self.runner.run(self._stack.aclose())
        self.runner.close()


@pytest.fixture
def live(redis_url: str, tenant: str, tmp_path: Path) -> Iterator[Live]:
    """A hub for one test and all its examples."""
    found = Live(redis_url, tenant, tmp_path)
    yield found
    found.close()


def without_fault(tally: Tally) -> None:
    """Checks that every run must pass."""
    assert tally.faults == []
    assert not tally.codes[4030]
    assert {*tally.codes} <= {*ERROR_CODES}
    assert {*tally.closes} <= {code for code, row in ERROR_CODES.items() if row.closes} | {4005}


@pytest.mark.parametrize("seed", range(2))
def test_thousands_of_hostile_messages(live: Live, seed: int) -> None:
    """Each answered with a documented code or a reply, as often as owed; the hub serves the last as the first."""
    tally = live.runner.run(fuzz_hub(live.hub, FrameSource(seed, live.token), live.token, 1_000))

    without_fault(tally)
    assert tally.frames == 1_000
    assert len(tally.codes) >= 5
    assert tally.answers > 500


FRAMES = st.lists(
    st.sampled_from([name for name in INBOUND if name not in {"connection.init", "connection.reconnect"}]).flatmap(
        lambda name: st.tuples(st.just(name), payloads(CATALOGUE[name]), st.sampled_from(CHANNELS))
    ),
    min_size=1,
    max_size=12,
)


def test_valid_payloads_in_any_order(live: Live) -> None:
    """Whatever valid commands come in whatever order: each id is answered exactly once, or once a channel."""

    @examples(30)
    @given(FRAMES)
    def run(frames: list[tuple[str, dict[str, object], str]]) -> None:
        messages, owed = [], {}
        for number, (name, payload, channel) in enumerate(frames):
            id_ = f"v{number}"
            frame: dict[str, object] = {"type": name, "id": id_, "payload": payload}
            if CATALOGUE[name].kinds:
                frame["channel"] = channel
            channels = payload.get("channels") if name in {"channel.subscribe", "channel.unsubscribe"} else None
            owed[id_] = max(1, len(channels)) if isinstance(channels, list) else 1
            messages.append(json.dumps(frame).encode())
        without_fault(live.feed(messages, owed))

    run()


@pytest.mark.parametrize("case", FOUND, ids=[case["what"] for case in FOUND])
def test_what_was_found_stays_mended(live: Live, case: dict[str, object]) -> None:
    """Messages that once brought about a fault."""
    texts = case["messages"]
    assert isinstance(texts, list)

    without_fault(live.feed([str(text).encode() for text in texts], {}))
