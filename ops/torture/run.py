"""A complete run: a cluster, people in two tenants, a schedule of faults, a history, a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ops.torture.client import ClientProcess
from ops.torture.cluster import LIBRARY, Cluster
from ops.torture.deployment import Target, ask_redis, find_key
from ops.torture.history import Recorder, merge, read_records
from ops.torture.nemesis import ClusterNemesis, Nemesis
from ops.torture.people import ASK, CREW, FILES, NOTES, TALK
from ops.torture.resp import RedisRefused
from ops.torture.schedule import Schedule, kinds_of, make_schedule
from ops.torture.shard_nemesis import ShardNemesis
from ops.torture.sharded import ShardedCluster

USERS: Final = ("ann", "ben", "cem", "dee")
PRESENCE_MS: Final = 25_000
"""Time in which presence must converge: 15 s until the people of a dead node are removed, and 10 s in which a client may reconnect.
"""
BOUNDS: Final = {
    "presence_ms": PRESENCE_MS,
    "heal_ms": 12_000,
    "settle_ms": 2_000,
    "array_events": 100,
    "expiry_ms": 35_000,
    "revocation_ms": 5_000,
}
SETTLE_TIMEOUT_S: Final = 60.0
EXPECTED: Final = (
    "acknowledged",
    "commands",
    "deliveries",
    "states",
    "presence lists",
    "resumes",
    "receipts of continuity",
    "pages",
    "runs",
    "answers",
    "deltas",
    "uploads",
    "seqs compared",
    "readers followed to the end",
    "repeated answers",
    "read marks",
)
_PAGE: Final = 1_000
_PROCESSES_MAX: Final = 2
"""Maximum number of processes with people of one tenant."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run.

    Attributes:
        seconds: time during which there are faults; the rest of the run takes about a minute.
        groups: groups of faults, as in `schedule.GROUPS`.
        has_sentinels: run with a replica and three Sentinels.
        is_cluster: run with a Redis Cluster of three primaries and three replicas.
        rate_per_s: operations that each person begins per second.
        expects: what must have been checked for the run to count.
        waits_for_presence: wait at the end until presence must have converged.
        bounds: values that replace those in `BOUNDS`.
    """

    seed: int
    server: str
    seconds: float = 60.0
    groups: tuple[str, ...] = ("process", "client", "link", "redis", "clock", "disk")
    has_sentinels: bool = False
    is_cluster: bool = False
    rate_per_s: float = 12.0
    durability: str = "fsync"
    people: int = len(USERS)
    expects: tuple[str, ...] = EXPECTED
    waits_for_presence: bool = True
    bounds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """The result of a run.

    Attributes:
        load: the machine's load average over a minute, the higher of before and after the run.
    """

    plan: Plan
    version: str = ""
    seconds: float = 0.0
    fired: Counter[str] = field(default_factory=Counter)
    hits: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    proof: str = ""
    error: str = ""
    history: Path | None = None
    load: float = 0.0

    @property
    def is_whole(self) -> bool:
        """True if the run completed and was checked, and no fault of the hub was found."""
        return not self.error and bool(self.verdict.get("is_whole"))

    @property
    def kinds(self) -> list[str]:
        """The kinds of fault that were found."""
        return [wrong["kind"] for wrong in self.verdict.get("wrong", [])]

    def sentence(self) -> str:
        """The result in one sentence."""
        looked = self.verdict.get("looked", {})
        did = (
            f"{looked.get('commands', 0):,} commands, {looked.get('deliveries', 0):,} deliveries, "
            f"{self.fired.total()} faults of {len(self.fired)} kinds"
        )
        if self.error:
            return f"NOT FINISHED: {self.error} ({did})"
        if self.is_whole:
            return f"WHOLE: {did}, 0 wrong"
        wrong = sum(one["count"] for one in self.verdict.get("wrong", []))
        return f"BROKEN: {did}, {wrong} wrong: {', '.join(self.kinds)}"

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, as it is stored."""
        plan = self.plan
        return {
            "seed": plan.seed,
            "server": plan.server,
            "version": self.version,
            "seconds": plan.seconds,
            "took_s": self.seconds,
            "load": self.load,
            "groups": list(plan.groups),
            "has_sentinels": plan.has_sentinels,
            "is_cluster": plan.is_cluster,
            "durability": plan.durability,
            "is_whole": self.is_whole,
            "error": self.error,
            "fired": dict(self.fired),
            "hits": self.hits,
            "skipped": self.skipped,
            "verdict": self.verdict,
        }


