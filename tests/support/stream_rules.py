"""Checks stored logs against the rules of docs/protocol.md#stream-rules: `log_violations`. Pure.

`socket_rules` checks what a socket received; a test of any scenario can end with both. Each returns all violations with the
number of the rule, and nothing if there are none.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from projections.channel_state import ChannelState
from projections.errors import BrokenEvent, EventsMissing
from projections.recorded import Recorded
from streams.channel import Channel, parse_channel
from streams.cursor import id_order
from streams.envelope import Entry
from streams.events import CATALOGUE
from streams.events.validation import InvalidPayload
from streams.records.settings import CHANGING
from streams.records.uploads import file_id_of
from support.payloads import read
from support.run_rules import Violation, run_violations

Json = dict[str, Any]
Logs = Mapping[str, Sequence[str]]
"""The events of each channel in wire form, one JSON text each, as printed by `hub replay --format jsonl`."""
SECRETS = {
    "a token": re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    "a signed URL": re.compile(r"[?&](X-Amz-Signature|signature|Signature|sig)="),
}
"""Patterns of values that must not be in any stream."""
SNAPSHOTS = 40


def lines_of(channel: Channel, entries: Iterable[Entry]) -> list[str]:
    """Convert a page of the log to the form of `Logs`."""
    return [entry.wire(channel.wire.encode()).decode() for entry in entries]


def log_violations(logs: Logs, tenant: str, *, is_quiet: bool = True) -> list[Violation]:
    """Violations of rules 1, 4 to 8 and 10 to 13 in the logs.

    Args:
        logs: complete channels of one tenant, from their first event.
        tenant: the tenant.
        is_quiet: no more events will follow, so everything that began must have ended.
    """
    parsed = {name: [json.loads(line) for line in lines] for name, lines in logs.items()}
    found = list(_causes(parsed))
    for name, events in parsed.items():
        channel = parse_channel(tenant, name)
        found += _sequence(name, events)
        found += secrets_in(logs[name])
        found += _commands(events)
        found += _folds(channel, events)
        sound = []
        for event in events:
            found += (problems := list(_contents(event)))
            sound += [] if problems else [event]
        for run_id, of_run in _runs(sound).items():
            found += run_violations(run_id, of_run, is_quiet=is_quiet)
        found += _versions(name, sound, is_quiet=is_quiet)
        found += _uploads(channel, sound, is_quiet=is_quiet)
    return found


def _sequence(name: str, events: Sequence[Json]) -> Iterator[Violation]:
    seqs = [event["seq"] for event in events]
    if seqs != list(range(1, len(seqs) + 1)):
        yield Violation(1, f"{name} counts {seqs[:20]}")
    order = [id_order(event["id"]) for event in events]
    if any(later <= earlier for earlier, later in itertools.pairwise(order)):
        yield Violation(1, f"ids of {name} do not rise")
    if any(event["channel"] != name for event in events):
        yield Violation(1, f"{name} holds events of other channels")


def _contents(event: Json) -> Iterator[Violation]:
    row = CATALOGUE.get(event["type"])
    if row is None or not row.is_stored:
        yield Violation(6, f"{event['type']} in the log")
        return
    try:
        read(row, event["payload"])
    except InvalidPayload as error:
        yield Violation(6, f"{event['type']} as nobody may write it: {error}")


def secrets_in(lines: Iterable[str]) -> Iterator[Violation]:
    """Events and signals that contain a value that must not be in any stream."""
    for line in lines:
        for what, pattern in SECRETS.items():
            if pattern.search(line):
                yield Violation(6, f"{what} in {line[:60]}…")


def _commands(events: Sequence[Json]) -> Iterator[Violation]:
    """A command ID is stored only once."""
    seen = Counter(
        (event["actor"]["id"], event["meta"]["command"]) for event in events if "command" in event.get("meta", {})
    )
    for (user, command), count in seen.items():
        if count > 1:
            yield Violation(4, f"command {command} of {user} is stored {count} times")


def _causes(logs: Mapping[str, Sequence[Json]]) -> Iterator[Violation]:
    """Derived events name an earlier event, of their own or another channel, and share its correlation."""
    known: dict[str, list[Json]] = defaultdict(list)
    for events in logs.values():
        for event in events:
            known[event["id"]].append(event)
    for event in (event for events in logs.values() for event in events if event["actor"]["kind"] != "user"):
        meta = event.get("meta", {})
        sources = known.get(meta.get("causation", ""), [])
        earlier = [source for source in sources if _is_earlier(source, event)]
        if not earlier:
            yield Violation(5, f"{event['type']} {event['id']} names no earlier event: {meta}")
        elif not any(meta.get("correlation") == _correlation(source) for source in earlier):
            yield Violation(5, f"{event['type']} {event['id']} does not share its cause's correlation")


def _is_earlier(source: Json, event: Json) -> bool:
    if source["channel"] == event["channel"]:
        return bool(source["seq"] < event["seq"])
    return id_order(source["id"])[0] <= id_order(event["id"])[0]


def _correlation(source: Json) -> str:
    return str(source.get("meta", {}).get("correlation", source["id"]))


def _runs(events: Sequence[Json]) -> dict[str, list[Json]]:
    """The events of each run. An answer names only its question, whose run is known from an earlier event."""
    runs: dict[str, list[Json]] = defaultdict(list)
    asked: dict[str, str] = {}
    for event in events:
        payload = event["payload"]
        run_id = payload.get("run_id") or asked.get(payload.get("request_id", ""))
        if event["type"] == "tool.call.request":
            asked[payload["request_id"]] = payload["run_id"]
        if run_id is not None and CATALOGUE[event["type"]].family in {"agent", "assistant", "tool", "message"}:
            runs[run_id].append(event)
        elif event["type"] == "tool.call.response":
            runs[f"of nobody's question {payload['request_id']}"].append(event)
    return {run_id: of_run for run_id, of_run in runs.items() if _is_begun(of_run)}


def _is_begun(events: Sequence[Json]) -> bool:
    """True if the events contain more than a refused message to a run, so that the run has begun."""
    return any(event["type"] != "message.status" for event in events)


def _versions(name: str, events: Sequence[Json], *, is_quiet: bool) -> Iterator[Violation]:
    """Each patch applies to the previous version, a document uses one kind of update, and revisions are consecutive."""
    updates = [event["payload"] for event in events if event["type"] == "document.update"]
    if len({"patch" in update for update in updates}) > 1:
        yield Violation(11, f"{name} has patches and opaque updates")
    for version, update in enumerate(updates):
        if update.get("base_version", version) != version:
            yield Violation(11, f"version {version + 1} of {name} was made for {update['base_version']}")
    changes = [event["id"] for event in events if event["type"] in CHANGING]
    told = [event for event in events if event["type"] in {"conversation.updated", "channel.updated"}]
    if [event["payload"]["revision"] for event in told] != list(range(1, len(told) + 1)):
        yield Violation(11, f"revisions of {name}: {[event['payload']['revision'] for event in told]}")
    if [event.get("meta", {}).get("causation") for event in told] != changes[: len(told)]:
        yield Violation(11, f"revisions of {name} are told of other changes than there were")
    if is_quiet and len(told) < len(changes):
        yield Violation(11, f"{len(changes) - len(told)} changes of {name} were not told")


def _uploads(channel: Channel, events: Sequence[Json], *, is_quiet: bool) -> Iterator[Violation]:
    asked = [file_id_of(channel, event["id"]) for event in events if event["type"] == "file.upload.request"]
    ends: Counter[str] = Counter()
    for event in events:
        if event["type"] in {"file.ready", "file.upload.failed"}:
            ends[event["payload"].get("file_id") or event["payload"]["upload_id"]] += 1
    for upload in ends.keys() - set(asked):
        yield Violation(12, f"upload {upload} ended and nobody asked for it")
    for upload in asked:
        if ends[upload] > 1 or (is_quiet and not ends[upload]):
            yield Violation(12, f"upload {upload} ended {ends[upload]} times")


def _folds(channel: Channel, events: Sequence[Json]) -> Iterator[Violation]:
    """A snapshot after any event, plus the rest, gives the bytes of folding everything; tried at about forty positions."""
    records = [record_of(event) for event in events]
    snapshots: dict[int, bytes] = {}
    try:
        whole = ChannelState.begin(channel)
        for at, record in enumerate(records):
            if at % (len(records) // SNAPSHOTS + 1) == 0:
                snapshots[at] = whole.dump()
            whole.advance(record)
        for at, snapshot in snapshots.items():
            state = ChannelState.load(snapshot)
            for record in records[at:]:
                state.advance(record)
            if state.render() != whole.render():
                yield Violation(13, f"{channel.wire}: the snapshot at {at} and what follows give another state")
    except (BrokenEvent, EventsMissing) as error:
        yield Violation(13, f"{channel.wire} cannot be folded: {error}")


def record_of(event: Json) -> Recorded:
    """A wire event in the form that folds read."""
    return Recorded(
        event["id"], event["seq"], event["type"], event["v"], event["actor"], event.get("meta", {}), event["payload"]
    )
