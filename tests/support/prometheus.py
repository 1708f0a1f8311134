"""A real Prometheus (Debian's) that scrapes what a test runs."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from ops.embedded_redis.probe import free_port

MONITORING = Path(__file__).parents[2] / "ops" / "monitoring"
IS_THERE = shutil.which("prometheus") is not None and shutil.which("promtool") is not None
STARTING = 503
POLL_S = 0.2
"""Seconds between two questions: a Prometheus gives no event to wait for."""


def quick_rules(text: str) -> str:
    """The rules with their times shortened, so that a fault fires within seconds."""
    return re.sub(r"\[\d+m\]", "[10s]", re.sub(r"for: \w+", "for: 0s", text))


class Prometheus:
    """One process. `jobs` has the port to scrape of each job; the rules are those of `ops/monitoring`, in a hurry."""

    def __init__(self, folder: Path, jobs: Mapping[str, int]) -> None:
        self.port = free_port()
        self._folder = folder
        (folder / "alerts.yml").write_text(quick_rules((MONITORING / "alerts.yml").read_text(encoding="utf-8")))
        scrapes = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": ["alerts.yml"], "scrape_configs": scrapes}
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    async def __aenter__(self) -> Self:
        self._start()
        try:
            await self.until("up == 1 and scrape_samples_scraped > 0")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _start(self) -> None:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--enable-feature=exemplar-storage"],
                stdout=log, stderr=log,
            )  # fmt: skip # a command line

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query.

        Raises:
            AssertionError: Prometheus refused it.
        """
        response = await self._http.get("/api/v1/query", params={"query": query})
        if response.status_code == STARTING:
            return []
        answer = response.json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    async def until(self, query: str, timeout_s: float = 90) -> list[dict[str, Any]]:
        """The result of a query as soon as it has one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if found := await self.ask(query):
                    return found
            except httpx.TransportError:  # it does not listen yet
                pass
            await asyncio.sleep(POLL_S)
        raise TimeoutError(f"{query} has no result; see {self._folder}/log")

    async def exemplars(self, query: str) -> list[dict[str, Any]]:
        """The exemplars of the last minutes."""
        now = time.time()
        given = {"query": query, "start": str(now - 600), "end": str(now)}
        found: list[dict[str, Any]] = (await self._http.get("/api/v1/query_exemplars", params=given)).json()["data"]
        return found