class Torture:
    """Carries out a plan.

    Args:
        plan: the parameters of the run.
        target: a cluster to be started, or a deployment; the history is written to its folder.
        tell: called with a text on each event, for the progress display.
    """

    def __init__(self, plan: Plan, target: Target, tell: Callable[[str], None]) -> None:
        self._plan, self._target, self._tell = plan, target, tell
        self._folder = target.folder
        self._keys: dict[tuple[str, str], str] = {}
        self.report = Report(plan)
        self._clients: list[ClientProcess] = []
        self._recorder: Recorder | None = None

    async def run(self) -> Report:
        """Carry out the run. It never raises: errors of the run itself are in the report. SIGTERM interrupts it."""
        begun, load, running = time.monotonic(), os.getloadavg()[0], asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel if running else lambda: None)
        try:
            await self._run()
        except asyncio.CancelledError:
            self.report.error = "it was interrupted"
        except BaseException as error:  # every error belongs in the report
            self.report.error = f"{type(error).__name__}: {_flat(error)}"
            if not isinstance(error, Exception):
                raise
        finally:
            await self._clean()
            self._count_faults()
            self.report.seconds = round(time.monotonic() - begun, 1)
            self.report.load = round(max(load, os.getloadavg()[0]), 1)
        return self.report

    def remove(self) -> None:
        """Delete the run's files on this machine."""
        self._target.remove()

    def kill(self) -> None:
        """Kill everything that was started; for use when `run` itself was interrupted."""
        for client in self._clients:
            client.kill()
        self._target.kill()

    async def _clean(self) -> None:
        await asyncio.gather(*(client.end() for client in self._clients), return_exceptions=True)
        if self._recorder is not None:
            self._recorder.close()
        with contextlib.suppress(Exception):
            await self._target.stop()

    async def _run(self) -> None:
        self._tell("starting")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(self._folder / "nemesis.jsonl", "nemesis")
        await self._target.start()
        self.report.version = await self._version()
        for (tenant, mark), count in zip(self._target.tenants.items(), (_PROCESSES_MAX, 1), strict=True):
            for number in range(count):
                self._clients.append(self._client(f"{tenant}{number}", tenant, mark, number))
        nemesis = self._nemesis(self._recorder)
        schedule = self._schedule(nemesis)
        if not self._target.agent:
            self._recorder.write("skipped", name="questions to agents", why="no agent is named")
        self._recorder.write(
            "head",
            seed=self._plan.seed,
            tenants=self._target.tenants,
            bounds={**BOUNDS, **self._plan.bounds},
            expects=list(self._plan.expects),
            faults=schedule.names,
            about={"server": self._plan.server, "version": self.report.version},
        )
        for client in self._clients:
            client.start()
        await asyncio.sleep(3)
        await nemesis.carry_out(schedule)
        await self._come_to_rest(nemesis)
        self._judge_history()
        await self._judge()

    def _nemesis(self, recorder: Recorder) -> Nemesis:
        if isinstance(self._target, ShardedCluster):
            return ShardNemesis(self._target, self._clients, recorder, self._tell, self._followed())
        if isinstance(self._target, Cluster):
            return ClusterNemesis(self._target, self._clients, recorder, self._tell)
        return Nemesis(self._target, self._clients, recorder, self._tell)

    def _client(self, name: str, tenant: str, mark: str, number: int) -> ClientProcess:
        users = [_user(user, number) for user in USERS[: self._plan.people]]
        return ClientProcess(
            name,
            self._folder,
            {
                "tenant": tenant,
                "mark": mark,
                "urls": self._target.urls,
                "secret": self._target.secret,
                "claims": self._target.claims,
                "agent": self._target.agent,
                "seed": self._plan.seed,
                "rate_per_s": self._plan.rate_per_s,
                "users": users,
            },
        )

    def _schedule(self, nemesis: Nemesis) -> Schedule:
        kinds = kinds_of(self._plan.groups, has_sentinels=self._plan.has_sentinels, is_cluster=self._plan.is_cluster)
        possible = nemesis.possible(list(kinds))
        return make_schedule(self._plan.seed, self._plan.seconds, {name: kinds[name] for name in possible})

    async def _version(self) -> str:
        text = (await ask_redis(self._target, "INFO", "server")).decode()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return str(fields.get("valkey_version") or fields.get("redis_version"))

    async def _come_to_rest(self, nemesis: Nemesis) -> None:
        """End the run after the faults: everybody finishes, everything is read, and the end is recorded."""
        assert self._recorder is not None  # noqa: S101 - it is made before anything begins
        self._tell("calm: waiting until all is ready")
        await self._target.ready()
        if self._plan.waits_for_presence and isinstance(nemesis, ClusterNemesis):
            await nemesis.part_people()
            await self._target.ready()
        self._recorder.write("calm")
        calm = time.monotonic()
        await self._say("calm")
        await asyncio.sleep(4)
        self._tell("finishing what was begun")
        await self._say("quiet")
        await self._settled()
        self._tell("reading states")
        await self._say("look")
        if self._plan.waits_for_presence:
            self._tell("waiting for presence")
            await asyncio.sleep(max(0.0, PRESENCE_MS / 1000 + 1 - (time.monotonic() - calm)))
            await self._say("people")
        await asyncio.sleep(2)
        self._tell("reading the logs")
        for tenant, channel in self._places():
            await self._read_log(tenant, channel)
        await self._say("exit")
        self._recorder.write("end")

    def _followed(self) -> list[tuple[str, str]]:
        """Every channel that somebody follows: those that are written, and everybody's own."""
        own = (f"user:{_user(user, number)}" for user in USERS for number in range(_PROCESSES_MAX))
        return [*self._places(), *((tenant, channel) for channel in own for tenant in self._target.tenants)]

    def _places(self) -> Iterable[tuple[str, str]]:
        inboxes = [f"user:{user}" for user in USERS]
        return [
            (tenant, channel)
            for tenant in self._target.tenants
            for channel in (TALK, *ASK, FILES, CREW, NOTES, *inboxes)
        ]

    async def _say(self, word: str) -> None:
        await asyncio.gather(*(client.say(word) for client in self._clients))

    async def _settled(self) -> None:
        """Wait until every run, upload and change has ended; the checker reports those that do not."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while time.monotonic() < deadline:
            open_things = 0
            for tenant, channel in self._places():
                if channel in {TALK, *ASK, FILES}:
                    open_things += unsettled([event async for event in self._events(tenant, channel)])
            if not open_things:
                return
            self._tell(f"{open_things} runs, uploads and changes are open")
            await asyncio.sleep(1)

    async def _events(self, tenant: str, channel: str) -> Any:
        """The events of a channel as stored in Redis, in wire form."""
        key = self._keys.get((tenant, channel)) or await find_key(self._target, f"hub:*:{tenant}:{channel}")
        if key is None:
            return
        self._keys[(tenant, channel)] = key
        connection = await self._target.redis_connection(key)
        try:
            after = "-"
            while page := await connection.call("XRANGE", key, after, "+", "COUNT", _PAGE, timeout_s=30):
                for event_id, fields in page:
                    yield wire_event(channel, event_id, dict(zip(fields[::2], fields[1::2], strict=True)))
                after = "(" + page[-1][0].decode()
        finally:
            connection.close()

    async def _read_log(self, tenant: str, channel: str) -> None:
        assert self._recorder is not None  # noqa: S101
        entries = []
        try:
            async for raw in self._events(tenant, channel):
                event = json.loads(raw)
                entries.append([event["seq"], event["id"], self._recorder.bytes_of(raw)])
        except (OSError, TimeoutError, RedisRefused) as error:
            raise RuntimeError(f"the log of {channel} could not be read: {error!r}") from error
        for at in range(0, max(1, len(entries)), _PAGE):
            self._recorder.write("log", tenant=tenant, channel=channel, source="redis", e=entries[at : at + _PAGE])

    def _judge_history(self) -> None:
        """Join the files of all processes into one history."""
        assert self._recorder is not None  # noqa: S101
        self._recorder.close()
        parts = [self._folder / "nemesis.jsonl", *(file for client in self._clients for file in client.files)]
        effects = self._folder / "effects.jsonl"
        if effects.exists():
            parts.append(effects)
        self.report.history = self._folder / "history.jsonl"
        merge([part for part in parts if part.exists()], self.report.history)

    def _count_faults(self) -> None:
        """Count the faults that were injected, even if the run was interrupted."""
        file = self._folder / "nemesis.jsonl"
        for record in read_records(file) if file.exists() else ():
            if record["k"] == "fault" and record["phase"] == "end":
                self.report.fired[record["name"]] += 1
                self.report.hits.append(f"{record['name']}: {record['hit']}")
            elif record["k"] == "skipped":
                self.report.skipped[record["name"]] = record["why"]

    async def _judge(self) -> None:
        """Check the history with the checker, in a separate process."""
        self._tell("judging")
        command = [sys.executable, "-m", "ops.torture.check", str(self.report.history)]
        root = Path(__file__).parents[2]
        told = await asyncio.create_subprocess_exec(
            *command, "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=root
        )
        out, err = await told.communicate()
        if told.returncode not in {0, 1}:
            raise RuntimeError(f"the history cannot be judged: {err.decode()[-1_000:]}")
        self.report.verdict = json.loads(out)
        if told.returncode:
            again = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=root)
            self.report.proof = (await again.communicate())[0].decode()


def _user(user: str, number: int) -> str:
    return user if number == 0 else f"{user}{number}"


def wire_event(channel: str, event_id: bytes, fields: dict[bytes, bytes]) -> bytes:
    """A stored entry in wire form."""
    meta = b"" if fields[b"meta"] == b"{}" else b',"meta":' + fields[b"meta"]
    return b'{"id":"%b","seq":%b,"channel":"%b","type":"%b","v":%b,"actor":%b%b,"payload":%b}' % (
        event_id,
        fields[b"seq"],
        channel.encode(),
        fields[b"type"],
        fields[b"v"],
        fields[b"actor"],
        meta,
        fields[b"data"],
    )


def unsettled(events: list[bytes]) -> int:
    """The number of runs, uploads and changes of a channel that have not ended."""
    begun: set[str] = set()
    ended: set[str] = set()
    for raw in events:
        event = json.loads(raw)
        payload, kind = event["payload"], event["type"]
        if kind == "agent.status" and payload["state"] == "queued":
            begun.add(payload["run_id"])
        elif kind == "agent.complete":
            ended.add(payload["run_id"])
        elif kind == "file.upload.complete":
            begun.add(payload["upload_id"])
        elif kind in {"file.ready", "file.upload.failed"}:
            ended.add(payload.get("file_id") or payload["upload_id"])
        elif kind == "chat.configure":
            begun.add(event["id"])
        elif kind == "conversation.updated":
            ended.add(event.get("meta", {}).get("causation", ""))
        elif kind == "chat.message" and payload.get("agent"):
            begun.add(f"asked {event['id']}")
        if kind == "agent.status" and (cause := event.get("meta", {}).get("causation")):
            ended.add(f"asked {cause}")
    return len(begun - ended)


def _flat(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(f"{type(one).__name__}: {_flat(one)}" for one in error.exceptions)
    return str(error)


def cluster_of(plan: Plan, binary: Path, folder: Path, tree: Path | None = None) -> Cluster:
    """The cluster for a plan; `tree` is the folder whose modules nodes and workers run, by default this checkout."""
    if plan.is_cluster:
        return ShardedCluster(folder, binary, tree or LIBRARY, durability=plan.durability)
    return Cluster(folder, binary, tree or LIBRARY, has_sentinels=plan.has_sentinels, durability=plan.durability)
