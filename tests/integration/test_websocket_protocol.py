"""The WebSocket wire on a real uvicorn with real sockets: what clients see, and what the receiver is told."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import zlib
from collections.abc import Iterator
from queue import Queue

import pytest
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from hub.sockets import Upgrade
from hub.websocket.codec import BINARY, CLOSE, PING, PONG, TEXT
from hub.websocket.protocol import WRITE_HIGH_BYTES, LeanWebSocket
from support.certificate import Certificate, self_signed
from support.client_frames import client_frame, close_frame
from support.raw_socket import RawSocket
from support.wire_server import WAIT_S, Recorder, WireServer, wire_server

SHORT_S = 0.2
"""A close timeout for tests that wait for it to pass."""


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def shared(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    with wire_server(loop=request.param) as wire:
        yield wire


@pytest.fixture
def server(shared: WireServer) -> WireServer:
    """One server for all, on each of the loops; receivers of earlier tests are forgotten."""
    shared.receivers = Queue()
    return shared


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def impatient(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    """A server whose close timeout passes soon."""
    with wire_server(loop=request.param, close_timeout_s=SHORT_S) as wire:
        yield wire


@pytest.fixture(scope="module", params=["httptools", "h11"])
def either(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    """A server on each of uvicorn's HTTP protocols, from which the upgrade comes."""
    with wire_server(http=request.param) as wire:
        yield wire


@pytest.fixture
def client(server: WireServer) -> Iterator[RawSocket]:
    with RawSocket(server.port) as raw:
        yield raw.upgrade()


class TestUpgrade:
    """RFC 6455 section 4.2, through both of uvicorn's HTTP protocols."""

    def test_accepted(self, either: WireServer) -> None:
        """The answer proves that the key was read, and the receiver gets the request."""
        with RawSocket(either.port) as raw:
            status, head = raw.request(target="/ws?room=1", changed={"X-Trace": "7"})
            upgrade = either.next_receiver().next_call("opened")
            address = raw.socket.getsockname()

        assert status == 101
        assert "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert isinstance(upgrade, Upgrade)
        assert (upgrade.path, upgrade.query, upgrade.client) == ("/ws", "room=1", address)
        assert upgrade.headers[b"x-trace"] == b"7"

    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [("hub.v1.json", "hub.v1.json"), ("mqtt, hub.v1.json", "hub.v1.json"), ("mqtt", None), (None, None)],
    )
    def test_subprotocol_is_chosen_of_those_offered(
        self, either: WireServer, offered: str | None, chosen: str | None
    ) -> None:
        """Ours if offered, none otherwise; the connection is accepted all the same."""
        with RawSocket(either.port) as raw:
            status, head = raw.request(changed={"Sec-WebSocket-Protocol": offered})

        assert status == 101
        assert (f"sec-websocket-protocol: {chosen}" in head) is (chosen is not None)

    @pytest.mark.parametrize(
        ("changed", "status", "header"),
        [
            ({"Sec-WebSocket-Version": "12"}, 426, "sec-websocket-version: 13"),
            ({"Sec-WebSocket-Version": None}, 426, "sec-websocket-version: 13"),
            ({"Sec-WebSocket-Key": None}, 400, "connection: close"),
            ({"Sec-WebSocket-Key": "AAAA"}, 400, "connection: close"),
            ({"Sec-WebSocket-Key": "?" * 24}, 400, "connection: close"),
        ],
    )
    def test_refused(self, either: WireServer, changed: dict[str, str | None], status: int, header: str) -> None:
        """Each missing or wrong field has its status, and the connection ends."""
        with RawSocket(either.port) as raw:
            answer, head = raw.request(changed=changed)

            assert (answer, raw.ending()) == (status, "fin")
            assert header in head

    def test_refused_method(self, either: WireServer) -> None:
        """A WebSocket is opened with GET."""
        with RawSocket(either.port) as raw:
            assert raw.request("POST")[0] == 405

    @pytest.mark.parametrize("status", [403, 404, 503])
    def test_the_factory_may_refuse(self, either: WireServer, status: int) -> None:
        """With the status it names."""
        with RawSocket(either.port) as raw:
            assert raw.request(target=f"/refuse/{status}")[0] == status
            assert raw.ending() == "fin"

    def test_a_factory_that_fails_is_a_500(self, either: WireServer, caplog: pytest.LogCaptureFixture) -> None:
        """Logged once; the next client is served."""
        with RawSocket(either.port) as raw:
            assert raw.request(target="/crash")[0] == 500
            assert raw.ending() == "fin"

        assert [record.levelno for record in caplog.records if record.name.startswith("hub")] == [logging.ERROR]
        with RawSocket(either.port) as raw:
            raw.upgrade()

    def test_other_requests_are_plain_http(self, either: WireServer) -> None:
        """Without the upgrade it is the application's, also before one on the same connection."""
        with RawSocket(either.port) as raw:
            assert raw.request(changed={"Connection": "keep-alive", "Upgrade": None})[0] == 200
            assert raw.take(5) == b"plain"
            assert raw.request()[0] == 101


