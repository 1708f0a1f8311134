"""`hub doctor` on wrong servers: one line that says what to do, and exit code 1; `hub serve` never ends in a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from redis import Redis

from ops.cli import main
from ops.cli.redis_checks import clock_finding
from streams.errors import ConfigurationRefused
from streams.redis.durability import ServerFacts
from streams.redis.keys import CONFIG, MOVING, spread_tags
from streams.redis.server_check import check_facts
from support.redis_server import RedisServer

SECRET = "a secret of more than thirty-two characters"
Told = tuple[int, dict[str, str], str]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server with an append-only file, whose settings the tests change and restore."""
    server = RedisServer(is_persistent=True, on_port=True)
    yield server
    server.close()


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    """A client of it."""
    with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command: its exit code, the failures by name, and standard error."""
    monkeypatch.setenv("HUB_JWT_SECRET", SECRET)

    def command(url: str, *words: str) -> Told:
        monkeypatch.setenv("REDIS_URL", url)
        with pytest.raises(SystemExit) as ended:
            main([*words])
        out, err = capsys.readouterr()
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return int(ended.value.code or 0), {f["what"]: f["text"] for f in found if f["level"] == "fail"}, err

    return command


def doctor(run, url: str) -> tuple[int, dict[str, str]]:
    code, failures, _ = run(url, "doctor", "--redis", url, "--url", "http://127.0.0.1:1")
    return code, failures


def test_a_good_server_has_no_failure(run, server: RedisServer) -> None:
    """With an append-only file, all rights, and one clock."""
    assert doctor(run, server.url) == (0, {})


def test_an_evicting_server(run, server: RedisServer, redis: Redis) -> None:
    """The setting, and its right value; a node does not start either."""
    redis.config_set("maxmemory-policy", "allkeys-lru")
    code, failures = doctor(run, server.url)
    served = run(server.url, "serve", "--port", "0")
    redis.config_set("maxmemory-policy", "noeviction")

    assert code == 1
    assert "CONFIG SET maxmemory-policy noeviction" in failures["redis"]
    assert served[0] == 1
    assert "Traceback" not in served[2]


def test_a_server_without_an_append_only_file(run, server: RedisServer, redis: Redis) -> None:
    """It works until it is restarted."""
    redis.config_set("appendonly", "no")
    code, failures = doctor(run, server.url)
    redis.config_set("appendonly", "yes")

    assert code == 1
    assert "appendonly yes" in failures["aof"]


def test_a_replica(run, server: RedisServer, redis: Redis) -> None:
    """It reads, and would refuse every write."""
    redis.replicaof("127.0.0.1", "1")
    code, failures = doctor(run, server.url)
    redis.replicaof("NO", "ONE")

    assert code == 1
    assert "point REDIS_URL at its master" in failures["redis away"]


def test_a_user_without_rights(run, server: RedisServer, redis: Redis) -> None:
    """The rules that are missing; nothing is written to find out."""
    redis.acl_setuser(
        "narrow", enabled=True, passwords=["+secret"], keys=["hub:*"], commands=["+@all", "-xadd", "-zrangebylex"]
    )
    before = redis.dbsize()
    code, failures = doctor(run, server.url.replace("://", "://narrow:secret@"))
    redis.acl_setuser("narrow", keys=[], reset_keys=True)
    blind = doctor(run, server.url.replace("://", "://narrow:secret@"))
    redis.acl_setuser("narrow", enabled=True, passwords=["+secret"], keys=["hub:*"], commands=["+@all", "-discard"])
    stuck = doctor(run, server.url.replace("://", "://narrow:secret@"))

    assert code == 1
    assert (stuck[0], list(stuck[1])) == (1, ["acl"])
    assert failures["acl"].endswith("+xadd +zrangebylex")
    assert (blind[0], redis.dbsize()) == (1, before)


@pytest.mark.parametrize("command", ["doctor", "serve", "worker"])
@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("redis+cluster://{}", "does not belong to a Cluster"),
        ("redis+sentinel://{}/main", "Sentinel"),
        ("redis+cluster://{}/name", "redis+cluster://"),
        ("redis://:wrong@{}", "could not be reached"),
    ],
)
def test_a_url_of_another_kind(run, server: RedisServer, command: str, form: str, says: str) -> None:
    """Each command says so in one line, and ends with 1 or 2."""
    url = form.format(server.url.partition("://")[2].partition("/")[0])
    port = ("--port", "0") if command == "serve" else ()
    words = ("doctor", "--redis", url) if command == "doctor" else (command, "--no-wait", *port)
    code, failures, err = run(url, *words)

    assert code in {1, 2}
    assert "Traceback" not in err
    assert says in f"{failures} {err}"


def test_clocks_that_differ() -> None:
    """Of servers among themselves, and of this machine."""
    assert clock_finding({"": 300}).level == "ok"
    assert clock_finding({"a: ": -1_500, "b: ": 1_500}).level == "fail"
    assert "NTP" in clock_finding({"": 5_000}).text


def test_a_server_that_is_too_old() -> None:
    """Its commands are missing; nothing older than 6.2 is here to be started."""
    facts = ServerFacts((6, 0, 16), "id", False, True, 0, "noeviction", False, 0, 0, False, "standalone")
    with pytest.raises(ConfigurationRefused, match=r"Redis 6\.2 or newer is needed"):
        check_facts(facts)


COMMANDS = ("doctor", "serve", "worker")


@pytest.fixture
def told(run, server: RedisServer):
    """Runs each of the commands on the server: one line says what to do, and the exit code is 1 or 2."""

    def commands(says: str, names: tuple[str, ...] = COMMANDS) -> None:
        for name in names:
            port = ("--port", "0") if name == "serve" else ()
            words = ("doctor", "--redis", server.url) if name == "doctor" else (name, "--no-wait", *port)
            code, failures, err = run(server.url, *words)
            assert code in {1, 2}, name
            assert "Traceback" not in err, err
            assert says in f"{failures} {err}", name

    return commands


def test_another_number_of_partitions(told, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that the log was begun with; and a move to others that was cut off."""
    redis.hset(CONFIG, mapping={"partitions": 16, "tags": " ".join(spread_tags(16))})
    told("16")
    redis.hset(CONFIG, MOVING, "{}")
    monkeypatch.setenv("HUB_PARTITIONS", "16")
    told("hub repartition")
    redis.delete(CONFIG)


def test_a_replica_is_no_place_for_a_node_or_a_worker(told, redis: Redis) -> None:
    """They would be refused every write."""
    redis.replicaof("127.0.0.1", "1")
    told("its master")
    redis.replicaof("NO", "ONE")


def test_a_place_for_jobs_that_does_not_answer(told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker starts and says so until it is there; `hub doctor` fails."""
    monkeypatch.setenv("HUB_JOBS_REDIS_URL", "redis://127.0.0.1:1")
    told("could not be reached", ("doctor",))
