"""The Python client's connection over HTTP, where a proxy answers instead of a hub."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosedError

from hub.client import ClientError, ConnectionRefused, HubClient, HubUnreachable
from hub.client.http_socket import HttpSocket


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
    ],
    ids=["not UTF-8", "no length", "no chunk"],
)
async def test_an_unreadable_answer_ends_the_connection(answer: bytes) -> None:
    """The command is not left without an answer: the client connects again and sends it again."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        socket = HttpSocket(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await socket.send(b'{"type":"custom.done","id":"c1","channel":"team:1","payload":{}}')
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
            await socket.wait_closed()


@pytest.mark.parametrize(
    ("status", "error"), [(503, HubUnreachable), (429, HubUnreachable), (404, ConnectionRefused)], ids=str
)
async def test_a_proxy_without_nodes_for_a_moment_is_tried_again(status: int, error: type[ClientError]) -> None:
    """Without WebSocket, an answer over HTTP that may pass is no reason to give up; a lasting one is."""

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_upgrade = b"upgrade: websocket" in (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % (403 if is_upgrade else status))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(error):
            await HubClient(url, "t", connect_timeout_s=0.5, jitter=lambda: 0.01).connect()