class TestMessages:
    """Messages that come in go to the receiver, those it writes go out."""

    def test_text_and_binary_echo_through_the_websockets_client(self, server: WireServer) -> None:
        """An independent client agrees on every length form."""
        with connect(f"ws://127.0.0.1:{server.port}/ws", subprotocols=["hub.v1.json"], max_size=None) as ws:  # type: ignore[list-item]
            for size in (0, 1, 125, 126, 65_535, 65_536, 1_048_576):
                ws.send("é" * (size // 2))
                assert ws.recv() == "é" * (size // 2)
                ws.send(b"\x00" * size)
                assert ws.recv() == b"\x00" * size
            assert ws.subprotocol == "hub.v1.json"

    def test_binary_is_left_to_the_receiver(self, server: WireServer, client: RawSocket) -> None:
        """The wire has no opinion on it."""
        client.send(client_frame(BINARY, b"\x01\x02"))

        assert client.frame() == (BINARY, b"\x01\x02")
        assert server.next_receiver().next_call("binary") == b"\x01\x02"

    def test_ping_is_answered_and_heard(self, server: WireServer, client: RawSocket) -> None:
        """Between the fragments of a message too; pongs are heard and not answered."""
        client.send(client_frame(TEXT, b"a", is_final=False), client_frame(PING, b"1"), client_frame(PONG, b"?"))
        client.send(client_frame(PING, b"2"), client_frame(0, b"b"))

        assert [client.frame() for _ in range(3)] == [(PONG, b"1"), (PONG, b"2"), (TEXT, b"ab")]
        receiver = server.next_receiver()
        assert [receiver.calls.get(timeout=WAIT_S)[0] for _ in range(5)] == [
            "opened",
            "heard",
            "heard",
            "heard",
            "text",
        ]

    def test_nagle_is_off(self, server: WireServer, client: RawSocket) -> None:
        """TCP_NODELAY is set on every accepted socket, on either loop."""
        receiver = server.next_receiver()
        receiver.next_call("opened")
        accepted = wire_of(receiver)._transport.get_extra_info("socket")

        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    def test_reading_can_pause(self, server: WireServer, client: RawSocket) -> None:
        """While paused the socket is not read; resumed, what waited arrives."""
        client.text("pause")
        receiver = server.next_receiver()
        receiver.next_call("text")
        assert receiver.inside(wire_of(receiver)._transport.is_reading) is False

        client.text("after")
        receiver.inside(receiver.transport.resume_reading)

        assert receiver.next_call("text") == b"after"

    def test_the_write_mark_is_told(self, server: WireServer) -> None:
        """A peer that does not read makes the socket unwritable; reading makes it writable again; nothing is lost."""
        with RawSocket(server.port, receive_buffer_bytes=65_536) as raw:
            raw.upgrade().text("flood 2000")
            receiver = server.next_receiver()
            assert receiver.next_call("writable") is False
            assert receiver.inside(lambda: receiver.transport.is_writable) is False

            for _ in range(2000):
                assert raw.frame() == (TEXT, b"x" * 1024)

            assert receiver.next_call("writable") is True
            raw.text("close 4000")
            assert raw.close_code() == 4000

    def test_pings_of_a_peer_that_reads_no_pongs_cost_no_memory(self, server: WireServer) -> None:
        """Above the write mark only the latest ping is owed an answer (RFC 6455 section 5.5.3)."""
        with RawSocket(server.port, receive_buffer_bytes=65_536) as raw:
            raw.upgrade().send(
                b"".join(client_frame(PING, b"%0125d" % number, mask=bytes(4)) for number in range(10_000))
            )
            receiver = server.next_receiver()
            for _ in range(10_000):
                receiver.next_call("heard")
            waiting = receiver.inside(wire_of(receiver)._transport.get_write_buffer_size)
            pongs = [raw.frame()]
            while pongs[-1] != (PONG, b"%0125d" % 9999):
                pongs.append(raw.frame())

        assert waiting <= WRITE_HIGH_BYTES + 127
        assert pongs == sorted(pongs)
        assert len(pongs) < 10_000


class TestClosing:
    """RFC 6455 section 7, as the peer sees it."""

    def test_the_peer_closes(self, server: WireServer, client: RawSocket) -> None:
        """Its code comes back, then our FIN; the receiver is told the code once, last."""
        client.send(close_frame(4123, b"bye"))
        receiver = server.next_receiver()

        assert client.frame() == (CLOSE, (4123).to_bytes(2, "big"))
        assert client.ending() == "fin"
        client.socket.close()
        assert receiver.next_call("closed") == 4123
        assert receiver.calls.empty()

    def test_the_peer_closes_without_a_code(self, server: WireServer, client: RawSocket) -> None:
        """Empty is answered empty, and told as 1005."""
        client.send(close_frame())

        assert client.frame() == (CLOSE, b"")
        client.socket.close()
        assert server.next_receiver().next_call("closed") == 1005

    def test_the_receiver_closes(self, server: WireServer) -> None:
        """An independent client sees code and reason; the receiver is told its own code when all is over."""
        with connect(f"ws://127.0.0.1:{server.port}/ws") as ws:
            ws.send("close 4001 token refused")
            with pytest.raises(ConnectionClosedError) as caught:
                ws.recv()

        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "token refused")
        assert server.next_receiver().next_call("closed") == 4001

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            (client_frame(TEXT, b"x", mask=None), 1002),
            (client_frame(3), 1002),
            (client_frame(TEXT, b"\xff"), 1007),
            (client_frame(TEXT, declared=1_048_577, mask=b""), 1009),
            (close_frame(1005), 1002),
        ],
    )
    def test_broken_rules(self, server: WireServer, client: RawSocket, frames: bytes, code: int) -> None:
        """The code is on the wire, then our FIN; what the peer still sends is read and thrown away."""
        client.send(frames)
        assert client.close_code() == code

        client.send(client_frame(TEXT, b"too late") * 1000)

        assert client.ending() == "fin"
        client.socket.close()
        receiver = server.next_receiver()
        assert receiver.next_call("closed") == code
        assert receiver.calls.empty()

    def test_one_megabyte_and_one_byte(self, server: WireServer) -> None:
        """A client that sends it all before it reads still sees 1009, not a reset."""
        with connect(f"ws://127.0.0.1:{server.port}/ws", max_size=None) as ws:
            ws.send(b"x" * 1_048_576)
            assert ws.recv() == b"x" * 1_048_576
            with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012 (the send itself may meet the close)
                ws.send(b"x" * 1_048_577)
                ws.recv()

        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009

    def test_our_code_survives_a_peer_that_goes_on_sending(self, server: WireServer, client: RawSocket) -> None:
        """Megabytes behind the refused message must not turn our Close into a reset."""
        client.text("close 4005 enough")
        client.send(*[client_frame(BINARY, b"x" * 65_536)] * 64, close_frame(1000))

        assert client.close_code() == 4005
        assert client.ending() == "fin"

    def test_no_frame_follows_a_close(self, server: WireServer, client: RawSocket) -> None:
        """A receiver's writes after it closed are dropped, and it gets no more messages."""
        client.send(client_frame(TEXT, b"close then write"), client_frame(TEXT, b"late"), close_frame(1000))
        receiver = server.next_receiver()

        assert client.frame() == (CLOSE, (4000).to_bytes(2, "big"))
        assert client.ending() == "fin"
        client.socket.close()
        assert [receiver.calls.get(timeout=WAIT_S)[0] for _ in range(3)] == ["opened", "text", "closed"]

    def test_after_the_end_every_call_does_nothing(self, server: WireServer, client: RawSocket) -> None:
        """A receiver need not know that its socket is gone."""
        receiver = server.next_receiver()
        client.reset()
        receiver.next_call("closed")
        transport = receiver.transport

        receiver.inside(lambda: transport.write(b"\x81\x00"))
        receiver.inside(lambda: transport.close(4000))
        receiver.inside(transport.pause_reading)
        receiver.inside(transport.resume_reading)
        receiver.inside(transport.abort)
        receiver.inside(wire_of(receiver).shutdown)

        assert receiver.calls.empty()

    def test_messages_after_our_close_are_dropped(self, server: WireServer, client: RawSocket) -> None:
        """The peer's Close is still waited for, and pings go unanswered."""
        client.text("close 4000")
        assert client.close_code() == 4000
        client.send(client_frame(TEXT, b"late"), client_frame(PING), close_frame(4000))
        receiver = server.next_receiver()

        assert client.ending() == "fin"
        client.socket.close()
        assert [receiver.calls.get(timeout=WAIT_S)[0] for _ in range(3)] == ["opened", "text", "closed"]

    def test_close_of_a_socket_that_is_not_read(self, server: WireServer, client: RawSocket) -> None:
        """Closing resumes reading, or the peer's answer would never be seen."""
        client.text("pause")
        receiver = server.next_receiver()
        receiver.next_call("text")

        receiver.inside(lambda: receiver.transport.close(4000))
        assert client.close_code() == 4000
        client.send(close_frame(4000))

        assert client.ending() == "fin"

    @pytest.mark.parametrize("code", [1005, 1006, 1015, 42])
    def test_codes_that_must_not_be_sent(self, server: WireServer, client: RawSocket, code: int) -> None:
        """They are a mistake of the receiver: 1011."""
        client.text(f"close {code}")

        assert client.close_code() == 1011


