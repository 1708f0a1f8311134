"""Speed of folding state: `python -m ops.bench.fold [--data FOLDER]`. Uses no Redis; measures CPU time of one core.

With a folder of IRC logs, each file is folded as a channel: its messages, joins and leaves, in the form that `hub import irc`
stores. Each channel is also folded with snapshots in between, which must give equal bytes. Without a folder, generated events
of each kind of channel are folded.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from ops.importing.irc import date_in, drafts, parse, source_id
from projections.channel_state import ChannelState
from streams.channel import Channel, Kind
from streams.envelope import Actor, Draft, Entry, actor_json
from streams.json_bytes import to_json
from streams.redis.append import meta_json

START_MS: Final = 1_795_367_479_000
SNAPSHOT_EVERY: Final = 1_000
"""Number of events between snapshots, as on a node."""
_ALICE: Final = Actor("user", "alice", "c-1")
_DEMO: Final = Actor("agent", "demo")


class ChannelLog(NamedTuple):
    """The events of one channel, as read from its stream."""

    channel: Channel
    entries: list[Entry]


def stored(channel: Channel, events: Iterable[Draft]) -> ChannelLog:
    """Convert drafts to the entries that the log would return, half a second apart."""
    entries = []
    for seq, draft in enumerate(events, 1):
        event_id, actor, meta = b"%d-0" % (START_MS + seq * 500), actor_json(draft.actor), meta_json(draft)
        entries.append(Entry(event_id, seq, draft.type.encode(), b"1", actor, draft.data, meta))
    return ChannelLog(channel, entries)


def irc_logs(folder: Path) -> list[ChannelLog]:
    """Read each file of the folder as a conversation."""
    logs = []
    for file in sorted(folder.glob("*.txt")):
        text = file.read_text(encoding="utf-8", errors="replace")
        channel = Channel("bench", Kind.CONVERSATION, file.stem)
        events = parse(text.splitlines(), date_in(file.name))
        logs.append(stored(channel, drafts(events, channel, source_id(file.name, text.partition("\n")[0]))))
    return logs


def _draft(channel: Channel, event_type: str, actor: Actor, **payload: object) -> Draft:
    return Draft(channel, event_type, to_json(payload), actor, command="m-1")


def chat(channel: Channel) -> Iterator[Draft]:
    """Generate messages of people."""
    while True:
        yield _draft(channel, "chat.message", _ALICE, text="one last problem with my laptop: it does not see the card")


def answers(channel: Channel) -> Iterator[Draft]:
    """Generate questions answered by an agent that uses a tool: eight events each."""
    number = 0
    while True:
        run = {"run_id": f"r{number}"}
        answer = {**run, "message_id": f"r{number}.0", "attempt": 1}
        call = {**run, "tool_call_id": f"c{number}"}
        status = {**run, "agent": "demo", "attempt": 1, "segment": 1}
        yield _draft(channel, "chat.message", _ALICE, text="who said that?")
        yield _draft(channel, "agent.status", _DEMO, **status, state="queued")
        yield _draft(channel, "agent.status", _DEMO, **status, state="running")
        yield _draft(channel, "assistant.message.start", _DEMO, **answer, agent="demo")
        yield _draft(
            channel, "tool.call.start", _DEMO, **call, message_id=f"r{number}.0", name="search", executor="server"
        )
        yield _draft(channel, "tool.call.complete", _DEMO, **call, outcome="ok", duration_ms=12)
        yield _draft(channel, "assistant.message.end", _DEMO, **answer, finish_reason="stop", text="It was bob. " * 40)
        yield _draft(
            channel,
            "agent.complete",
            _DEMO,
            **run,
            agent="demo",
            outcome="success",
            message_ids=[],
            duration_ms=1,
            attempts=1,
        )
        number += 1


def notices(channel: Channel) -> Iterator[Draft]:
    """Generate notifications in a person's inbox, which are read from time to time."""
    while True:
        for _ in range(20):
            yield _draft(channel, "team.notification", _ALICE, kind="mention", title="bob mentioned you", link="/x")
        yield _draft(channel, "team.notification.read", _ALICE, up_to=f"{START_MS * 2}-0")


