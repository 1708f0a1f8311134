"""Reads one channel over HTTP: by a stream of Server-Sent Events or, where the network lets no stream through, by long polls.

It passes on the same messages as a socket would: `channel.subscribed`, the missed events, `channel.resumed`, the new events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

from hub.client.http_requests import HttpAnswer, HttpRefusal, NoAnswer, request
from hub.client.items import FROM_START, LIVE_ONLY, Payload
from hub.client.wire import elements, member

_FIRST_S: Final = 5.0
"""Seconds to wait for a stream's first line. If it has not come by then, the network holds streams back."""
_SILENT_S: Final = 75.0
"""Seconds without a line after which a stream counts as lost. By default the hub sends a line every 30 s."""
_USEFUL_S: Final = 5.0
"""Seconds for which a stream must have lasted to be opened again at once."""
_WAIT_MS: Final = 25_000
"""Milliseconds that a long poll waits for an event; the hub allows 30,000."""
_PAGE_EVENTS: Final = 500
_REWIND_MAX: Final = 999
_LATEST: Final = "999999999999999-0"
"""In the year 33658: no event is newer."""
_OF_THE_TOKEN: Final = (4001, 4002, 4019)
_TOO_FAR_BEHIND: Final = 4012


class HttpConnection(Protocol):
    """The connection that a reader is a part of."""

    is_polling: bool

    async def tell(self, text: str) -> None:
        """Pass a message on to the client."""
        ...

    async def refuse(self, payload: Payload) -> None:
        """End the connection with the hub's error."""
        ...

    async def drained(self, text: str) -> None:
        """End the connection because the node is about to stop."""
        ...

    def end(self) -> None:
        """End the connection as lost."""
        ...

    async def get(self, path: str, query: Mapping[str, object], timeout_s: float = ...) -> str:
        """Request a document."""
        ...

    def url(self, path: str, query: Mapping[str, object]) -> str:
        """The address of a route."""
        ...

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        ...


class _Restart(Exception):
    """The stream must be opened again."""


