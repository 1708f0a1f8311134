"""The Python client as a process: does what standard input says, and tells on standard output what it sees, in lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from hub.client import ChannelClosed, ClientError, Event, Gap, HubClient, HubError, Subscribed


def tell(**what: Any) -> None:
    """Tells one thing."""
    print(json.dumps(what), flush=True)


async def follow(hub: HubClient, channel: str, after: str) -> None:
    """Tells what a channel brings."""
    try:
        async for item in hub.subscribe(channel, after=after, on_gap="report", with_receipts=True):
            if isinstance(item, Event):
                tell(saw="event", seq=item.seq, text=item.payload["text"], way=hub.transport)
            elif isinstance(item, Gap):
                tell(saw="gap", reason=item.reason, from_seq=item.from_seq, to_seq=item.to_seq)
            elif isinstance(item, Subscribed):
                tell(saw="subscribed")
    except (HubError, ChannelClosed) as error:
        tell(saw="over", code=getattr(error, "code", None))
    except ClientError:
        tell(saw="broken")


async def send(hub: HubClient, channel: str, text: str, command_id: str) -> None:
    """Tells what became of a command."""
    try:
        reply = await hub.command("chat.message", channel, {"text": text}, command_id=command_id)
        tell(saw="stored", id=command_id, seq=reply.payload["seq"])
    except HubError as error:
        tell(saw="refused", id=command_id, code=error.code)


async def main(url: str, tokens: list[str]) -> None:
    """Runs until standard input ends."""
    given = iter(tokens)
    newest = tokens[0]

    def token() -> str:
        nonlocal newest
        newest = next(given, newest)
        return newest

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hub = HubClient(url, token, websocket_retry_s=0.5, connect_timeout_s=None)
    tasks = [asyncio.create_task(hub.connect())]
    tasks[0].add_done_callback(lambda done: done.exception())
    while line := await reader.readline():
        match json.loads(line):
            case {"do": "follow", "channel": channel, "after": after}:
                tasks.append(asyncio.create_task(follow(hub, channel, after)))
            case {"do": "send", "channel": channel, "text": text, "id": command_id}:
                tasks.append(asyncio.create_task(send(hub, channel, text, command_id)))
    await hub.aclose()
    await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main(sys.argv[1], sys.argv[2].split(",")))