class TestDeadPeers:
    """Peers that vanish, or stay and say nothing."""

    def test_a_reset_is_1006(self, server: WireServer, client: RawSocket) -> None:
        """No closing handshake."""
        receiver = server.next_receiver()
        client.reset()

        assert receiver.next_call("closed") == 1006

    def test_a_fin_without_a_close_is_1006(self, server: WireServer, client: RawSocket) -> None:
        """The socket is closed in answer."""
        client.finish_writing()

        assert client.ending() == "fin"
        assert server.next_receiver().next_call("closed") == 1006

    def test_an_abort_is_a_reset(self, server: WireServer, client: RawSocket) -> None:
        """Nothing waits for the peer."""
        client.text("abort")

        assert server.next_receiver().next_call("closed") == 1006
        client.ending()

    def test_a_peer_that_never_answers_our_close(self, impatient: WireServer) -> None:
        """It is aborted by the deadline; the receiver is told its own code."""
        with RawSocket(impatient.port) as raw:
            raw.upgrade().text("close 4016")

            assert impatient.next_receiver().next_call("closed") == 4016

    def test_a_peer_that_neither_reads_nor_answers(self, impatient: WireServer) -> None:
        """A half-open socket with a full buffer ends all the same."""
        with RawSocket(impatient.port, receive_buffer_bytes=65_536) as raw:
            raw.upgrade().text("flood 2000")
            receiver = impatient.next_receiver()
            assert receiver.next_call("writable") is False

            receiver.inside(lambda: receiver.transport.close(4016))

            assert receiver.next_call("closed") == 4016

    def test_a_peer_that_closes_and_does_not_read(self, impatient: WireServer) -> None:
        """Its own Close, or its FIN, does not make us wait for a buffer that never drains."""
        for last in ("close", "fin"):
            with RawSocket(impatient.port, receive_buffer_bytes=65_536) as raw:
                raw.upgrade().text("flood 2000")
                receiver = impatient.next_receiver()
                assert receiver.next_call("writable") is False

                if last == "close":
                    raw.send(close_frame(1001))
                else:
                    raw.finish_writing()

                assert receiver.next_call("closed") == (1001 if last == "close" else 1006)


