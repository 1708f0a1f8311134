"""The inspect page for an operator: runs, processes, connections, the rollout and figures, each at an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from consumers.agents import Question, ToolCall
from ops.cli.worker_process import running_worker
from support.nodes import Node, running_node, token
from support.run_rig import options
from support.socket_client import client
from support.views import check_view, inspected, press

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

PLACE = "conversation:demo"
HOSTILE = "<img src=x onerror=alert(1)>\u202eevil"


async def careful(ctx: Any, given: Any) -> Any:
    """Asks before it acts."""

    async def act(args: Any, tool: Any) -> Any:
        return args

    yield "I would do that. "
    yield ToolCall("act", {"n": 1}, act, title=HOSTILE, approval=Question(HOSTILE, "approval"))
    yield "done"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def worker(node: Node) -> AsyncIterator[None]:
    """A worker beside the module's node."""
    url = node.hub.settings.redis_url
    assert url is not None
    async with running_worker(
        node.hub.settings, options(url, {"careful": careful}, lease_ms=15_000, partition_life_ms=15_000)
    ):
        yield


async def test_a_run_is_followed_cancelled_and_answered_again(node: Node, context: BrowserContext, tenant: str) -> None:
    """From the list of unfinished runs to the timeline of one: what it waits for, its end, and another answer beside it."""
    bearer = token("olga", tenant, {"conversation:*": ["invoke"]}, scope="operator")
    async with client(node.ws_url, token("alice", tenant)) as alice:
        await alice.subscribe(PLACE)
        await alice.answer("chat.message", {"text": "do it", "agent": "careful"}, PLACE)
        await alice.event("tool.call.request")
        watched = await inspected(context, node, bearer, "view=runs")
        page = watched.page
        await expect(page.locator("#runs-body tbody tr")).to_have_count(1)
        await expect(page.locator("#runs-body")).to_contain_text("waiting")
        await check_view(page, "inspect-runs")
        await page.locator("#runs-body tbody a").first.click()
        await expect(page.locator("#runs-body .note.warn").first).to_contain_text("Waits for approval")
        await expect(page.locator("#runs-body .note.warn").first).to_contain_text("U+202Eevil")
        await check_view(page, "inspect-run")
        await press(page, "cancel the run", "Cancel it")
        await alice.event("agent.complete")
        await page.get_by_role("button", name="Refresh").click()
        await expect(page.locator("#runs-body .facts")).to_contain_text("cancelled")
        await press(page, "let the agent answer again", "Answer again")
        await alice.expect("tool.call.request")  # the next one: the first run asked, too
        await page.get_by_role("link", name=f"Runs of {PLACE}").click()
        await expect(page.locator("#runs-body tbody tr")).to_have_count(2)
        await check_view(page, "inspect-runs-of-a-channel")
        await page.reload()
        await expect(page.locator("#runs-body tbody tr")).to_have_count(2)
        assert await page.locator("main :is(img, script)").count() == 0
        assert watched.problems == []


async def test_processes_connections_and_figures(node: Node, context: BrowserContext, tenant: str) -> None:
    """Nodes, workers with their agents; a user is found and disconnected; the plots move; an auditor is told why not."""
    bearer = token("olga", tenant, {}, scope="operator")
    async with client(node.ws_url, token("alice", tenant)) as alice, client(node.ws_url, token("bob", tenant)):
        await alice.subscribe(PLACE)
        watched = await inspected(context, node, bearer, "view=processes")
        page = watched.page
        await expect(page.locator("#processes-body")).to_contain_text("(this one)")
        await expect(page.locator("#processes-body")).to_contain_text("careful")
        await check_view(page, "inspect-processes")
        await page.get_by_role("link", name="Connections").first.click()
        await expect(page.locator("#connections-body tbody tr")).to_have_count(2)
        await page.get_by_label("User").fill("alice")
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("#connections-body tbody tr")).to_have_count(1)
        await page.locator("#connections-body summary").click()
        await expect(page.locator("#connections-body details")).to_contain_text(PLACE)
        await check_view(page, "inspect-connections")
        await press(page, "close the connection of alice", "Close it")
        await alice.event("connection.drain")
        await page.get_by_role("link", name="Figures").click()
        await expect(page.locator("#figures-body svg")).to_have_count(4)
        await expect(page.locator("#figures-body polyline").first).to_be_attached()
        await check_view(page, "inspect-figures")
        assert watched.problems == []

        auditor = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "view=connections")
        await expect(auditor.page.get_by_role("alert")).to_contain_text("scope operator")
        await auditor.page.get_by_role("button", name="Use another token").click()
        await expect(auditor.page.get_by_label("Token")).to_be_focused()
        await check_view(auditor.page, "inspect-refused")


async def test_the_rollout_is_changed_by_an_operator_only(node: Node, context: BrowserContext, tenant: str) -> None:
    """0 % and a variant are set after a question and stand in the log with the note; an auditor sees them, without a button."""
    watched = await inspected(context, node, token("olga", tenant, {}, scope="operator"), "view=rollout")
    page = watched.page
    facts = page.locator("#rollout-body .facts")
    await expect(facts).to_contain_text("100 % of the users")
    await press(page, "change the rollout", "Change it now")
    await expect(page.locator("#rollout-body").get_by_role("alert")).to_contain_text("Nothing would change")
    await page.get_by_label("Users with WebSocket").fill("0")
    await page.get_by_role("button", name="Add a variant").click()
    await page.get_by_label("Variant 1", exact=True).fill("blue")
    await page.get_by_label("Users of variant 1").fill("101")
    await press(page, "change the rollout", "Change it now")
    await expect(page.locator("#rollout-body").get_by_role("alert")).to_contain_text("for the variant blue")
    await page.get_by_label("Users of variant 1").fill("12.5")
    await page.get_by_label("Note").fill("the proxy drops upgrades")
    await check_view(page, "inspect-rollout")
    await press(page, "change the rollout", "Change it now")
    await expect(facts).to_contain_text("WebSocket0 % of the users")
    await expect(page.locator("#rollout-body tbody")).to_contain_text("12.5 %")
    await expect(page.locator("#rollout-body").get_by_role("status")).to_contain_text("within 2 seconds")
    await facts.get_by_role("link").click()
    await expect(page.locator("#raw")).to_contain_text("the proxy drops upgrades")
    assert watched.problems == []

    auditor = await inspected(context, node, token("eve", tenant, {}, scope="auditor"), "view=rollout")
    await expect(auditor.page.locator("#rollout-body .facts")).to_contain_text("by olga")
    await expect(auditor.page.locator("#rollout-body")).to_contain_text("a token with the scope operator")
    await expect(auditor.page.locator("#rollout-body button")).to_have_text(["Refresh"])
    await check_view(auditor.page, "inspect-rollout-read")
    assert auditor.problems == []


async def test_figures_behind_a_token_of_their_own(context: BrowserContext, tenant: str, redis_url: str) -> None:
    """With HUB_METRICS_TOKEN the page asks for it, and keeps it to itself."""
    async with running_node(redis_url, metrics_token="a-token-of-metrics") as closed:
        watched = await inspected(context, closed, token("olga", tenant), "view=figures")
        await watched.page.get_by_label("Metrics token").fill("a-token-of-metrics")
        await watched.page.get_by_role("button", name="Show the figures").click()
        await expect(watched.page.locator("#figures-body svg")).to_have_count(4)
        watched.expected("401")
        assert watched.problems == []
