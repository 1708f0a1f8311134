"""One client as a process before one scripted hub: carries out the steps of a case, and gathers what the client tells."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from conformance.scripted_hub import ScriptedHub, scripted_hub

CHANNEL: Final = "conversation:1"


class Stage:
    """The steps that a case can name. Each returns once what it is about has happened."""

    def __init__(self, hub: ScriptedHub, client: asyncio.subprocess.Process, patience_s: float) -> None:
        self.hub = hub
        self._client = client
        self._patience_s = patience_s
        self._told: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    # --- the user ---

    async def follow(self, after: str) -> None:
        """Follows the channel, until it is followed."""
        await self._do(do="follow", channel=CHANNEL, after=after)
        await self._until(lambda: self._count("subscribed") + self._count("over") > 0)

    async def follow_in_vain(self, after: str) -> None:
        """Follows the channel, until that is refused."""
        await self._do(do="follow", channel=CHANNEL, after=after)
        await self._until(lambda: self._count("over") > 0)

    async def send(self, text: str, command_id: str) -> None:
        """Sends a message, until it is stored."""
        count = self._count("stored") + 1
        await self._do(do="send", channel=CHANNEL, text=text, id=command_id)
        await self._until(lambda: self._count("stored") >= count)

    async def send_in_vain(self, text: str, command_id: str) -> None:
        """Sends a message, until it is refused."""
        await self._do(do="send", channel=CHANNEL, text=text, id=command_id)
        await self._until(lambda: self._count("refused") > 0)

    async def events(self, count: int) -> None:
        """Waits until the client has told so many events."""
        await self._until(lambda: self._count("event") >= count)

    async def gap(self, count: int) -> None:
        """Waits until the client has told so many gaps."""
        await self._until(lambda: self._count("gap") >= count)

    # --- the log ---

    async def append(self, *texts: str) -> None:
        """Stores events and sends them."""
        for text in texts:
            self.hub.hub.append(CHANNEL, text)
            self.hub.push()

    async def missed(self, *texts: str) -> None:
        """Stores events that nobody is sent."""
        for text in texts:
            self.hub.hub.append(CHANNEL, text)
        for outlet in self.hub.outlets:
            outlet.session.out.clear()

    leave_out = missed

    async def repeat(self) -> None:
        """Sends the newest event again."""
        for outlet in self.hub.outlets:
            outlet.session.out.append(self.hub.hub.log(CHANNEL).events[-1][2])
        self.hub.push()

    async def swapped(self, first: str, second: str) -> None:
        """Stores two events and sends the second one first."""
        for text in (first, second):
            self.hub.hub.append(CHANNEL, text)
        for outlet in self.hub.outlets:
            outlet.session.out.reverse()
        self.hub.push()

    async def doubled_replay(self) -> None:
        """The next replay brings each event twice."""
        self._distort_replay(lambda events: [event for event in events for _ in range(2)])

    async def short_replay(self) -> None:
        """The next replay leaves out its second event."""
        self._distort_replay(lambda events: events[:1] + events[2:])

    def _distort_replay(self, distort: Any) -> None:
        log, plain = self.hub.hub.log(CHANNEL), type(self.hub.hub.log(CHANNEL)).after_seq

        def after_seq(seq: int) -> list[tuple[str, int, str]]:
            log.after_seq = lambda later: plain(log, later)  # type: ignore[method-assign]  # once
            found: list[tuple[str, int, str]] = distort(plain(log, seq))
            return found

        log.after_seq = after_seq  # type: ignore[method-assign]

    async def trim(self, keep: int) -> None:
        """Removes the older events."""
        self.hub.hub.trim(CHANNEL, keep)

    async def flush(self) -> None:
        """The stream is lost; followers are told."""
        self.hub.hub.flush(CHANNEL)
        self.hub.push()

    async def flush_unseen(self) -> None:
        """The stream is lost, and nobody is told."""
        self.hub.hub.flush(CHANNEL)
        for outlet in self.hub.outlets:
            outlet.session.out.clear()

    # --- the hub and the network ---

    async def cut_after(self, *counts: int) -> None:
        """Cuts the sockets or streams to come after so many messages, in turn."""
        self.hub.cuts = list(counts)

    async def cut(self) -> None:
        """Resets every socket and stream."""
        for outlet in list(self.hub.outlets):
            outlet.cut()

    async def refuse_upgrades(self) -> None:
        """No WebSocket gets through from now on."""
        self.hub.has_websocket = False

    async def allow_upgrades(self) -> None:
        """A WebSocket gets through again."""
        self.hub.has_websocket = True

    async def hold_streams(self) -> None:
        """No stream gets through from now on."""
        self.hub.has_streams = False

    async def returned(self) -> None:
        """Waits until the client follows over a WebSocket again."""
        await self._until(lambda: any(not one.is_stream and one.session.following for one in self.hub.outlets))

    async def forbid(self, what: str, code: int, retry: str) -> None:
        """Refuses a token, a channel or a text from now on."""
        self.hub.hub.refusals[what] = {"code": code, "retry": retry}

    async def expire(self, token: str) -> None:
        """The token is over: every socket is closed with 4002."""
        await self.forbid(token, 4002, "refresh")
        for outlet in list(self.hub.outlets):
            outlet.session.error(4002, "refresh", closes=True)
        self.hub.push()

    async def put_off(self, command_id: str, times: int) -> None:
        """Answers "later" to a command."""
        self.hub.hub.later[command_id] = times

    async def drain(self, pause_ms: int) -> None:
        """The node stops, and asks its clients to come back after a pause."""
        for outlet in list(self.hub.outlets):
            outlet.session.send({"type": "connection.drain", "payload": {"reconnect_after_ms": pause_ms}})
            outlet.session.closed = 1012
            outlet.session.leave()
        self.hub.push()

    # --- the process ---

    async def listen(self) -> None:
        """Gathers what the client tells, until it ends."""
        assert self._client.stdout is not None
        while line := await self._client.stdout.readline():
            async with self._news:
                self._told.append(json.loads(line))
                self._news.notify_all()

    def result(self) -> tuple[list[Any], dict[str, list[Any]], list[str]]:
        """The events, everything else by kind, and the ways."""
        told = self._told
        events = [[one["seq"], one["text"]] for one in told if one["saw"] == "event"]
        ways: list[str] = []
        for one in told:
            if one["saw"] == "event" and one["way"] is not None and ways[-1:] != [one["way"]]:
                ways.append(one["way"])
        others: dict[str, list[Any]] = {}
        for one in told:
            match one:
                case {"saw": "gap", "reason": reason, "from_seq": first, "to_seq": last}:
                    others.setdefault("gap", []).append([reason, first, last])
                case {"saw": "stored", "id": command_id, "seq": seq}:
                    others.setdefault("stored", []).append([command_id, seq])
                case {"saw": "refused", "id": command_id, "code": code}:
                    others.setdefault("refused", []).append([command_id, code])
                case {"saw": "over" | "broken" as kind}:
                    others.setdefault(kind, []).append(one.get("code"))
        return events, others, ways

    async def _do(self, **what: str) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(json.dumps(what).encode() + b"\n")
        await self._client.stdin.drain()

    def _count(self, kind: str) -> int:
        return sum(one["saw"] == kind for one in self._told)

    async def _until(self, is_so: Any) -> None:
        """Waits for something that is told, or that a client does at the hub."""
        async with asyncio.timeout(self._patience_s):
            while not is_so():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05), self._news:
                        await self._news.wait()


@contextlib.asynccontextmanager
async def staged(program: list[str], tokens: str, patience_s: float = 45.0) -> AsyncIterator[Stage]:
    """A stage with the client that `program` starts; the URL and the tokens are its next arguments."""
    async with scripted_hub() as hub:
        arguments = [one.replace("{url}", hub.url).replace("{tokens}", tokens) for one in program]
        pipe = asyncio.subprocess.PIPE
        client = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        stage = Stage(hub, client, patience_s)
        listening = asyncio.create_task(stage.listen())
        try:
            yield stage
        finally:
            with contextlib.suppress(ProcessLookupError):
                client.kill()
            await client.wait()
            await listening
