"""Reads and changes the records of runs: their hashes, each channel's queue of runs, and the list of unfinished runs.

`state` is never written here: only the script that appends the corresponding event writes it (`streams.records.runs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from streams.channel import Channel, channel_from_path
from streams.cursor import id_order
from streams.records.runs import (
    RequestView,
    RunView,
    home_guard_name,
    meant_guard_name,
    read_request,
    read_run,
    request_guard_name,
    run_guard_name,
)
from streams.records.scripts import load
from streams.redis.calls import Calls, text_pairs
from streams.redis.keys import CONTROL
from streams.redis.log import Log
from streams.redis.sights import KeyRead
from streams.redis.wire import Reply

_TURN: Final = load("run_turn")
_SET: Final = load("run_set")
HINTS_KEPT: Final = 1_000
"""Approximate length of the stream of hints. A worker that falls further behind still polls the run's hash."""
HINT_BLOCK_MS: Final = 10_000
LOOKED_AT_MAX: Final = 500
"""Runs of each partition, of all tenants, that `unfinished` looks at: about 60 KB from Redis."""
_SUMMARY: Final = (
    "state", "agent", "by", "cause", "segment", "attempt", "since_ms", "deadline_ms", "asked", "answered", "losses", "cancel",
)  # fmt: skip # a list of words


class Flags(NamedTuple):
    """The fields of a run that its worker polls each second. `holder` is None if the run's hash is missing."""

    holder: str | None
    cancel: str
    steers: int


class Home(NamedTuple):
    """A channel's runs: the number of unfinished ones, the active one, and the waiting ones, oldest first."""

    open: int
    active: str
    waiting: tuple[str, ...]


class UnfinishedRuns(NamedTuple):
    """Runs with their channels, the number of runs looked at, and True if there are no others."""

    runs: list[tuple[Channel, RunView]]
    looked_at: int
    is_all: bool


