"""How far a tool is, for those who watch: at most twice a second, never falling, lost without harm."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from consumers.agents.storable import storable_text
from consumers.runs.run_log import RunLog
from consumers.runs.writer import Writer
from projections.json_value import JsonObject
from streams.redis.append_call import Result

INTERVAL_S: Final = 0.5


class Progress:
    """What a running tool is given: its idempotency key, and a way to tell how far it is."""

    def __init__(self, run: RunLog, writer: Writer, tool_call_id: str) -> None:
        self._run, self._writer, self._call_id = run, writer, tool_call_id
        self._highest = 0.0
        self._next_s = 0.0

    @property
    def idempotency_key(self) -> str:
        """`<run>/<segment>/<call>`, the same on every attempt (NOTES 3)."""
        return f"{self._run.run.run_id}/{self._run.run.segment}/{self._call_id}"

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far it is. What comes too soon, or when the way is full, is left out."""
        if not math.isfinite(progress):
            return
        now_s = asyncio.get_running_loop().time()
        self._highest = max(self._highest, progress)
        if now_s < self._next_s or not self._writer.has_room:
            return
        self._next_s = now_s + INTERVAL_S
        payload: JsonObject = {
            "tool_call_id": self._call_id, "run_id": self._run.run.run_id, "progress": self._highest,
        }  # fmt: skip
        if total is not None and math.isfinite(total) and total >= 0:
            payload["total"] = total
        if message is not None:
            payload["message"] = storable_text(message, 500)
        self._writer.submit(self._run.draft("tool.call.progress", payload), _unheard)


def _unheard(_result: Result) -> None:
    """Progress is superseded by the next one; whether this one arrived does not matter."""
