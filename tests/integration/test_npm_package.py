"""The JavaScript client as an npm package: packed from the tree, installed into an empty project, compiled strictly, run."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.scripted_hub import scripted_hub

PACKAGE = Path(__file__).parents[2] / "hub/client_js"
NEEDED = ("typescript@7", "react@18", "@types/react@18", "@types/node@20", "react-test-renderer@18")
INSTALL_S = 150
pytestmark = pytest.mark.slow

TSCONFIG = {
    "compilerOptions": {
        "strict": True, "noEmit": True, "module": "nodenext", "target": "es2022", "lib": ["es2023", "dom", "dom.iterable"],
        "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True, "types": ["node"], "skipLibCheck": False,
    },
    "files": ["good.ts"],
}  # fmt: skip # a table
GOOD = """
import { AnswerFailed, HubClient, HubError, IndexedDbOutbox, LocalCursors, answers, type Cursor, type Item } from "realtime-hub";
import { useAnswer, useChannel, useHub } from "realtime-hub/react";

const stores = { cursors: new LocalCursors("x:"), outbox: new IndexedDbOutbox("x") };
const hub = new HubClient("https://hub.example", async () => "token", stores);
hub.addEventListener("state", ({ detail: { state, delayMs } }) => console.log(state === "ready", delayMs?.toFixed()));
hub.addEventListener("error", ({ detail: { error } }) => console.log(error instanceof HubError && error.code + 1));

export async function read(): Promise<Cursor | undefined> {
  const subscription = hub.subscribe("conversation:1", { rewind: 3 });
  for await (const item of subscription) {
    if (item.kind === "event") console.log(item.event.seq.toFixed(), item.replayed);
    else if (item.kind === "gap") console.log(item.from_seq?.toFixed(), item.head.id);
    else if (item.kind === "receipt") return item.cursor;
  }
  return subscription.cursor;
}

export async function ask(): Promise<string> {
  const asked = await hub.command("chat.message", "conversation:1", { text: "x", agent: "demo" });
  let newest = "";
  try {
    for await (const text of answers(hub, "conversation:1", asked)) newest = text.toUpperCase();
  } catch (error) {
    if (error instanceof AnswerFailed) console.log(error.outcome);
  }
  const file = await hub.upload("conversation:1", new Blob(["x"]), { filename: "x", onProgress: (sent, total) => sent / total });
  return newest + file.file_id;
}

export function Talk(): string {
  const { hub: client, state } = useHub("https://hub.example", "token");
  const count = useChannel(client, "conversation:1", (old: number, item: Item) => old + (item.kind === "event" ? 1 : 0), 0);
  return state + count.toFixed() + useAnswer(client, "conversation:2", null).text;
}
"""
BAD = {
    "no such option": 'new HubClient("u", "t", { cursor: 1 });',
    "no such item": 'for await (const item of hub.subscribe("x:1")) if (item.kind === "evnt") console.log(item);',
    "a state is none": "const state: number = hub.state; console.log(state);",
    "no such hook": 'import { useNothing } from "realtime-hub/react"; useNothing();',
}
REACT = """
import { createElement } from "react";
import renderer from "react-test-renderer";
import { useChannel, useHub } from "realtime-hub/react";

globalThis.IS_REACT_ACT_ENVIRONMENT = false;
let told = "";
function Talk() {
  const { hub, state } = useHub(process.argv[2], "good");
  const fold = (old, item) => (item.kind === "event" ? [...old, item.event.payload.text] : old);
  const texts = useChannel(hub, "conversation:1", fold, [], { after: "0" });
  const now = `${state}: ${texts.join(" ")}`;
  if (now !== told) console.log((told = now));
  return createElement("p", null, now);
}
const root = renderer.create(createElement(Talk));
process.stdin.once("data", () => root.unmount()); // then nothing is left that keeps the process
process.stdin.once("data", () => process.stdin.unref());
"""


def run(*command: str, folder: Path, limit_s: float = INSTALL_S) -> subprocess.CompletedProcess[str]:
    """Runs a program there."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project with the packed client in it."""
    if shutil.which("npm") is None:
        pytest.skip("NOT TESTED: there is no npm here")
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    packed = run("npm", "pack", "--silent", str(PACKAGE), folder=folder)
    assert packed.returncode == 0, packed.stderr
    installed = run(
        "npm", "install", "--no-audit", "--no-fund", f"./{packed.stdout.split()[-1]}", *NEEDED, folder=folder
    )
    if installed.returncode and re.search("ENOTFOUND|ETIMEDOUT|ECONNREFUSED|EAI_AGAIN|network", installed.stderr):
        pytest.skip("NOT TESTED: the npm registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    (folder / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    (folder / "good.ts").write_text(GOOD)
    return folder


def test_a_strict_project_compiles(project: Path) -> None:
    """Strict TypeScript takes what is right, with every flag that finds more."""
    found = run("npx", "tsc", "-p", ".", folder=project)

    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("wrong", BAD)
def test_a_wrong_use_does_not_compile(project: Path, wrong: str) -> None:
    """The types are not `any`: each mistake is one error."""
    (project / "bad.ts").write_text(
        f'import {{ HubClient }} from "realtime-hub";\nconst hub = new HubClient("u", "t");\n{BAD[wrong]}\n'
    )
    (project / "bad.json").write_text(json.dumps(TSCONFIG | {"files": ["bad.ts"]}))
    found = run("npx", "tsc", "-p", "bad.json", folder=project)

    assert found.stdout.count("error TS") == 1, found.stdout
    assert found.stdout.startswith("bad.ts(3,")


@pytest.mark.parametrize("module", ["realtime-hub", "realtime-hub/react"])
def test_the_types_name_what_is_exported(project: Path, module: str) -> None:
    """Each export has a type, and each class or function of the types is exported."""
    found = run(
        "node", "-e", f'import("{module}").then((all) => console.log(Object.keys(all).join(" ")))', folder=project
    )
    types = (PACKAGE / ("hub.d.ts" if module == "realtime-hub" else "hub/react.d.ts")).read_text()

    assert found.stdout.split() == sorted(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))


def test_the_package_holds_what_it_needs(project: Path) -> None:
    """Modules and types, and no file of another language or of the tests."""
    held = project / "node_modules/realtime-hub"
    names = {str(path.relative_to(held)) for path in held.rglob("*") if path.is_file()}
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.name.endswith((".js", ".d.ts"))}

    assert names == modules | {"package.json", "README.md"}


async def test_hooks_show_a_channel(project: Path) -> None:
    """A component sees the connection and the events, and leaves nothing behind when it goes."""
    (project / "talk.mjs").write_text(REACT)
    async with scripted_hub() as hub:
        hub.hub.append("conversation:1", "one")
        node = await asyncio.create_subprocess_exec("node", "talk.mjs", hub.url, cwd=project, stdin=-1, stdout=-1)
        assert node.stdin is not None
        assert node.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(60):
            while "ready: one" not in lines:
                lines.append((await node.stdout.readline()).decode().strip())
            hub.hub.append("conversation:1", "two")
            hub.push()
            while "ready: one two" not in lines:
                lines.append((await node.stdout.readline()).decode().strip())
            node.stdin.write(b"go\n")
            await node.stdin.drain()
            node.stdin.close()
            code = await node.wait()

    assert lines[0] == "offline:"
    assert code == 0