class TestFailures:
    """A receiver that raises costs its own socket, nothing else."""

    @pytest.mark.parametrize("call", ["opened", "text", "binary", "heard", "writable", "closed"])
    def test_1011_and_one_line_in_the_log(
        self, server: WireServer, caplog: pytest.LogCaptureFixture, call: str
    ) -> None:
        """The socket is closed, the error is logged once, the next socket works."""
        with RawSocket(server.port, receive_buffer_bytes=65_536) as raw:
            raw.upgrade(f"/boom/{call}")
            receiver = server.next_receiver()
            poke = {"text": client_frame(TEXT, b"x") * 3, "binary": client_frame(BINARY), "heard": client_frame(PING)}
            poke |= {"writable": client_frame(TEXT, b"flood 2000"), "closed": close_frame(1000)}
            if call in poke:
                raw.send(poke[call])
            if call == "writable":
                receiver.next_call("writable")  # before a byte is read, or the buffer may never pass its mark
            assert raw.close_code() == (1000 if call == "closed" else 1011)
        assert receiver.next_call("closed") == (1000 if call == "closed" else 1011)

        with RawSocket(server.port) as raw:
            raw.upgrade().text("fine")
            assert raw.frame() == (TEXT, b"fine")
        failures = [record for record in caplog.records if record.name == "hub.websocket.protocol"]
        assert [record.levelno for record in failures] == [logging.ERROR]