class ChannelReader:
    """Reads until it is cancelled.

    Args:
        http: its connection.
        wanted: a subscription object, as on a socket.
        re: the id of the command that asked; None for the first message.
    """

    def __init__(self, http: HttpConnection, wanted: dict[str, Any], re: str | None) -> None:
        self._http, self._wanted, self._re = http, wanted, re
        self._channel: str = wanted["channel"]
        self._path = f"/v1/channels/{quote(self._channel)}"
        self._after: str = wanted.get("after", LIVE_ONLY)
        self._epoch: str | None = wanted.get("epoch")
        self._is_live = False

    async def run(self) -> None:
        """Read until cancelled. An error ends the connection or, if the hub refuses this channel, the subscription."""
        try:
            if "rewind" in self._wanted and self._after == LIVE_ONLY:
                await self._rewind(self._wanted["rewind"])
            while True:
                await (self._poll() if self._http.is_polling else self._stream())
        except HttpRefusal as refusal:
            await self._refused(refusal.payload)
        except (OSError, EOFError, TimeoutError, ValueError, KeyError):
            self._http.end()

    async def _rewind(self, count: int) -> None:
        """Find the event after which the newest `count` events begin, because reading over HTTP starts only after an event."""
        limit = min(count, _REWIND_MAX) + 1
        page, _ = await self._page({"before": _LATEST, "limit": limit})
        self._after = page["events"][0]["id"] if len(page["events"]) == limit else FROM_START

    # --- streams ---

    async def _stream(self) -> None:
        clock = asyncio.get_running_loop().time
        opened_at, was_heard = clock(), False
        url = self._http.url(f"{self._path}/stream", {"after": self._after})
        try:
            async with asyncio.timeout(_FIRST_S) as silence, request("GET", url, self._http.headers()) as answer:
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    await answer.text()
                    raise NoAnswer("no stream")
                async for data in _server_sent_events(answer):
                    was_heard = True
                    silence.reschedule(clock() + _SILENT_S)
                    if data:
                        await self._take(data)
                        silence.reschedule(clock() + _SILENT_S)
        except _Restart:
            return
        except (OSError, EOFError, TimeoutError):
            pass  # the stream broke: see below
        if not was_heard:
            self._http.is_polling = True
        elif clock() - opened_at < _USEFUL_S:
            raise NoAnswer("the stream ended")

    async def _take(self, data: str) -> None:
        frame = json.loads(data)
        match frame["type"]:
            case "connection.drain":
                await self._http.drained(data)
            case "connection.error" if frame["payload"]["code"] == _TOO_FAR_BEHIND:
                raise _Restart
            case "connection.error":
                raise HttpRefusal(frame["payload"])
            case "channel.subscribed":
                await self._begin(frame["payload"])
            case _:
                if "seq" in frame:
                    self._after = frame["id"]
                await self._http.tell(data)

    async def _begin(self, told: dict[str, Any]) -> None:
        gap = told.get("gap")
        if self._is_short_rewind(gap):
            self._after = told["floor"]["id"]
            raise _Restart
        await self._subscribed(told)
        if gap or self._after == LIVE_ONLY:
            self._after = told["head"]["id"]

    def _is_short_rewind(self, gap: Payload | None) -> bool:
        """True if the log keeps fewer events than the rewind requested."""
        is_trimmed = gap is not None and gap["reason"] == "trimmed"
        return is_trimmed and self._after == FROM_START and "rewind" in self._wanted and not self._is_live

    async def _subscribed(self, told: dict[str, Any]) -> None:
        """Report a start of the subscription, the first or a later one. `told` is a `channel.subscribed` payload."""
        if self._epoch is not None and told["epoch"] != self._epoch:
            gap = {"reason": "epoch_changed", "from_seq": None, "to_seq": None}
            told = told | {"recovered": False, "replay": 0, "gap": gap}
        if "state" not in told and (self._wanted.get("state", True) or told.get("gap")):
            found = json.loads(await self._http.get(f"{self._path}/state", {}))
            told = told | {"state": found["state"], "state_at": found["state_at"]}
        frame = {"type": "channel.subscribed", "channel": self._channel, "payload": told | {"state_scope": "full"}}
        if self._re is not None:
            frame["re"] = self._re
        self._re, self._is_live, self._epoch = None, True, told["epoch"]
        await self._http.tell(json.dumps(frame))

    async def _refused(self, payload: Payload) -> None:
        if payload["code"] in _OF_THE_TOKEN:
            await self._http.refuse(payload)
        elif self._is_live and payload.get("retry") == "no":
            left = {"type": "channel.unsubscribed", "channel": self._channel, "payload": {"reason": payload["name"]}}
            await self._http.tell(json.dumps(left))
        elif self._is_live:
            self._http.end()
        else:
            frame = {"type": "connection.error", "channel": self._channel, "payload": payload}
            await self._http.tell(json.dumps(frame if self._re is None else frame | {"re": self._re}))

    # --- long polls ---

    async def _poll(self) -> None:
        is_placed = self._after != LIVE_ONLY
        newest, _ = await self._page({"before": _LATEST, "limit": 1})
        head: dict[str, Any] = {"id": "0", "seq": 0}
        if newest["events"]:
            head = {name: newest["events"][0][name] for name in head}
        page: dict[str, Any] = {"events": [], "gap": None}
        text = "[]"
        if is_placed:
            page, text = await self._page({"after": self._after, "limit": _PAGE_EVENTS})
        if self._is_short_rewind(page["gap"]):
            page["gap"] = None
        state = json.loads(await self._http.get(f"{self._path}/state", {}))
        is_gap = page["gap"] is not None or (self._epoch is not None and state["epoch"] != self._epoch)
        replay = 0 if is_gap or not page["events"] else max(0, head["seq"] - page["events"][0]["seq"] + 1)
        if is_gap or not is_placed:
            self._after = head["id"]
        start = {"head": head, "floor": None, "recovered": not is_gap, "replay": replay, "gap": page["gap"]}
        await self._subscribed(start | state)
        seq = head["seq"] if is_gap or not page["events"] else page["events"][0]["seq"] - 1
        if is_gap:
            page, text = {"events": [], "gap": None}, "[]"
        place = (seq + 1, head["seq"]) if replay else (None, None)
        receipt = {"from_seq": place[0], "to_seq": place[1], "count": replay, "gap": None}
        is_owed = is_placed and not is_gap
        while page["gap"] is None and (not page["events"] or page["events"][0]["seq"] == seq + 1):
            if page["events"]:
                await self._http.tell(text)
                self._after, seq = page["events"][-1]["id"], page["events"][-1]["seq"]
            if is_owed and seq >= head["seq"]:
                is_owed = False
                resumed = {"type": "channel.resumed", "channel": self._channel, "payload": receipt}
                await self._http.tell(json.dumps(resumed))
            query = {"after": self._after, "limit": _PAGE_EVENTS, "wait_ms": _WAIT_MS}
            page, text = await self._page(query, 2 * _WAIT_MS / 1000)

    async def _page(self, query: Mapping[str, object], timeout_s: float = 20.0) -> tuple[dict[str, Any], str]:
        """A page of events, and the received text of their array."""
        text = await self._http.get(f"{self._path}/events", query, timeout_s)
        page: dict[str, Any] = json.loads(text)
        start = member(text, 0, "events")
        return page, text[start : elements(text, start)[1]]


async def _server_sent_events(answer: HttpAnswer) -> AsyncIterator[str]:
    """Yields the data of each event, and an empty text for each comment."""
    rest = b""
    async for piece in answer.pieces():
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
            yield b"\n".join(lines).decode()
