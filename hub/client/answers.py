"""An agent's answer as it grows, over any number of lost connections.

    asked = await hub.send("conversation:42", "summary", agent="demo")
    async for text in answers(hub, "conversation:42", asked):
        show(text)

The rules of the pieces an answer comes in are those of docs/protocol.md#deltas.
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
    """Yields the whole text so far whenever it has changed; the last one is the text that counts.

    A text begins like the one before, unless its agent began again on another worker. The messages of one answer are
    separated by an empty line. Leave it early within `contextlib.aclosing`, so that the channel is free at once.

    Args:
        hub: a connected client that does not follow the channel already.
        channel: the channel of the question.
        asked: the receipt of the `chat.message` or `agent.invoke`. Kept over a restart, it finds the same answer again.

    Raises:
        AnswerFailed: the run failed, expired or was cancelled.
        GapError: its events are no longer in the log.
        ValueError: no agent was asked.
    """
    answer, shown = Answer(asked), ""
    async with aclosing(follow(hub, channel, answer)) as items:
        async for _ in items:
            if answer.text != shown:
                shown = answer.text
                yield shown


async def follow(hub: HubClient, channel: str, answer: Answer) -> AsyncGenerator[Item]:
    """Yields every item of the answer's run (tool calls, questions, deltas) once `answer` has taken it.

    Raises:
        AnswerFailed, GapError: as `answers` does.
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
    """One message of the run, and its place in it."""

    number: int
    attempt: int = 0
    is_started: bool = False
    is_ended: bool = False
    tracks: dict[str, str] = field(default_factory=lambda: dict.fromkeys(_TRACKS, ""))


class Answer:
    """One run's answer, put together from the items and states of its channel.

    Attributes:
        asked_at: the cursor of the question.
        is_behind: a piece was ahead of what is held: `take_state` of a `channel.state` mends it.
        complete: the payload of the run's `agent.complete`; None while it goes on.
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

        A message is in it once those before it are whole and its `start` has come: it stands behind the tool calls that led to it.
        """
        return self._joined("text")

    @property
    def reasoning(self) -> str:
        """The reasoning so far, for clients with the capability `reasoning`."""
        return self._joined("reasoning")

    def take(self, item: Item) -> bool:
        """Take what came; true if it belongs to this run."""
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
        """Take from a channel's state what is further than what is held."""
        self.is_behind = False
        for held in state.get("open_messages", ()):
            if held["run_id"] == self.run_id:
                self._take_open(held)

    def raise_for_outcome(self) -> None:
        """Raises `AnswerFailed` unless the run is under way or was a success."""
        if self.complete is not None and self.complete["outcome"] != "success":
            raise AnswerFailed(self.complete)

    def _joined(self, track: str) -> str:
        parts = []
        for place, message in enumerate(sorted(self._messages.values(), key=lambda one: one.number)):
            if (message.number != place or not message.is_started) and self.complete is None:
                break  # what comes before is still on its way
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