class TestShutdown:
    """Uvicorn's graceful shutdown."""

    @pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
    def test_receivers_drain_and_the_server_ends(self, loop: str) -> None:
        """Each receiver is told, closes with 1012, and uvicorn waits for the sockets to end."""
        with wire_server(loop=loop) as wire, RawSocket(wire.port) as raw:
            raw.upgrade()
            receiver = wire.next_receiver()
            assert wire.live == 1

            wire.stop()

            assert raw.close_code() == 1012
            raw.send(close_frame(1012))
            assert raw.ending() == "fin"
            raw.socket.close()
            assert [receiver.calls.get(timeout=WAIT_S)[0] for _ in range(3)] == ["opened", "draining", "closed"]

    def test_a_receiver_that_fails_to_drain(self) -> None:
        """Its socket is closed with 1011 instead of holding the server up."""
        with wire_server() as wire, RawSocket(wire.port) as raw:
            raw.upgrade("/boom/draining")
            wire.next_receiver()

            wire.stop()

            assert raw.close_code() == 1011

    def test_ended_sockets_are_forgotten(self, server: WireServer, client: RawSocket) -> None:
        """Nothing of them is left for uvicorn to wait for."""
        receiver = server.next_receiver()
        before = server.live
        client.reset()
        receiver.next_call("closed")

        assert server.live == before - 1