def patches(channel: Channel) -> Iterator[Draft]:
    """Generate changes of a document of a hundred lines, edited line by line."""
    yield _draft(
        channel, "document.update", _ALICE, base_version=0, patch=[{"op": "add", "path": "/lines", "value": [""] * 100}]
    )
    version = 1
    while True:
        operation = {"op": "replace", "path": f"/lines/{version % 100}", "value": "x" * 40}
        yield _draft(channel, "document.update", _ALICE, base_version=version, patch=[operation])
        version += 1


GENERATED: Final[dict[str, tuple[Kind, Callable[[Channel], Iterator[Draft]]]]] = {
    "chat.message": (Kind.CONVERSATION, chat),
    "answers with a tool": (Kind.CONVERSATION, answers),
    "notifications": (Kind.USER, notices),
    "document patches": (Kind.DOCUMENT, patches),
}


def rebuild(logs: list[ChannelLog]) -> list[ChannelState]:
    """Fold every channel from the beginning."""
    states = []
    for log in logs:
        state = ChannelState.begin(log.channel)
        for entry in log.entries:
            state.advance(entry)
        states.append(state)
    return states


def through_snapshots(log: ChannelLog) -> ChannelState:
    """Fold the channel with a snapshot and a restore after every stretch of events, as when nodes restart."""
    state = ChannelState.begin(log.channel)
    for number, entry in enumerate(log.entries):
        if number % SNAPSHOT_EVERY == 0:
            state = ChannelState.load(state.dump())
        state.advance(entry)
    return state


def measure(name: str, logs: list[ChannelLog], rounds: int) -> None:
    """Fold the logs `rounds` times; print the median rate, and the cost of rendering and storing the largest state."""
    seconds: list[float] = []
    for _ in range(rounds):
        begun = time.process_time()
        states = rebuild(logs)
        seconds.append(time.process_time() - begun)
    count, took_s = sum(len(log.entries) for log in logs), statistics.median(seconds)
    largest = max(states, key=lambda state: state.seq)
    snapshot, dump_ms = _timed(largest.dump)
    _, load_ms = _timed(lambda: ChannelState.load(snapshot))
    shown, render_ms = _timed(ChannelState.load(snapshot).render)
    print(
        f"{name:20} {count:7,} events  {count / took_s:9,.0f} events/s  {took_s / count * 1e6:5.2f} µs each | largest state: "
        f"{len(shown) / 1024:.0f} KiB in {render_ms:.2f} ms, snapshot {len(snapshot) / 1024:.0f} KiB, "
        f"kept in {dump_ms:.1f} ms, read in {load_ms:.1f} ms"
    )


def _timed(make: Callable[[], bytes | ChannelState]) -> tuple[bytes, float]:
    begun = time.process_time()
    made = make()
    return made if isinstance(made, bytes) else b"", (time.process_time() - begun) * 1e3


def main() -> None:
    """Run the benchmark on this machine."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, help="a folder of IRC logs")
    arguments.add_argument("--events", type=int, default=100_000, help="generated events of each kind")
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, median of {chosen.rounds}")
    if chosen.data is None:
        for name, (kind, events) in GENERATED.items():
            channel = Channel("bench", kind, "one")
            measure(name, [stored(channel, islice(events(channel), chosen.events))], chosen.rounds)
        return
    logs = irc_logs(chosen.data)
    measure("imported IRC", logs, chosen.rounds)
    same = sum(live.dump() == through_snapshots(log).dump() for live, log in zip(rebuild(logs), logs, strict=True))
    kinds = [entry.type for log in logs for entry in log.entries]
    print(
        f"{kinds.count(b'chat.message'):,} messages; {same} of {len(logs)} channels have the same bytes through snapshots"
    )


if __name__ == "__main__":
    main()
