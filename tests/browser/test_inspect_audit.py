"""The inspect page for an auditor whose channel is in Redis and in the archive: a search over both, and the verify button."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Route, expect

from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from support.archive_rig import SIGNER, keeper, write
from support.chromium import chromium_path
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.views import check_view, inspected

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]
EVENTS, HOT = 300, 50


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def archived(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Node, Path]]:
    """A node on a Redis of its own, whose archive is in this folder."""
    chromium_path()
    data, server = tmp_path_factory.mktemp("data"), RedisServer()
    (data / "archive").mkdir()
    (data / "audit.key").write_text(str(SIGNER))
    async with running_node(server.url, data_dir=str(data)) as node:
        yield node, data
    server.close()


async def test_a_search_and_a_verification_reach_into_the_archive(
    archived: tuple[Node, Path], context: BrowserContext, tenant: str
) -> None:
    """By text, actor, type and time; the result of the verification is a sentence, and another one once a bit has flipped."""
    node, data = archived
    channel: Channel = parse_channel(tenant, "conversation:demo")
    await write(node.hub.log, channel, EVENTS)
    await node.hub.log.append(Draft(channel, "custom.noted", b'{"note":"\\u00fcber"}', Actor("user", "bob")))
    await keeper(node.hub.log, data / "archive", f"{tenant}/*=hot_count:{HOT}").turn()
    watched = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "view=channels")
    page = watched.page
    await expect(page.locator("#found")).to_contain_text("cold to 251, then hot")
    await check_view(page, "inspect-channels-archive")
    await page.get_by_role("link", name="conversation:demo").click()
    await expect(page.locator("#count")).to_have_text("301 of 301 loaded events")

    async def search(said: str, **fields: str) -> None:
        for label in ("Type", "Actor", "Text", "From (UTC)", "To (UTC)"):
            await page.get_by_label(label, exact=True).fill(fields.get(label, ""))
        await page.get_by_role("button", name="Search all").click()
        await expect(page.locator("#count")).to_have_text(said)

    await search("11 found; searched everything", Text="HELLO 17")
    await expect(page.locator("#space")).to_contain_text("hello 179")
    await check_view(page, "inspect-search")
    await search("1 found; searched everything", Actor="Bob")
    await search("1 found; searched everything", Type="custom.", Text="Über")
    await search("0 found; searched everything", **{"To (UTC)": "2020-01-01T00:00"})
    await search("301 of 301 loaded events")

    await page.get_by_role("button", name="Verify").click()
    await expect(page.locator("#verified")).to_contain_text(
        "Intact: events 1 to 301 are there, in order and undamaged."
    )
    await expect(page.locator("#verified")).to_contain_text("recorded under a checkpoint signed by hub.test")
    await check_view(page, "inspect-verified")
    await asyncio.to_thread(_flip, data / "archive" / "objects" / tenant)
    await page.get_by_role("button", name="Verify").click()
    await expect(page.locator("#verified")).to_contain_text("Not intact from seq 1: segment")
    await check_view(page, "inspect-not-intact")
    assert watched.problems == []


async def test_a_search_tells_what_it_could_not_read(
    archived: tuple[Node, Path], context: BrowserContext, tenant: str
) -> None:
    """Events that are gone; and it shows what the hub found, also where the page's own filter knows the letters less well."""
    node, _ = archived
    channel, log = parse_channel(tenant, "conversation:short"), node.hub.log
    await write(log, channel, 5, "Straße")
    await log.calls_of(channel).call("XTRIM", log.keys.of(channel).stream, "MAXLEN", "2")
    watched = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "channel=conversation:short")
    page = watched.page
    await expect(page.locator("#count")).to_have_text("2 of 2 loaded events")
    await page.get_by_label("Text", exact=True).fill("STRASSE")
    await expect(page.locator("#count")).to_have_text("0 of 2 loaded events")
    await page.get_by_role("button", name="Search all").click()
    await expect(page.locator("#count")).to_have_text("2 found; searched all that is kept; 1 to 3 cannot be read")
    assert watched.problems == []


async def test_an_answer_about_another_channel_is_not_shown(
    archived: tuple[Node, Path], context: BrowserContext, tenant: str
) -> None:
    """Neither the result of a verification that is on its way when another channel is opened, nor a page of a former search."""
    node, _ = archived
    for name, count in (("one", 3), ("two", 2)):
        await write(node.hub.log, parse_channel(tenant, f"conversation:{name}"), count)
    watched = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "channel=conversation:one")
    page, held, go_on = watched.page, asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        held.set()
        await go_on.wait()
        await route.continue_()

    await expect(page.locator("#count")).to_have_text("3 of 3 loaded events")
    await page.route("**/conversation%3Aone/audit*", hold)
    async with page.expect_response("**/conversation%3Aone/audit*") as audited:
        await page.get_by_role("button", name="Verify").click()
        await held.wait()
        await page.evaluate("location.hash = '#channel=conversation:two'")
        await expect(page.locator("#count")).to_have_text("2 of 2 loaded events")
        await page.get_by_role("button", name="Verify").click()
        await expect(page.locator("#verified")).to_contain_text("events 1 to 2 are there")
        go_on.set()
    await (await audited.value).finished()
    await expect(page.locator("#verified")).to_contain_text("events 1 to 2 are there")

    held.clear()
    go_on.clear()
    await page.route("**/events?*text=hello*", hold)
    await page.get_by_label("Text", exact=True).fill("hello")
    async with page.expect_response("**/events?*text=hello*") as searched:
        await page.get_by_role("button", name="Search all").click()
        await held.wait()
        await page.get_by_label("Text", exact=True).fill("")
        await page.get_by_role("button", name="Search all").click()
        await expect(page.locator("#count")).to_have_text("2 of 2 loaded events")
        go_on.set()
    await (await searched.value).finished()
    await expect(page.locator("#count")).to_have_text("2 of 2 loaded events")
    assert watched.problems == []


def _flip(archive: Path) -> None:
    """Another bit in the segment, by a foreign hand."""
    (part,) = (file for file in archive.rglob("segment/*/*") if file.suffix != ".json")
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
