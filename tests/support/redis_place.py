"""A Redis with the configuration and the users that are shipped (ops/redis)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis

from ops.embedded_redis.probe import free_port
from ops.embedded_redis.programs import server_programs
from support.hub_process import clean_environment

ROOT = Path(__file__).parents[2]


class Place:
    """A Redis with the shipped configuration and roles, and the secrets that were made for it."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        self.port = free_port()
        subprocess.run([ROOT / "ops" / "secrets.sh", self.secrets, "127.0.0.1"], check=True)
        for file in self.secrets.glob("redis_url_*"):
            text = file.read_text().replace(":6379/", f":{self.port}/")
            file.chmod(0o600)
            file.write_text(text)
        program = next(iter(server_programs())).binary
        command = [program, ROOT / "ops" / "redis" / "redis.conf", "--port", str(self.port), "--dir", folder]
        command += ["--aclfile", self.secrets / "users.acl"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.admin = self.as_role("admin")
        while not self._answers():
            assert self._process.poll() is None
            time.sleep(0)  # a process gives no event to wait for

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.ConnectionError:
            return False

    def as_role(self, role: str) -> redis.Redis:
        """A client with this role."""
        return redis.Redis.from_url((self.secrets / f"redis_url_{role}").read_text())

    def hub(self, role: str, **more: str) -> dict[str, str]:
        """The environment of a part of the hub in this role."""
        return clean_environment(REDIS_URL_FILE=str(self.secrets / f"redis_url_{role}"), **more)

    def denied(self) -> list[tuple[str, str]]:
        """The rights that were missing, by role, in the log of Redis."""
        return [(one["username"], f"{one['reason']} {one['object']}") for one in self.admin.acl_log()]

    def close(self) -> None:
        """End the server."""
        self.admin.close()
        self._process.kill()
        self._process.wait()