class RunStore:
    """The runs of all channels. Both the hub and the consumers use it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._keys = log.keys

    async def run(self, channel: Channel, run_id: str) -> RunView | None:
        """Read a run; None if this channel has no run of that ID, or its record has expired."""
        return read_run(run_id, await self._hash(channel, run_guard_name(channel, run_id)))

    async def request(self, channel: Channel, request_id: str) -> RequestView | None:
        """Read a question that a run asked; None if this channel has no question with that ID."""
        return read_request(request_id, await self._hash(channel, request_guard_name(channel, request_id)))

    async def home(self, channel: Channel) -> Home:
        """Read the channel's run counters and its queue."""
        fields = await self._hash(channel, home_guard_name(channel))
        waiting = sorted(
            (id_order(name.removeprefix("waiting:")), run)
            for name, run in fields.items()
            if name.startswith("waiting:")
        )
        return Home(int(fields.get("open", 0)), fields.get("active", ""), tuple(run for _, run in waiting))

    def open_read(self, channel: Channel) -> KeyRead:
        """The command that reads the channel's number of unfinished runs, for `Replay.sight`."""
        return KeyRead(self._keys.guard(channel, home_guard_name(channel)), "HGET", ("open",))

    async def active(self, channel: Channel) -> str:
        """The run whose turn it is in the channel; "" if none."""
        found = await self._calls(channel).call("HGET", self._keys.guard(channel, home_guard_name(channel)), "active")
        return (found or b"").decode()

    async def meant(self, channel: Channel, user: str, command_id: str) -> str:
        """The run that was stopped when the user first sent this cancel command; "" if none."""
        key = self._keys.guard(channel, meant_guard_name(channel, user, command_id))
        return (await self._calls(channel).call("HGET", key, "run_id") or b"").decode()

    async def flags(self, runs: Sequence[tuple[Channel, str]]) -> list[Flags]:
        """Read `holder`, `cancel` and the number of steering messages of several runs."""
        return [
            _flags(
                await self._calls(channel).call("HMGET", self._run_key(channel, run_id), "holder", "cancel", "steers")
            )
            for channel, run_id in runs
        ]

    async def ask_to_stop(self, channel: Channel, run_id: str, mode: str) -> None:
        """Set the flag that an accepted cancel command sets; used for `on_busy: interrupt`."""
        await self._calls(channel).call("HSET", self._run_key(channel, run_id), "cancel", mode)

    async def add_steer(self, channel: Channel, run_id: str, event_id: str) -> None:
        """Record the event with this id as a steering message to the run."""
        key = self._run_key(channel, run_id)
        number = await self._calls(channel).call("HINCRBY", key, "steers", 1)
        await self._calls(channel).call("HSET", key, f"steer:{number}", event_id)

    async def steer(self, channel: Channel, run_id: str, number: int) -> str:
        """The event ID of the run's steering message `number`, counted from 1."""
        found = await self._calls(channel).call("HGET", self._run_key(channel, run_id), f"steer:{number}")
        return found.decode() if found else ""

    async def take_over(self, channel: Channel, run_id: str, holder: str) -> RunView | None:
        """Make this worker the run's holder once it has the lease; appends of the old holder are refused from then on.

        Returns the run.
        """
        await self._calls(channel).call("HSET", self._run_key(channel, run_id), "holder", holder)
        return await self.run(channel, run_id)

    async def save_checkpoint(self, channel: Channel, run_id: str, holder: str, value: str) -> bool:
        """Store an agent's checkpoint (JSON) with the run. False if another worker holds the run."""
        return bool(
            await self._calls(channel).run(_SET, (self._run_key(channel, run_id),), holder, "checkpoint", value)
        )

    async def checkpoint(self, channel: Channel, run_id: str) -> str | None:
        """The newest checkpoint stored by `save_checkpoint`; None if there is none."""
        found = await self._calls(channel).call("HGET", self._run_key(channel, run_id), "checkpoint")
        return found.decode() if found is not None else None

    async def turn(self, channel: Channel, *, joining: tuple[str, str] = ("", ""), leaving: str = "") -> str:
        """Change the queue of runs of a channel: add (event ID, run ID) or remove a run. Returns the active run, or ""."""
        key = self._keys.guard(channel, home_guard_name(channel))
        found: bytes = await self._calls(channel).run(_TURN, (key,), *joining, leaving)
        return found.decode()

    async def register(self, channel: Channel, run_id: str, look_at_ms: int) -> None:
        """List the run as unfinished, to be inspected at `look_at_ms`."""
        key = self._keys.runs(self._keys.of(channel).partition)
        await self._calls(channel).call("ZADD", key, look_at_ms, f"{channel.path} {run_id}")

    async def forget(self, channel: Channel, run_id: str) -> None:
        """Remove a finished run from the list of unfinished ones."""
        await self._calls(channel).call(
            "ZREM", self._keys.runs(self._keys.of(channel).partition), f"{channel.path} {run_id}"
        )

    async def due(self, partition: int, now_ms: int, ahead_ms: int, limit: int) -> list[tuple[Channel, str]]:
        """The runs due for inspection, longest due first, then those whose due time is more than `ahead_ms` away.

        Runs are never registered that far ahead: the clock must have been set back since, so they are inspected now.
        """
        key, page = self._keys.runs(partition), ("LIMIT", 0, limit)
        rows, late = await self._log.calls_in(partition).pipeline([
            ("ZRANGEBYSCORE", key, "-inf", now_ms, *page),
            ("ZRANGEBYSCORE", key, now_ms + ahead_ms, "+inf", *page),
        ])  # fmt: skip # one command per line
        rows = [*rows, *late][:limit]
        pairs = (row.decode().split(" ") for row in rows)
        return [(channel_from_path(path), run_id) for path, run_id in pairs]

    async def unfinished(self, tenant: str, limit: int) -> UnfinishedRuns:
        """Reads a tenant's unfinished runs, at most `limit`, among the first 500 of each partition, those due first."""
        found: list[tuple[Channel, str]] = []
        looked_at, is_all = 0, True
        for partitions, calls in self._log.by_server():
            due = [("ZRANGE", self._keys.runs(number), 0, LOOKED_AT_MAX - 1) for number in partitions]
            for rows in await calls.pipeline(due):
                looked_at += len(rows)
                is_all &= len(rows) < LOOKED_AT_MAX
                pairs = (row.decode().split(" ") for row in rows)
                found += [(channel_from_path(path), run) for path, run in pairs if path.startswith(f"{tenant}:")]
        runs = await asyncio.gather(*(self._summary(channel, run_id) for channel, run_id in found[:limit]))
        shown = [
            (channel, run)
            for (channel, _), run in zip(found, runs, strict=False)
            if run is not None and not run.is_final
        ]
        return UnfinishedRuns(shown, looked_at, is_all and len(found) <= limit)

    async def _summary(self, channel: Channel, run_id: str) -> RunView | None:
        """A run without its settings, which may be large."""
        values = await self._calls(channel).call("HMGET", self._run_key(channel, run_id), *_SUMMARY)
        told = {name: value.decode() for name, value in zip(_SUMMARY, values, strict=True) if value is not None}
        return read_run(run_id, told)

    async def open_text(self, channel: Channel, message_id: str) -> tuple[str, str]:
        """The stored text and reasoning of an answer in progress."""
        fields = (f"{message_id}:text", f"{message_id}:reasoning")
        text, reasoning = await self._calls(channel).call("HMGET", self._keys.of(channel).open, *fields)
        return (text or b"").decode(), (reasoning or b"").decode()

    async def hint(self, channel: Channel, run_id: str) -> None:
        """Ask all workers to inspect a run at once."""
        entry = ("channel", channel.path, "run", run_id)
        await self._log.calls_at(CONTROL).call("XADD", CONTROL, "MAXLEN", "~", HINTS_KEPT, "*", *entry)

    async def hear_hints(self, on_hint: Callable[[str, str], None]) -> None:
        """Call `on_hint(channel path, run ID)` for every hint from now on; runs until cancelled.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        calls, after = self._log.own_calls("run-hints", CONTROL), "$"
        try:
            while True:
                after = await self._hear(calls, after, on_hint)
        finally:
            calls.close()

    async def _hear(self, calls: Calls, after: str, on_hint: Callable[[str, str], None]) -> str:
        block = ("XREAD", "BLOCK", HINT_BLOCK_MS, "STREAMS", CONTROL, after)
        reply = await calls.call(*block, timeout_s=HINT_BLOCK_MS / 1000 + 2.0)
        for entry_id, fields in reply[0][1] if reply else ():
            after = entry_id.decode()
            hint = text_pairs(fields)
            if "channel" in hint and "run" in hint:  # it was not added by hand
                on_hint(hint["channel"], hint["run"])
        return after

    def _calls(self, channel: Channel) -> Calls:
        return self._log.calls_of(channel)

    def _run_key(self, channel: Channel, run_id: str) -> bytes:
        return self._keys.guard(channel, run_guard_name(channel, run_id))

    async def _hash(self, channel: Channel, name: str) -> dict[str, str]:
        return text_pairs(await self._calls(channel).call("HGETALL", self._keys.guard(channel, name)))


def _flags(reply: list[Reply]) -> Flags:
    holder, cancel, steers = reply
    return Flags(holder.decode() if holder is not None else None, (cancel or b"").decode(), int(steers or 0))
