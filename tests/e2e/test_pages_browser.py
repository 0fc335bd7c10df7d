"""The status pages in a real browser, over the demo's world: seen live, approved by a click, labelled by a form."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from watchdog.demo.scenarios import SCENARIOS
from watchdog.demo.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser_driver = pytest.importorskip("playwright.sync_api", reason="playwright is missing, so no browser was driven")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HELD_MS = 60_000  # traffic must come in before anybody can tell
TURN_MS = 30_000


@dataclass
class Seen:
    """What the browser asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A bad canary's world in which a rollback waits for a human."""
    with World(replace(SCENARIOS["bad-canary"], warm_s=2.0), tmp_path, keep=True) as world:
        world.open_shop()
        config = world._config().replace('mode = "auto"', 'mode = "approve"')
        (tmp_path / "config.toml").write_text(config)
        world.start_daemon()
        yield world


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(seen: Seen) -> "Iterator[Page]":
    """One tab of a headless Chromium that writes down all it does."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH, so the pages were NOT looked at in a browser")
    with browser_driver.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: seen.requests.append(request.url))
        tab.on("pageerror", lambda error: seen.complaints.append(str(error)))
        tab.on("console", lambda said: seen.complaints.append(said.text) if said.type in ("error", "warning") else None)
        yield tab
        browser.close()


def test_a_human_sees_approves_and_labels(world: World, page: "Page", seen: Seen) -> None:
    """Live update without a reload, the rollback after one click and its confirmation, the label on record."""
    base = f"http://127.0.0.1:{world.daemon_port}"
    _sign_in(page, base, world.token)
    assert "No deploy has been sent yet" in page.inner_text("main")
    page.evaluate("window.notReloaded = true")

    world.deploy()
    page.get_by_role("heading", name="1 being watched").wait_for(timeout=TURN_MS)
    page.get_by_role("heading", name="1 waits for somebody").wait_for(timeout=HELD_MS)
    assert page.evaluate("window.notReloaded") is True
    assert "1 waits for somebody" in page.inner_text("#live-status")

    page.get_by_role("link", name="shop v2").click()
    page.get_by_role("link", name="Approve the rollback").click()
    assert "shop in demo goes back from v2 to v1 at once, with the hook front." in page.inner_text("main")
    assert world.front_weights()["weights"]["v2"] > 0  # asking has changed nothing
    page.get_by_label("Why, for the audit and the team").fill("the errors are real")
    page.get_by_role("button", name="Approve the rollback").click()
    page.locator(".state", has_text="rolled back").wait_for(timeout=TURN_MS)
    assert world.front_weights()["weights"]["v2"] == 0
    assert "the errors are real" in page.inner_text(".timeline")
    assert page.locator("svg.chart").count() >= 5

    assert page.title() == "rolled back · shop v2 · deploy-watchdog"
    page.goto(f"{base}/deploys/{world.deploy_id}/approve")  # the link in Slack, opened by somebody who comes late
    assert "approved the rollback at" in page.inner_text("main")
    page.get_by_role("link", name="To the deploy as it stands").click()

    page.get_by_role("link", name="Label the verdict").click()
    page.get_by_label("The verdict was right.").check()
    page.get_by_label("Note").fill("seen in the logs")
    page.get_by_role("button", name="Save the label").click()
    page.locator(".labelled", has_text="seen in the logs").wait_for(timeout=TURN_MS)
    assert (world.watch() or {})["label"]["label"] == "right"

    page.get_by_role("link", name="Services").click()
    page.get_by_role("rowheader", name="shop").get_by_role("link").click()
    assert "The alarm has a label. 1 of 1 right." in page.inner_text("main")
    page.get_by_role("link", name="shop v2").click()
    page.locator(".labelled", has_text="seen in the logs").wait_for(timeout=TURN_MS)

    late = [said for said in seen.complaints if "409" in said]
    assert len(late) == 1  # the page for who comes late; a browser writes every answer of 400 and more down
    assert [said for said in seen.complaints if said not in late] == []
    assert {url.split("/")[2] for url in seen.requests} == {f"127.0.0.1:{world.daemon_port}"}
    _policy_is_active(page)
    _a_link_from_elsewhere_finds_the_session(page, f"{base}/deploys/{world.deploy_id}")


def _sign_in(page: "Page", base: str, token: str) -> None:
    page.goto(f"{base}/sign-in")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{base}/")
    cookie = page.context.cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def _policy_is_active(page: "Page") -> None:
    """A script and a style that somebody smuggled into the page do nothing."""
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.smuggled = true';
            document.body.append(script);
            document.body.setAttribute('style', 'color: rgb(1, 2, 3)');
        }"""
    )
    assert page.evaluate("window.smuggled") is None
    assert page.evaluate("getComputedStyle(document.body).color") != "rgb(1, 2, 3)"


def _a_link_from_elsewhere_finds_the_session(page: "Page", address: str) -> None:
    """As in Slack: the cookie does not come with the first request, and nobody has to sign in again."""
    page.goto("about:blank")
    page.set_content(f'<a href="{address}">the deploy</a>')
    page.get_by_role("link", name="the deploy").click()
    page.locator(".labelled", has_text="seen in the logs").wait_for(timeout=TURN_MS)
