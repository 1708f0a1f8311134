"""Writes the messages of a run: begin, stream, end. Adding text never waits for Redis.

While the agent is replayed, text that is already in the log is skipped: messages that have ended, and the text of the open one
up to its last recorded step. From there on the message is reset (`assistant.message.reset`) and streamed anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consumers.agents.agent import AgentFailed, FinishReason
from consumers.faults import Faults
from consumers.metrics import WorkerMetrics
from consumers.runs.deltas import Delta, Joiner, Track
from consumers.runs.held_runs import Control, Stop
from consumers.runs.run_log import RETRY_S, DeltaWriter, Fenced, RunLog
from consumers.runs.storable import checked
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.envelope import Appended, OpenText
from streams.errors import GuardRefused, LogUnavailable
from streams.events.references import Reference
from streams.json_bytes import Json, JsonObject, joined, split_half
from streams.records.references import problems_of
from streams.records.runs import message_id_of
from streams.redis.append import Result
from streams.redis.log import Log
from streams.tracing import trace_id_of

TEXT_BYTES_MAX: Final = 512 * 1024
"""Maximum size of a message's text in the catalogue, in bytes of UTF-8: a message that reaches it ends with `length`."""
REASONING_BYTES_MAX: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class MessageEnding:
    """The reason and details with which a message ends."""

    finish_reason: FinishReason = "stop"
    usage: JsonObject | None = None
    parts: tuple[JsonObject, ...] = ()
    error: JsonObject | None = None


def checked_ending(ending: MessageEnding) -> MessageEnding:
    """Check that an ending can be stored, and return it as plain JSON.

    Raises:
        AgentFailed: its reason, usage or parts do not match the catalogue.
    """
    parts: list[Json] = [*ending.parts]
    payload: JsonObject = {
        "message_id": "m",
        "run_id": "r",
        "attempt": 1,
        "finish_reason": ending.finish_reason,
        "text": "",
        "parts": parts,
    }
    if ending.usage is not None:
        payload["usage"] = ending.usage
    checked("assistant.message.end", payload)
    return ending


async def require_files(log: Log, channel: Channel, parts: Iterable[JsonObject]) -> None:
    """Require every file that the parts name to be ready in the channel. While Redis is unreachable, the check is repeated.

    Raises:
        AgentFailed: `bad_item`, with the part.
    """
    named = [
        Reference("file", f"parts.{at}.file_id", str(part["file_id"]))
        for at, part in enumerate(parts)
        if part.get("type") in {"file", "source"} and part.get("file_id") is not None
    ]
    while named:
        try:
            problems = await problems_of(log, channel, named)
        except LogUnavailable:
            await asyncio.sleep(RETRY_S)
            continue
        for field, problem in problems:
            raise AgentFailed("bad_item", f"assistant.message.end: {field} {problem}")
        return