class TestDeflate:
    """Compression is for those who ask, where the server was told to."""

    def test_off_unless_switched_on(self, server: WireServer) -> None:
        """The `websockets` client offers it always."""
        with connect(f"ws://127.0.0.1:{server.port}/ws", compression="deflate") as ws:
            assert ws.protocol.extensions == []

    def test_messages_go_compressed_both_ways(self) -> None:
        """Long and short, text and binary; and a bomb is refused at the limit."""
        with wire_server(is_deflate_accepted=True) as wire:
            with connect(f"ws://127.0.0.1:{wire.port}/ws", compression="deflate", max_size=None) as ws:
                assert [extension.name for extension in ws.protocol.extensions] == ["permessage-deflate"]
                for size in (0, 5, 5000, 1_048_576):
                    ws.send("a" * size)
                    assert ws.recv() == "a" * size
                    ws.send(b"b" * size)
                    assert ws.recv() == b"b" * size
                ws.send("a" * 1_048_577)
                with pytest.raises(ConnectionClosedError, match="1009"):
                    ws.recv()
            with RawSocket(wire.port) as raw:
                assert "extensions" not in raw.request()[1]

    @pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
    def test_a_read_of_bombs_waits_until_the_receiver_takes_more(self, loop: str) -> None:
        """Thirty messages of a megabyte fit into one read. A receiver that pauses has got the first, and no other."""
        squeezer = zlib.compressobj(wbits=-15)
        squeezed = squeezer.compress(bytes(1_000_000)) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        bomb = client_frame(BINARY, squeezed[:-4], reserved=4)
        with wire_server(is_deflate_accepted=True, loop=loop) as wire, RawSocket(wire.port) as raw:
            assert "permessage-deflate" in raw.request(changed={"sec-websocket-extensions": "permessage-deflate"})[1]
            receiver = wire.next_receiver()
            raw.send(client_frame(TEXT, b"pause") + bomb * 30 + client_frame(TEXT, b"end"))
            receiver.next_call("binary")
            for _ in range(10):  # ticks of the server's loop
                receiver.inside(lambda: None)
            assert "binary" not in [call for call, _ in receiver.calls.queue]

            receiver.inside(receiver.transport.resume_reading)
            for _ in range(29):
                assert receiver.next_call("binary") == bytes(1_000_000)
            assert receiver.next_call("text") == b"end"

    @pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
    def test_a_close_is_found_behind_a_read_of_bombs(self, loop: str) -> None:
        """We close while messages wait that were read already: they are thrown away, and the ending is clean."""
        squeezer = zlib.compressobj(wbits=-15)
        squeezed = squeezer.compress(bytes(1_000_000)) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        bomb = client_frame(BINARY, squeezed[:-4], reserved=4)
        with wire_server(is_deflate_accepted=True, loop=loop, close_timeout_s=120) as wire, RawSocket(wire.port) as raw:
            raw.request(changed={"sec-websocket-extensions": "permessage-deflate"})
            raw.send(client_frame(TEXT, b"pause") + bomb * 30 + close_frame(1000))
            receiver = wire.next_receiver()
            receiver.next_call("binary")
            receiver.inside(lambda: receiver.transport.close(4000))

            assert raw.close_code() == 4000
            assert raw.ending() == "fin"
            raw.finish_writing()  # or the server waits for it until its deadline
            assert receiver.next_call("closed") == 4000


class TestTls:
    """TLS cannot half-close, so the ending is another."""

    @pytest.fixture(scope="class")
    @classmethod
    def certificate(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
        return self_signed(tmp_path_factory.mktemp("tls"))

    @pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
    async def test_messages_and_codes_arrive(self, certificate: Certificate, loop: str) -> None:
        """Whoever closes, and when a message is too large. (The client's one thread: two share no TLS session well.)"""
        trusting = ssl.create_default_context(cafile=certificate.certificate)
        with wire_server(loop=loop, certificate=certificate) as wire:
            url = f"wss://127.0.0.1:{wire.port}/ws"
            async with async_connect(url, ssl=trusting) as ws:
                await ws.send("x" * 500_000)
                assert await ws.recv() == "x" * 500_000
                await ws.send("close 4001")
                with pytest.raises(ConnectionClosedError, match="4001"):
                    await ws.recv()
            async with async_connect(url, ssl=trusting) as ws:
                with pytest.raises(ConnectionClosedError, match="1009"):  # noqa: PT012 (the send may meet it)
                    await ws.send(b"x" * 2_000_000)
                    await ws.recv()
            async with async_connect(url, ssl=trusting) as ws:
                await ws.close(4123)

            assert [wire.next_receiver().next_call("closed") for _ in range(3)] == [4001, 1009, 4123]


def wire_of(receiver: Recorder) -> LeanWebSocket:
    """The protocol object behind a receiver's transport."""
    assert isinstance(receiver.transport, LeanWebSocket)
    return receiver.transport


def test_an_idle_socket_is_two_small_objects(server: WireServer, client: RawSocket) -> None:
    """Protocol and decoder: no dictionary, no buffer, no timer; far below a kilobyte."""
    receiver = server.next_receiver()
    receiver.next_call("opened")
    wire = wire_of(receiver)

    assert not hasattr(wire, "__dict__")
    assert (wire._next, wire._owed_pong) == (None, None)
    assert sys.getsizeof(wire) + sys.getsizeof(wire._decoder) + sys.getsizeof(wire.write) < 512
