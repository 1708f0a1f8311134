"""Every example runs as its head says, against a real `hub dev`; the page in a real browser."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from support.chromium import running_chromium
from support.hub_process import Server, clean_environment
from support.nodes import free_socket
from support.socket_client import raw_client

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed: pip install '.[pydantic-ai]'")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the server is killed")]

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 150.0
TRIED = {
    "own_agent.py", "approval_agent.py", "bot.py", "embedding.py", "chat.html", "curl.sh", "redis_tour.sh", "audit_tour.sh",
}  # fmt: skip # a table


class Running:
    """A hub with the agents of the examples, the folder it runs on, and a web server for the page."""

    def __init__(self, folder: Path) -> None:
        with free_socket() as bound:
            self.page_port = bound.getsockname()[1]
        self.folder = folder
        self.server = Server(
            "dev", "--port", "0", "--data", str(folder),
            env={
                "HUB_AGENTS": "dice=own_agent:run,mailer=approval_agent:agent",
                "PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parent}",
                "HUB_ALLOWED_ORIGINS": f"http://127.0.0.1:{self.page_port}",
            },
        )  # fmt: skip # many arguments
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        command = bin_folder / "hub"
        command.write_text(f"#!{sys.executable}\nfrom ops.cli import main\nmain()\n")
        command.chmod(0o755)
        self.env = clean_environment(
            HUB_DATA=str(folder), PYTHONPATH=str(EXAMPLES.parent), PATH=f"{bin_folder}:{os.environ['PATH']}"
        )
        self.env |= {"HUB_URL": self.server.url}

    def token(self, user: str) -> str:
        """A token that may do everything in conversations."""
        return self.run("hub", "token", "--user", user, "--tenant", "acme", "--grant", "conversation:*=*").strip()

    def run(self, *command: str, **more: str) -> str:
        """The output of a command that ends well."""
        done = subprocess.run(
            command, check=False, env=self.env | more, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip # many arguments
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("examples"))
    yield running
    running.server.process.terminate()
    running.server.process.communicate(timeout=PATIENCE_S)


def test_every_example_is_tried_here() -> None:
    """And named in the index."""
    there = {file.name for file in EXAMPLES.iterdir() if file.suffix in {".py", ".sh", ".html"}}
    index = (EXAMPLES / "README.md").read_text()

    assert there == TRIED
    assert [name for name in there if f"]({name})" not in index] == []


def test_the_own_agent_answers(running: Running) -> None:
    """As many dice as were asked for."""
    out = running.run("hub", "ask", "--agent", "dice", "roll 3 dice")

    assert re.fullmatch(r"([1-6] ){3}— good luck!\n", out)


def test_the_agent_with_an_approval(running: Running) -> None:
    """Its tool runs once it is approved."""
    out = running.run("hub", "ask", "--agent", "mailer", "--yes", "--channel", "conversation:mail", "invite bob")

    assert out == "Done: mail sent to bob@example.com\n"


def test_the_bot_answers_each_message_once(running: Running) -> None:
    """Killed and started again, too; the room has another ping in it then."""
    token = running.token("bot")
    for _ in range(2):
        running.run("hub", "send", "conversation:demo", "ping")
        bot = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "bot.py")], cwd=running.folder, env=running.env | {"HUB_TOKEN": token}
        )
        try:
            running.run("hub", "send", "conversation:demo", "ping")
            _until_pongs(running, token)
        finally:
            bot.kill()
            bot.wait()

    texts = _texts(running, token)
    assert texts.count("ping") == texts.count("pong") == 4


def _texts(running: Running, token: str, wait_after: str = "") -> list[str]:
    url = f"{running.server.url}/v1/channels/conversation:demo/events"
    params = {"after": wait_after or "0", "types": "chat.message", "limit": "1000"}
    got = httpx.get(url, params=params, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S).json()
    return [event["payload"]["text"] for event in got["events"]]


def _until_pongs(running: Running, token: str) -> None:
    """As many as pings; each look waits for what comes next."""
    while (texts := _texts(running, token)).count("pong") < texts.count("ping"):
        running.run("hub", "tail", "conversation:demo", "--after", "0", "--count", str(len(texts)))


def test_curl(running: Running) -> None:
    """Stored once, read, followed."""
    out = running.run("bash", str(EXAMPLES / "curl.sh"), HUB_TOKEN=running.token("alice"))

    assert out.count('"duplicate":') == 2
    assert re.search(r"^id: ?\d+-\d+$", out, re.MULTILINE)
    assert re.search(r'^data: ?\{.*"hello from curl"', out, re.MULTILINE)


@pytest.mark.long
def test_the_operators_tour(running: Running) -> None:
    """The key, the entry, the policy, the doctor."""
    out = running.run("bash", str(EXAMPLES / "redis_tour.sh"))

    assert "acme:conversation:tour" in out
    assert "seen from Redis" in out
    assert "noeviction" in out


@pytest.mark.long
def test_the_auditors_tour(running: Running) -> None:
    """Both versions of the promise are there, and the log is whole."""
    out = running.run("bash", str(EXAMPLES / "audit_tour.sh"))

    assert "alice: We pay 100" in out
    assert '"We pay 10"' in out


@contextlib.contextmanager
def _embedding(redis_url: str, folder: Path) -> Iterator[str]:
    """The application that has the hub in it."""
    with free_socket() as bound:
        port = bound.getsockname()[1]
    env = clean_environment(REDIS_URL=redis_url, HUB_DATA=str(folder), PYTHONPATH=str(EXAMPLES.parent))
    command = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "--timeout-graceful-shutdown", "5", "--port", str(port)]
    serving = subprocess.Popen([sys.executable, *command, "embedding:app"], env=env, stderr=subprocess.PIPE, text=True)
    assert serving.stderr is not None
    told = ""
    while "Uvicorn running" not in told and (line := serving.stderr.readline()):
        told += line
    try:
        assert "Uvicorn running" in told, told
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.kill()
        serving.communicate()


async def test_the_hub_in_an_application(redis_url: str, tmp_path: Path) -> None:
    """The cookie of its login opens a socket under the prefix, and what the application tells arrives there once."""
    with _embedding(redis_url, tmp_path) as url:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
            await http.post(f"{url}/login/carol")
            cookie = {"Cookie": f"session={http.cookies['session']}"}
            async with raw_client(f"{url.replace('http', 'ws')}/realtime/ws", additional_headers=cookie) as socket:
                await socket.send("connection.init", {"versions": [1]})
                await socket.expect("channel.subscribed")
                stored = [(await http.post(f"{url}/orders/7?user=carol")).json()["seq"] for _ in range(2)]
                told = await socket.expect("team.notification")
            refused = await http.get(f"{url}/realtime/v1/channels/conversation:1/events", headers={"Cookie": ""})

    assert stored == [1, 1]
    assert (told["channel"], told["payload"]["title"]) == ("user:carol", "Order 7 is on its way")
    assert refused.status_code == 401


@contextlib.contextmanager
def _served(running: Running) -> Iterator[str]:
    """The folder of the examples on the origin that the hub allows."""
    serving = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(running.page_port), "--bind", "127.0.0.1", "-d", str(EXAMPLES)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=running.env | {"PYTHONUNBUFFERED": "1"}, text=True,
    )  # fmt: skip # many arguments
    assert serving.stdout is not None
    assert "Serving" in serving.stdout.readline()
    try:
        yield f"http://127.0.0.1:{running.page_port}"
    finally:
        serving.kill()
        serving.communicate()


@pytest.mark.long
async def test_the_page_chats(running: Running) -> None:
    """A message and an agent's answer stand in a browser, as text and word by word."""
    with _served(running) as origin:
        async with running_chromium() as browser:
            page = await browser.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.goto(f"{origin}/chat.html#hub={running.server.url}&token={running.token('alice')}")
            await expect(page.locator("#state")).to_have_text("ready")
            await page.fill("input", "<b>hello</b>")
            await page.keyboard.press("Enter")
            await expect(page.locator("li").last).to_have_text("alice: <b>hello</b>")
            await page.fill("input", "@demo help")
            await page.keyboard.press("Enter")
            await page.wait_for_function(
                "document.querySelector('ol').lastChild.textContent.startsWith('demo: I answer')"
            )
            growing = await page.locator("li").last.text_content()
            await expect(page.locator("li").last).to_contain_text("export (asks you first)", timeout=30_000)

    assert problems == []
    assert growing is not None
    assert "asks you first" not in growing
