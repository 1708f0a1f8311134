"""The questions of a segment, numbered in the order in which the agent asks them and answered from the journal.

The segment ends when a question has no answer yet, with all its questions open, and the next segment begins when all are
answered. Otherwise calls that run concurrently would lose their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consumers.agents.agent import INVOKER, Answer, Question, Suspended
from consumers.faults import Faults
from consumers.runs.journal import RequestRecord
from consumers.runs.run_log import RunLog
from consumers.runs.storable import checked, storable_text
from consumers.runs.transitions import RunChange
from streams.envelope import Guard
from streams.json_bytes import JsonObject
from streams.records.runs import RUN_TTL_S, request_guard_name, request_id_of
from streams.run_states import WAITING_MS_DEFAULT
from streams.times import rfc3339


class Questions:
    """Asks questions, and collects those without an answer.

    Args:
        run: appends the events.
        faults: the points at which tests inject failures.
        now_ms: returns the time in milliseconds since 1970.
        first: the number of the first question: 0 if the agent is replayed, otherwise the number of questions asked before.
    """

    def __init__(self, run: RunLog, faults: Faults, now_ms: Callable[[], int], first: int = 0) -> None:
        self._run, self._faults, self._now_ms = run, faults, now_ms
        self._next = first
        self.open: list[tuple[str, Question]] = []

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers, in the order of the questions.

        Raises:
            Suspended: some have no answer yet; the segment ends, and the agent is run again when all have.
            AgentFailed: a question does not match the catalogue.
        """
        answers: list[Answer] = []
        for question in questions:
            request_id = request_id_of(self._run.run.run_id, self._next)
            self._next += 1
            record = self._run.journal.requests.get(request_id)
            answer = record.answer() if record else None
            if answer is None:
                self._payload(request_id, question, self._expires_ms(question))
                self.open.append((request_id, question))
            else:
                answers.append(answer)
        if len(answers) < len(questions):
            raise Suspended
        return answers

    def _assignees(self, question: Question) -> list[str]:
        """The users who may answer, with the placeholder replaced by the user who started the run."""
        named = (self._run.run.by if name in INVOKER else name for name in question.assignees)
        return list(dict.fromkeys(named))

    async def put(self) -> int:
        """Append the open questions. Returns the earliest expiry, in milliseconds since 1970."""
        now_ms = self._now_ms()
        earliest = now_ms + WAITING_MS_DEFAULT
        for request_id, question in self.open:
            expires_ms = self._expires_ms(question)
            earliest = min(earliest, expires_ms)
            if request_id not in self._run.journal.requests:
                await self._put(request_id, question, expires_ms)
        return earliest

    def _expires_ms(self, question: Question) -> int:
        life_ms = WAITING_MS_DEFAULT if question.expires_in_s is None else int(question.expires_in_s * 1000)
        return self._now_ms() + life_ms

    def _payload(self, request_id: str, question: Question, expires_ms: int) -> JsonObject:
        run = self._run.run
        payload: JsonObject = {
            "request_id": request_id,
            "batch_id": f"{run.run_id}.s{run.segment}",
            "run_id": run.run_id,
            "kind": question.kind,
        }
        optional: JsonObject = {
            "tool_call_id": question.tool_call_id,
            "name": question.name,
            "args": question.args,
            "prompt": storable_text(question.prompt, 4000),
            "response_schema": question.response_schema,
            "allow_edit": question.allow_edit or None,
            "assignees": [*self._assignees(question)] or None,
            "expires_at": rfc3339(expires_ms),
        }
        payload |= {name: value for name, value in optional.items() if value is not None}
        return checked("tool.call.request", payload)

    async def _put(self, request_id: str, question: Question, expires_ms: int) -> None:
        run_id, payload = self._run.run.run_id, self._payload(request_id, question, expires_ms)
        fields = {
            "state": "open",
            "run_id": run_id,
            "kind": question.kind,
            "call": question.tool_call_id or "",
            "edit": "1" if question.allow_edit else "",
            "assignees": ",".join(self._assignees(question)),
            "expires_ms": str(expires_ms),
        }
        guard = Guard(request_guard_name(self._run.channel, request_id), sets=tuple(fields.items()), ttl_s=RUN_TTL_S)
        self._faults.hit("run_before_ask")
        key = f"request/{request_id}"
        await self._run.append_unless_done(
            "tool.call.request", payload, key, RunChange(increments=("asked",), guards=(guard,))
        )
        self._run.journal.requests.setdefault(
            request_id, RequestRecord(request_id, question.kind, question.tool_call_id)
        )
        self._faults.hit("run_after_ask")
