"""The commands of the runbooks, run as an operator would, on a hub with the users of Redis that are shipped."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.client import HubClient
from support.certificate import self_signed
from support.hub_process import Server
from support.nodes import ALL, SECRET, token
from support.redis_place import ROOT, Place

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the servers are killed")]

PAGES = sorted((ROOT / "docs/operating/runbooks").glob("*.md"))
COMMAND = re.compile(r"`((?:hub|redis-cli|curl|openssl) [^`\n]+)`")
SERVES = re.compile(r"hub (?:serve|worker) ")
ARCHIVE = re.compile(
    r"hub (?:restore|archive|audit verify --all)\b"
)  # tests/integration/test_restore.py follows that page
AT_ONCE = 4


def commands() -> list[str]:
    """The commands of all pages, each once."""
    return sorted({command for page in PAGES for command in COMMAND.findall(page.read_text(encoding="utf-8"))})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


async def test_every_command_runs_as_written(place: Place, tmp_path: Path) -> None:
    """With the words in capitals replaced; of commands that serve, the options exist."""
    node = Server("serve", "--host", "127.0.0.1", "--port", "0", env=place.hub("node", HUB_JWT_SECRET=SECRET))
    try:
        async with HubClient(node.url, token("alice", "acme", ALL)) as hub:
            await hub.send("conversation:1", "hello")
        words = {
            "CHANNEL": "conversation:1",
            "TENANT": "acme",
            "NODE": node.url.removeprefix("http://"),
            "ID": "all",
            "BYTES": "1000000000",
            "FILE": str(self_signed(tmp_path).certificate),
        }
        env = place.hub("node", HUB_JWT_SECRET=SECRET) | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "REDIS_URL": (place.secrets / "redis_url_node").read_text().strip(),
            "REDIS_ADMIN_URL": (place.secrets / "redis_url_admin").read_text().strip(),
        }
        del env["REDIS_URL_FILE"]
        turns = asyncio.Semaphore(AT_ONCE)

        async def run(command: str) -> tuple[str, str]:
            written = re.sub(r"\b(?:" + "|".join(words) + r")\b", lambda found: words[found[0]], command)
            if SERVES.match(command):
                written = re.sub(r"(--\S+) [A-Z]+", r"\1 1", command) + " --help"
            async with turns, asyncio.timeout(60):
                shell = ("bash", "-euo", "pipefail", "-c", written)
                process = await asyncio.create_subprocess_exec(*shell, env=env, cwd=tmp_path, stdout=-1, stderr=-2)
                said = (await process.communicate())[0].decode()
            is_refused = process.returncode or re.search(r"^\(error\)|NOPERM|NOAUTH|WRONGPASS", said, re.MULTILINE)
            return command, said if is_refused else ""

        asked = [command for command in commands() if not ARCHIVE.match(command)]
        failed = {command: said for command, said in await asyncio.gather(*map(run, asked)) if said}
    finally:
        node.process.terminate()
        node.process.communicate(timeout=50)

    assert len(asked) > 15
    assert failed == {}
