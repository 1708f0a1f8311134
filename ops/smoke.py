"""A look at a whole hub in seconds: it starts, a conversation goes through it, the plug is pulled in mid-answer, it stops.

`python -m ops.smoke` (or `make smoke`) prints a line for each thing seen, and exits with 1 at the first that is missing. It uses
the settings of the environment, but a Redis, a data folder and a port of its own, so a hub that runs already is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hub.client import ClientError, Event, HubClient, Receipt, Stored, answers
from ops.children import hub
from ops.cli.identity import token_of
from ops.cli.running_hub import RunningHub, running_hub

CHANNEL: Final = "conversation:smoke"
ASIDES: Final = 3
UP_S: Final = 60.0
STEP_S: Final = 30.0
"""Maximum duration of a single step; normally none takes a second."""


class Missing(Exception):
    """Something that a working hub shows was not seen."""


def main() -> int:
    """Run every step; returns the exit code."""
    started_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="hub-smoke-") as folder, _serving(Path(folder), started_s) as here:
            asyncio.run(_walk(here.url, Path(folder), started_s))
    except (Missing, ClientError, TimeoutError, OSError) as failed:
        print(f"smoke: MISSING: {failed or 'a step took too long'}")
        return 1
    print(f"smoke: all of it seen in {time.monotonic() - started_s:.1f} s")
    return 0


@contextlib.contextmanager
def _serving(data: Path, started_s: float) -> Iterator[RunningHub]:
    """Run `hub dev` until it is to stop, which it must do by itself and well."""
    with (data / "told").open("w+b") as told:
        command = hub("dev", "--port", "0", "--data", str(data))
        env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        serving = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=told)
        try:
            while (here := running_hub(data)) is None:
                if serving.poll() is not None or time.monotonic() > started_s + UP_S:
                    told.seek(0)
                    raise Missing(f"a hub that is up; it said: {told.read().decode(errors='replace').strip()}")
                time.sleep(0.05)
            _seen(started_s, f"hub dev is up on {here.url}")
            yield here
            serving.terminate()
            if (code := serving.wait(STEP_S)) != 0:
                raise Missing(f"a clean end after SIGTERM; the exit code is {code}")
            _seen(started_s, "SIGTERM ended it, exit code 0")
        except subprocess.TimeoutExpired as failed:
            raise Missing(f"an end within {STEP_S:g} s after SIGTERM") from failed
        finally:
            serving.kill()
            serving.wait()


async def _walk(url: str, data: Path, started_s: float) -> None:
    """Talk as two people: one loses the connection while an agent answers, the other writes meanwhile."""
    ready = await asyncio.to_thread(_status, f"{url}/readyz")
    if ready != 200:  # noqa: PLR2004
        raise Missing(f"readiness: /readyz answered {ready}")
    alice, bob = (HubClient(url, token_of("", user, "acme", data)) for user in ("alice", "bob"))
    async with asyncio.timeout(STEP_S * 3), alice, bob:
        first = await bob.send(CHANNEL, "hello")
        _same("the number of the first message", first.seq, 1)
        _seen(started_s, f"a message is stored as #{first.seq} ({first.durability})")

        asked = await alice.send(CHANNEL, "help", agent="demo")
        at_cut, text = await _answer(alice, bob, asked)
        _seen(
            started_s, f"plug pulled after {len(at_cut)} of {len(text)} characters of an answer; the sentence went on"
        )

        events = await _followed(alice)
        _same("the numbers of the events", [event.seq for event in events], list(range(1, len(events) + 1)))
        told = [event.payload["text"] for event in events if event.type == "assistant.message.end"]
        _same("the answer in the log", told, [text])
        asides = [event for event in events if event.payload.get("text", "").startswith("meanwhile")]
        _same("the messages written meanwhile", len(asides), ASIDES)
        _seen(started_s, f"{len(events)} events in the log, #1 to #{len(events)} without a hole, the answer among them")

        read = (await bob.history(CHANNEL, after="0")).events
        _same("the bytes that two readers get", [event.raw for event in read], [event.raw for event in events])
        _seen(started_s, "two readers got the same bytes")


async def _answer(alice: HubClient, bob: HubClient, asked: Stored) -> tuple[str, str]:
    """Read an answer, and cut the connection at its first words; returns the text at that moment, and at the end."""
    at_cut = text = ""
    async for text in answers(alice, CHANNEL, asked):
        if not at_cut:
            at_cut = text
            alice.cut()
            for number in range(ASIDES):
                await bob.send(CHANNEL, f"meanwhile {number}")
    if not text.startswith(at_cut) or len(text) <= len(at_cut):
        raise Missing(f"an answer that goes on after the cut: {at_cut!r}, then {text!r}")
    return at_cut, text


async def _followed(reader: HubClient) -> list[Event]:
    """Read the whole channel, with the connection cut once more on the way."""
    events: list[Event] = []
    items = reader.subscribe(CHANNEL, after="0", with_receipts=True)
    subscribed = await items.ready()
    async with items:
        async for item in items:
            if isinstance(item, Event):
                events.append(item)
                if len(events) == 1:
                    reader.cut()
                if item.seq == subscribed.head.seq:
                    return events
            elif isinstance(item, Receipt) and item.gap is not None:
                raise Missing(f"events: {item.gap}")
    return events


def _status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=STEP_S) as answer:  # noqa: S310 - our own loopback URL
        return int(answer.status)


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Missing(f"{what}: {found!r} and not {wanted!r}")


def _seen(started_s: float, what: str) -> None:
    print(f"smoke: {time.monotonic() - started_s:5.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
