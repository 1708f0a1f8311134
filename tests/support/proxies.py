"""HAProxy, nginx and Caddy as processes, with the files of `ops/proxies` and the addresses of a test."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.embedded_redis.probe import free_port
from support.certificate import Certificate

FILES: Final = Path(__file__).parents[2] / "ops" / "proxies"
NAMES: Final = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "caddy": "Caddyfile"}
READY_S: Final = 20.0
_REFUSES_UPGRADES: Final = {
    "haproxy": ("    default_backend", "    http-request deny if { req.hdr(Upgrade) -m found }\n    default_backend"),
    "nginx": ("Upgrade $http_upgrade", 'Upgrade ""'),
    "caddy": ("\t@metrics", "\t@upgrade header Upgrade *\n\trespond @upgrade 403\n\t@metrics"),
}
"""By proxy: a change of its file that lets no WebSocket through, as in networks that know only HTTP."""
_WITHOUT_PROTOCOL: Final = {"haproxy": ("    bind :443 ssl", "#"), "nginx": ("        listen 443 ssl;", "#")}
"""By proxy: its line that listens without the PROXY protocol, which the option replaces."""


def program(name: str) -> str | None:
    """The path of a proxy's program; None if it is not installed."""
    return shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@dataclass(slots=True)
class Proxy:
    """One proxy in front of two nodes.

    Args:
        name: `haproxy`, `nginx` or `caddy`.
        folder: a folder of its own.
        options: the options of its file that are switched on.
        edits: further changes of its file, each with a text that is in it.
        file: another file instead of that of `ops/proxies`, used as it is.
    """

    name: str
    folder: Path
    certificate: Certificate
    nodes: tuple[int, int]
    options: Iterable[str] = ()
    edits: tuple[tuple[str, str], ...] = ()
    refuses_upgrades: bool = False
    file: str | None = None
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """The public host and port."""
        return f"127.0.0.1:{self.port}"

    def text(self) -> str:
        """The file of the proxy for this test."""
        if self.file is not None:
            return self.file
        text = (FILES / NAMES[self.name]).read_text(encoding="utf-8")
        for option in self.options:
            assert f"#{option} " in text, option
            text = text.replace(f"#{option} ", "")
        for old, new in (*self.edits, *self._places()):
            assert old in text, old
            text = text.replace(old, new)
        text = text.replace("/tmp/", f"{self.folder}/")
        return text.replace("/etc/hub/tls.key", str(self.certificate.key)).replace("/etc/hub/tls.pem", str(self._pem()))

    def _places(self) -> list[tuple[str, str]]:
        """The changes of the file that every test needs: where the proxy listens, and where the nodes are."""
        places = [(f"node{n}:8000", f"127.0.0.1:{port}") for n, port in enumerate(self.nodes, 1)]
        if self.refuses_upgrades:
            places.append(_REFUSES_UPGRADES[self.name])
        if "proxy-protocol" in self.options:
            places.append(_WITHOUT_PROTOCOL[self.name])
        if self.name == "caddy":
            places += [("hub.example.com {", f"https://{self.host} {{"), ("#certificate ", "")]
            return [*places, ("lb_policy least_conn", "")] if "sticky" in self.options else places
        return [
            *places,
            ("bind :443", f"bind {self.host}") if self.name == "haproxy" else ("listen 443", f"listen {self.host}"),
        ]

    def _pem(self) -> Path:
        if self.name != "haproxy":
            return self.certificate.certificate
        both = self.folder / "both.pem"
        both.write_bytes(self.certificate.certificate.read_bytes() + self.certificate.key.read_bytes())
        return both

    def start(self) -> None:
        """Start the process; `ready` waits until it listens."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / NAMES[self.name]
        file.write_text(self.text(), encoding="utf-8")
        found = program(self.name)
        assert found is not None
        command = {
            "haproxy": [found, "-db", "-f", str(file)],
            "nginx": [found, "-p", str(self.folder), "-c", str(file), "-e", "/dev/stderr", "-g", "daemon off;"],
            "caddy": [found, "run", "--adapter", "caddyfile", "--config", str(file)],
        }[self.name]
        env = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, env=env, stdout=output, stderr=output)

    async def ready(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(READY_S):
            while not self._listens():
                assert self._process is not None
                assert self._process.poll() is None, self.output()
                await asyncio.sleep(0.02)  # a process gives no event to wait for

    def _listens(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def output(self) -> str:
        """Everything that it has said so far."""
        return (self.folder / "output").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate() if self.name == "nginx" else self._process.kill()  # nginx has processes of its own
            self._process.wait(20)
            self._process = None


def variables(name: str) -> set[str]:
    """The settings of the hub that a file of `ops/proxies` names."""
    return set(re.findall(r"\b(?:HUB|WEBSOCKET|REDIS|S3)_[A-Z_]+\b", (FILES / NAMES[name]).read_text(encoding="utf-8")))
