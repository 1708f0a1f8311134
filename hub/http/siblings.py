"""The processes of `hub serve --workers`, which share a port: each of them reports the metrics of all.

Each listens on a unix socket in a folder that only this account may enter, and writes its own metrics to whoever connects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.exposition import exposed
from streams.lived_timeout import lived_timeout

ANSWER_TIMEOUT_S: Final = 2.0
"""Time for a process to report; one that takes longer is reported as missing."""


class Siblings:
    """One process's view of all processes on its port.

    Args:
        folder: holds the sockets; it is the same for all of them.
        number: this process, from 0.
        count: the number of processes. One that was killed is replaced by one of the same number.
    """

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder, self._number, self._count = folder, number, count

    async def serve(self, own: Callable[[], bytes]) -> asyncio.Server:
        """Report the metrics that `own` returns to the other processes, until the server is closed."""

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(own())
                await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(answer, self._folder / str(self._number))

    async def metrics(self, own: bytes, accept: str) -> tuple[bytes, str]:
        """The metrics of all processes, labelled with the number of each, and their content type.

        `own` is OpenMetrics, as the processes report to each other; `hub_worker_up` is 0 for a missing one.
        """
        others = [number for number in range(self._count) if number != self._number]
        found = await asyncio.gather(*map(self._ask, others))
        return joined({self._number: own} | dict(zip(others, found, strict=True)), accept)

    async def _ask(self, number: int) -> bytes | None:
        try:
            async with lived_timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._folder / str(number))
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None


def joined(texts: Mapping[int, bytes | None], accept: str = "") -> tuple[bytes, str]:
    """The metrics of several processes as one text and its content type; None stands for a process that did not report."""
    families: dict[str, Metric] = {}
    for number, text in sorted(texts.items()):
        families_told = text_string_to_metric_families((text or b"# EOF\n").decode())  # type: ignore[no-untyped-call]  # left bare
        for family in families_told:
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            whole.samples.extend(one._replace(labels=one.labels | {"worker": str(number)}) for one in family.samples)
    up = GaugeMetricFamily("hub_worker_up", "1 for each process of this port that reported.", labels=["worker"])
    for number, text in sorted(texts.items()):
        up.add_metric([str(number)], float(text is not None))
    return exposed(_Fixed([*families.values(), up]), accept)


class _Fixed(Collector):
    """Collects the metric families that it was given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The given families."""
        yield from self._families
