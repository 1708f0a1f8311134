"""A bot that answers "pong". After a restart it continues where it stopped, and never answers a message twice.

HUB_URL=$(hub url) HUB_TOKEN=$(hub token --user bot --tenant acme --grant 'conversation:*=read,write') python examples/bot.py
"""

import asyncio
import os

from hub.client import FileCursors, HubClient

CHANNEL = "conversation:demo"


async def main() -> None:
    cursors = FileCursors("bot-cursors.json")
    async with HubClient(os.environ["HUB_URL"], os.environ["HUB_TOKEN"], cursors=cursors) as hub:
        async for event in hub.subscribe(CHANNEL, after=cursors.load(CHANNEL) or "0"):
            if event.type == "chat.message" and event.payload["text"] == "ping":
                # The command ID is derived from the event: if it is sent again after a crash, it is still stored only once.
                await hub.command("chat.message", CHANNEL, {"text": "pong"}, command_id=f"pong:{event.id}")


asyncio.run(main())