class RunMessages:
    """Writes the messages of one segment.

    Args:
        run: appends the events.
        writer: submits the deltas.
        control: the stop requests for the segment.
        metrics: the worker's counters.
        faults: the points at which tests inject failures.
        parent: the parent of the first message; the parent of each later one is the message before it.
        kept: the stored text of a message that an earlier attempt left open.
        is_replayed: true if the agent starts again from its first line.
    """

    def __init__(
        self,
        run: RunLog,
        writer: DeltaWriter,
        control: Control,
        metrics: WorkerMetrics,
        faults: Faults,
        *,
        parent: str,
        kept: str = "",
        is_replayed: bool = True,
    ) -> None:
        self._run, self._writer, self._control, self._metrics, self._faults = run, writer, control, metrics, faults
        self._parent = parent
        messages = run.journal.messages
        opened = run.journal.open_message
        self._done = len(messages) - (1 if opened else 0)
        self.number = 0 if is_replayed else self._done
        self._opened = opened
        self._held = kept
        has_kept = is_replayed and opened is not None and len(kept) >= opened.kept > 0
        self._kept = kept[: opened.kept] if opened and has_kept else ""
        self._skip_until = opened.last_step if opened and has_kept else None
        self._joiner: Joiner | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._progressed = asyncio.Event()
        self._is_begun = False
        self._left = {"text": TEXT_BYTES_MAX, "reasoning": REASONING_BYTES_MAX}
        self._halves: dict[Track, str] = {"text": "", "reasoning": ""}
        self._first_s = 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def message_id(self) -> str:
        """The ID of the open message, or else of the next one."""
        return message_id_of(self._run.run.run_id, self.number)

    @property
    def is_open(self) -> bool:
        """True while a message is open, in this segment or in the one being replayed."""
        return self._joiner is not None or self._is_begun

    @property
    def is_replaying(self) -> bool:
        """True while the agent's text is already in the log."""
        return self.number < self._done or self._skip_until is not None

    @property
    def text_length(self) -> int:
        """Length of the open message's text so far, in code points; a step recorded now is stored with this position."""
        return len(self._joiner.whole("text")) if self._joiner else len(self._kept)

    def add(self, text: str, track: Track = "text") -> None:
        """Add a piece of text. It is sent when due; the caller does not wait."""
        if not text:
            return
        self._is_begun = True
        text, self._halves[track] = split_half(self._halves[track] + text)
        if self.is_replaying or not text:
            return
        joiner = self._open()
        joiner.add(track, self._fitting(text, track))
        self._send_due()

    def passed_step(self, key: str) -> None:
        """Record that the replayed agent has passed a recorded step: text after the last one is new."""
        if self.number == self._done and key == self._skip_until:
            self._skip_until = None

    async def flush(self) -> None:
        """Send the waiting text and wait until it is stored; called before any other event of the run.

        Raises:
            Fenced: the run has another holder.
        """
        if self._beginning is not None:
            await self._beginning
            self._check_fence()
        while self._joiner is not None and not self._joiner.is_stored:
            self._progressed.clear()
            self._send_due(is_forced=True)
            await self._progressed.wait()
            self._check_fence()

    async def end(self, ending: MessageEnding, *, is_forced: bool = False) -> str:
        """End the open message, if any, and return its ID.

        `is_forced` creates and ends an empty message if none is open, for a tool call, which must belong to a message.
        """
        message_id = self.message_id
        self._end_halves()
        if self.number < self._done:
            if self._is_begun or is_forced:
                self.number, self._is_begun = self.number + 1, False
            return message_id
        is_left_open = self._opened is not None and self.number == self._done
        if not (self.is_open or is_forced or (is_left_open and ending.finish_reason != "tool_calls")):
            return message_id
        self._skip_until = None
        self._open()
        await self.flush()
        await self._append_end(message_id, ending)
        self.number, self._is_begun, self._joiner, self._opened, self._kept = self.number + 1, False, None, None, ""
        self._beginning = None
        return message_id

    def _end_halves(self) -> None:
        """Replace unpaired surrogates at the end of the text by U+FFFD."""
        for track, half in self._halves.items():
            self._halves[track] = ""
            if half and not self.is_replaying:
                self._open().add(track, self._fitting(half, track))

    def open_texts(self) -> tuple[str, str]:
        """Text and reasoning of the open message so far."""
        if self._joiner is None:
            return self._held if self._opened is not None else "", ""
        return self._joiner.whole("text"), self._joiner.whole("reasoning")

    def close(self) -> None:
        """Cancel timers and tasks at the end of the segment."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beginning is not None:
            self._beginning.cancel()

    def _open(self) -> Joiner:
        if self._joiner is None:
            self._joiner = Joiner(self._kept)
            self._left = {"text": TEXT_BYTES_MAX - len(self._kept.encode()), "reasoning": REASONING_BYTES_MAX}
            self._first_s = self._loop.time()
            self._beginning = self._loop.create_task(self._begin(), name=f"begin {self.message_id}")
        return self._joiner

    async def _begin(self) -> None:
        try:
            await (self._append_reset() if self._opened is not None else self._append_start())
        except Fenced:
            self._control.request(Stop.FENCED)
        self._send_due()

    async def _append_start(self) -> None:
        run = self._run.run
        payload: JsonObject = {
            "message_id": self.message_id,
            "run_id": run.run_id,
            "attempt": run.attempt,
            "agent": run.agent,
        }
        if parent := (message_id_of(run.run_id, self.number - 1) if self.number else self._parent):
            payload["parent_id"] = parent
        self._faults.hit("run_before_start")
        await self._run.append("assistant.message.start", payload, f"start/{self.number}")
        self._faults.hit("run_after_start")

    async def _append_reset(self) -> None:
        run, keep = self._run.run, len(self._kept)
        payload: JsonObject = {
            "message_id": self.message_id,
            "run_id": run.run_id,
            "attempt": run.attempt,
            "keep": keep,
            "reason": "worker_lost",
        }
        held = OpenText(self.message_id, run.run_id, run.attempt, end=keep, text=self._kept, is_reset=True)
        key = f"reset/{self.number}/{run.segment}/{run.attempt}"
        await self._run.append("assistant.message.reset", payload, key, open_text=held)

    async def _append_end(self, message_id: str, ending: MessageEnding) -> None:
        run, joiner = self._run.run, self._open()
        payload: JsonObject = {
            "message_id": message_id,
            "run_id": run.run_id,
            "attempt": run.attempt,
            "finish_reason": "length" if self._left["text"] < 0 else ending.finish_reason,
            "text": joiner.whole("text"),
        }
        parts: list[Json] = [*ending.parts]
        extra: dict[str, Json] = {
            "reasoning": joiner.whole("reasoning") or None,
            "parts": parts or None,
            "usage": ending.usage,
            "error": ending.error,
        }
        payload |= {name: value for name, value in extra.items() if value is not None}
        drop = OpenText(message_id, run.run_id, run.attempt)
        self._faults.hit("run_before_end")
        await self._run.append("assistant.message.end", payload, f"end/{self.number}", open_text=drop)
        self._faults.hit("run_after_end")

    def _fitting(self, text: str, track: Track) -> str:
        """The text in the form that can be stored: without NUL and lone surrogates, cut to the maximum size of a message."""
        raw = joined(text).replace("\x00", "\ufffd").encode()
        left = self._left[track]
        self._left[track] = left - len(raw)
        return raw[: max(0, left)].decode("utf-8", "ignore")

    def _send_due(self, *, is_forced: bool = False) -> None:
        joiner = self._joiner
        if joiner is None or self._beginning is None or not self._beginning_done():
            return
        due_s = joiner.due_in_s(self._loop.time())
        if due_s is None:
            return
        if due_s > 0 and not is_forced:
            if self._timer is None:
                self._timer = self._loop.call_later(due_s, self._on_timer)
        elif not self._writer.has_room:
            self._writer.when_room(self, self._send_due)
        else:
            self._send(joiner, joiner.take(self._loop.time()))

    def _beginning_done(self) -> bool:
        task = self._beginning
        return task is not None and (task.done() or task is asyncio.current_task(self._loop))

    def _on_timer(self) -> None:
        self._timer = None
        self._send_due()

    def _send(self, joiner: Joiner, delta: Delta) -> None:
        run = self._run.run
        payload: JsonObject = {
            "message_id": self.message_id,
            "run_id": run.run_id,
            "attempt": run.attempt,
            "track": delta.track,
            "offset": delta.offset,
            "end": delta.end,
            "delta": delta.text,
        }
        held = OpenText(self.message_id, run.run_id, run.attempt, delta.track, delta.offset, delta.end, delta.text)
        draft = self._run.draft("assistant.message.delta", payload, open_text=held)

        def settled(result: Result) -> None:
            if isinstance(result, Appended):
                self._metrics.deltas += 1
                if delta.offset == len(self._kept):
                    self._metrics.first_deltas.observe(self._loop.time() - self._first_s)
                    asked_ms = ms_of_id(self._run.run.cause)
                    trace_id = trace_id_of(self._run.traceparent or "") if self._run.tracing is not None else ""
                    self._metrics.first_tokens.observe((self._run.log.now_ms() - asked_ms) / 1000, trace_id)
                joiner.stored()
                self._progressed.set()
                self._send_due()
            elif isinstance(result, GuardRefused):
                self._metrics.fenced += 1
                self._control.request(Stop.FENCED)
                self._progressed.set()
            else:  # send the same delta again: readers that already have it ignore it because of its offset
                self._loop.call_later(RETRY_S, self._writer.submit, draft, settled)

        self._writer.submit(draft, settled)

    def _check_fence(self) -> None:
        if self._control.stop is Stop.FENCED:
            raise Fenced(self._run.run.run_id)
