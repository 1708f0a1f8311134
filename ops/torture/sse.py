"""Follows a channel over Server-Sent Events; each new stream resumes from the last event ID."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ops.torture import http_client
from ops.torture.connection import HeldCursor, begin_reader
from ops.torture.history import now_ms
from ops.torture.people import HTTP_ERRORS, Participant


async def follow_by_sse(person: Participant, channel: str) -> None:
    """Follow a channel over Server-Sent Events; each new stream resumes from the last event ID."""
    cursor: HeldCursor | None = None
    while True:
        node, url = person.chance.choice(sorted(person.setting.urls.items()))
        headers = {"Authorization": f"Bearer {person.current_token()}"}
        told = {"after": cursor.id, "seq": cursor.seq, "since": cursor.since} if cursor else {"after": "0"}
        reader = begin_reader(person.recorder, person.who(node), "sse", channel, told, there=True, presence=False)
        patience_s = person.chance.expovariate(1 / 10)
        why = "closed"
        try:
            async with asyncio.timeout(None if person.setting.is_calm else patience_s):
                async for kind, data in _sse(f"{url}/v1/channels/{channel}/stream?after={told['after']}", headers):
                    cursor = _taken(person, reader, kind, data, cursor)
        except PermissionError as error:
            why = f"refused {error}"
        except HTTP_ERRORS as error:
            why = repr(error)
        person.recorder.write("left", r=reader, why=why, is_own=False)
        await asyncio.sleep(person.chance.uniform(0.1, 0.5))


async def _sse(url: str, headers: dict[str, str]) -> Any:
    """Yield (event name, data) for each event; heartbeats prevent the timeout."""
    kind, data = "", ""
    async for line in http_client.lines(url, headers, timeout_s=12):
        text = line.decode()
        if text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            data = text.removeprefix("data: ")
        elif not text and data:
            yield kind, data
            kind, data = "", ""


def _taken(person: Participant, reader: str, kind: str, data: str, cursor: HeldCursor | None) -> HeldCursor | None:
    """Record one event of the stream; returns the cursor after it."""
    message = json.loads(data)
    size = len(data.encode())
    if kind == "channel.subscribed":
        person.recorder.write("subscribed", r=reader, n=size, payload=message["payload"])
        head = message["payload"]["head"]
        if message["payload"].get("gap"):
            return HeldCursor(head["id"], head["seq"], message["payload"]["epoch"], now_ms())
    elif kind == "connection.error":
        raise PermissionError(str(message["payload"]["code"]))
    elif kind == "channel.resumed":
        person.recorder.write("resumed", r=reader, payload=message["payload"])
    elif "seq" in message:
        name = person.recorder.bytes_of(data.encode())
        person.recorder.write("got", r=reader, n=size, e=[[message["seq"], message["id"], name]])
        return HeldCursor(message["id"], message["seq"], "", now_ms())
    elif not kind:
        person.recorder.write("signal", r=reader, raw=data)
    return cursor
