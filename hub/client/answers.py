"""Follows an agent's answer while it is being written, however often the connection is lost.

    asked = await hub.send("conversation:42", "summary", agent="demo")
    async for text in answers(hub, "conversation:42", asked):
        show(text)

docs/protocol.md#deltas has the rules for putting an answer together from its deltas.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from hub.client.client import HubClient
from hub.client.errors import AnswerFailed
from hub.client.items import Cursor, Event, Item, Payload, Signal, Stored, Subscribed

_TRACKS: Final = ("text", "reasoning")


async def answers(hub: HubClient, channel: str, asked: Stored) -> AsyncGenerator[str]:
    """Yields the whole text so far each time it changes; the last one is the final text.

    Each text begins with the previous one, unless the agent started over on another worker. The messages of one
    answer are separated by an empty line. To leave early, use `contextlib.aclosing`, so that the channel is
    released at once.

    Args:
        hub: a connected client that does not follow the channel already.
        channel: the channel of the question.
        asked: the receipt of the `chat.message` or `agent.invoke`. If it is kept over a restart, it finds the same answer again.

    Raises:
        AnswerFailed: the run failed, expired or was cancelled.
        GapError: events of the run are no longer in the log.
        ValueError: no agent was asked.
    """
    answer, shown = Answer(asked), ""
    async with aclosing(follow(hub, channel, answer)) as items:
        async for _ in items:
            if answer.text != shown:
                shown = answer.text
                yield shown


async def follow(hub: HubClient, channel: str, answer: Answer) -> AsyncGenerator[Item]:
    """Yields every item of the answer's run (tool calls, questions, deltas) after `answer` has processed it.

    Raises:
        AnswerFailed: as in `answers`.
        GapError: as in `answers`.
    """
    async with hub.subscribe(channel, after=answer.asked_at, signals=True, with_receipts=True) as items:
        async for item in items:
            is_ours = answer.take(item)
            if answer.is_behind:
                answer.take_state((await hub.state(channel)).state)
            if is_ours:
                yield item
            if answer.complete is not None:
                break
    answer.raise_for_outcome()


@dataclass(slots=True)
class _Message:
    """One message of the run, with its position among the run's messages."""

    number: int
    attempt: int = 0
    is_started: bool = False
    is_ended: bool = False
    tracks: dict[str, str] = field(default_factory=lambda: dict.fromkeys(_TRACKS, ""))


class Answer:
    """The answer of one run, assembled from the events, deltas and states of its channel.

    Attributes:
        asked_at: the cursor of the question.
        is_behind: True if a delta did not continue the text held; pass a newer channel state to `take_state` to repair it.
        complete: the payload of the run's `agent.complete`; None until it arrives.
    """

    def __init__(self, asked: Stored) -> None:
        run_id = asked.payload.get("run_id")
        if run_id is None:
            raise ValueError("no agent was asked: name one in the command, or in the settings of the conversation")
        self.run_id: str = run_id
        self.asked_at = Cursor(asked.id, asked.seq)
        self.is_behind = False
        self.complete: Payload | None = None
        self._messages: dict[str, _Message] = {}

    @property
    def text(self) -> str:
        """The text so far.

        A message is included once all messages before it are complete and its own `start` has arrived, so
        that it appears after the tool calls that led to it.
        """
        return self._joined("text")

    @property
    def reasoning(self) -> str:
        """The reasoning so far, for clients with the capability `reasoning`."""
        return self._joined("reasoning")

    def take(self, item: Item) -> bool:
        """Processes an item; returns True if it belongs to this run."""
        if isinstance(item, Subscribed):
            if item.state is not None:
                self.take_state(item.state)
            return False
        if not isinstance(item, Event | Signal) or item.payload.get("run_id") != self.run_id:
            return False
        payload = item.payload
        match item.type:
            case "assistant.message.start":
                self._message(payload["message_id"], payload["attempt"]).is_started = True
            case "assistant.message.delta":
                self._delta(payload)
            case "assistant.message.reset":
                self._reset(payload)
            case "assistant.message.end":
                self._end(payload)
            case "agent.complete":
                self.complete = payload
        return True

    def take_state(self, state: Payload) -> None:
        """Takes from a channel state everything that is newer than this answer's text."""
        self.is_behind = False
        for held in state.get("open_messages", ()):
            if held["run_id"] == self.run_id:
                self._take_open(held)

    def raise_for_outcome(self) -> None:
        """Raises `AnswerFailed` if the run has ended without success."""
        if self.complete is not None and self.complete["outcome"] != "success":
            raise AnswerFailed(self.complete)

    def _joined(self, track: str) -> str:
        parts = []
        for place, message in enumerate(sorted(self._messages.values(), key=lambda one: one.number)):
            if (message.number != place or not message.is_started) and self.complete is None:
                break  # a message before this one has not arrived yet
            parts.append(message.tracks[track])
            if not message.is_ended and self.complete is None:
                break
        return "\n\n".join(filter(None, parts))

    def _message(self, message_id: str, attempt: int) -> _Message:
        number = int(message_id.rpartition(".")[2])
        return self._messages.setdefault(message_id, _Message(number, attempt))

    def _delta(self, payload: Payload) -> None:
        message = self._message(payload["message_id"], payload["attempt"])
        track, offset = payload.get("track", "text"), payload["offset"]
        held = len(message.tracks[track])
        if message.is_ended or payload["attempt"] < message.attempt:
            return
        if payload["attempt"] > message.attempt or offset > held:
            self.is_behind = True
        elif offset == held:
            message.tracks[track] += payload["delta"]

    def _reset(self, payload: Payload) -> None:
        message, keep = self._message(payload["message_id"], 0), payload.get("keep", 0)
        if payload["attempt"] <= message.attempt:
            return
        message.attempt = payload["attempt"]
        self.is_behind |= len(message.tracks["text"]) < keep
        message.tracks = {"text": message.tracks["text"][:keep], "reasoning": ""}

    def _end(self, payload: Payload) -> None:
        message = self._message(payload["message_id"], payload["attempt"])
        message.is_started = message.is_ended = True
        for track in _TRACKS:
            message.tracks[track] = payload.get(track, message.tracks[track])

    def _take_open(self, held: Payload) -> None:
        message = self._message(held["message_id"], held["attempt"])
        if message.is_ended or held["attempt"] < message.attempt:
            return
        for track in _TRACKS:
            found = held.get(track, "")
            if held["attempt"] > message.attempt or len(found) > len(message.tracks[track]):
                message.tracks[track] = found
        message.attempt = held["attempt"]
