"""The keys that scripts touch, as MONITOR shows them, compared with those that their callers declare.

A server that refuses undeclared keys whatever their slot, as Dragonfly does by default, would refuse these scripts.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from redis import Redis
from redis.exceptions import ResponseError

from streams.redis.log import Log
from streams.redis.scripts import read_script
from support.filled_log import WAITING, fill
from support.redis_server import RedisServer

PACKAGES = ("streams.redis.scripts", "streams.records.scripts")
DERIVED = {
    "append": (
        r"hub:\{p[^}]+\}:acme:channels:\w+",  # the directory, from the channel's key
        r"hub:\{p[^}]+\}:acme:guard:run:.*",  # the hash of a run that the new event's ID names
        r"hub:\{p[^}]+\}:acme:conversation:\w+",  # the events of a channel whose live lane begins
    )
}
"""By script, the keys that it derives from declared ones, in the same slot; declaring them would cost every append."""
OPENING = re.compile(r'^[\d.]+ \[\d+ (?P<by>\S+)\] (?P<words>".*)$')
CALL = re.compile(r"redis\.p?call\('(?:(?:XINFO|XGROUP)', '\w+|\w+)', *([\w\[\]]+)")


def keys_are_given(text: str) -> bool:
    """True if every command of a script names KEYS, or a local name of one."""
    local = set(re.findall(r"local (\w+) = KEYS\[\d+\]", text)) | set(
        re.findall(r"for _, (\w+) in ipairs\(KEYS\)", text)
    )
    for names, values in re.findall(r"local ([\w, ]+) = ((?:KEYS\[\d+\](?:, )?)+)\n", text):
        local |= set(names.split(", ")[: values.count("KEYS")])
    return all(key.startswith("KEYS[") or key in local for key in CALL.findall(text))


class Watching:
    """Collects, from MONITOR, the keys of each script's commands that were not declared."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._names: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        for package in PACKAGES:
            for file in files(package).iterdir():
                if file.name.endswith(".lua"):
                    script = read_script(package, file.name.removesuffix(".lua"))
                    self._names[script.digest.decode()] = script.name
                    self.texts[script.name] = script.text.decode()
        self.undeclared: dict[str, set[str]] = defaultdict(set)
        self.seen: set[str] = set()
        self._name, self._declared = "", set[str]()

    @property
    def names(self) -> set[str]:
        """The names of all scripts."""
        return set(self._names.values())

    def take(self, by: str, words: list[str]) -> None:
        """Take one command, of a client or of a script."""
        if words[0].upper() in {"EVALSHA", "EVAL"}:
            begins = words[1].removeprefix("-- ").partition(":")[0]  # a script's text begins with its name
            self._name = self._names.get(words[1], begins)
            self._declared = set(words[3 : 3 + int(words[2])])
            self.seen.add(self._name)
        elif by == "lua":
            with suppress(ResponseError):  # a command without keys, such as TIME
                keys = self._redis.command_getkeys(*words)
                found = {key.decode() if isinstance(key, bytes) else key for key in keys}
                self.undeclared[self._name] |= found - self._declared


async def test_scripts_touch_declared_keys(lone_redis: RedisServer, tmp_path: Path) -> None:
    """But for those named above."""
    lines: list[str] = []
    with (
        Redis.from_url(lone_redis.url) as redis,
        Redis.from_url(lone_redis.url) as listening,
        listening.monitor() as told,
    ):

        def listen() -> None:
            while not lines or not lines[-1].endswith('"ECHO" "over"'):
                lines.append(told.connection.read_response().decode())

        thread = threading.Thread(target=listen)
        thread.start()
        log = await Log.open(lone_redis.url)
        await fill(log, tmp_path)
        await log.look(WAITING)
        await log.close()
        redis.echo("over")
        thread.join()
        watching = Watching(redis)
        for line in lines:
            parts = OPENING.match(line)
            assert parts is not None, line
            watching.take(parts["by"], split(parts["words"]))

    for name in watching.names - watching.seen:  # they were not run here
        assert keys_are_given(watching.texts[name]), name
    assert {"append", "look", "page", "presence", "lease", "process_lease", "run_turn", "park", "ack"} <= watching.seen
    assert watching.undeclared["append"]
    for name, keys in watching.undeclared.items():
        for key in keys:
            assert any(re.fullmatch(one, key) for one in DERIVED.get(name, ())), (name, key)


def split(text: str) -> list[str]:
    """The words of a line of MONITOR, without quotes and escapes."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    return [word.encode().decode("unicode_escape") if "\\" in word else word for word in found]
