"""The pages for everybody: no barrier that axe-core knows, in light and dark, on a wide screen and on a phone."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis.prepare import Cells
from analysis.result import Arm
from benchmarks.pages import TOKEN, served
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.npm import npm_file
from tests.samples import DEPLOYED_AT, a_watch, errors_metric
from watchdog.action import ActionEdge
from watchdog.ledger import SqlLedger, open_ledger
from watchdog.model import FINAL, AuditEntry, Label, LabelKind, MessageKind, Mode, Severity, State, Steps, Watch
from watchdog.pipeline import Pipeline
from watchdog.ports import LookRequest
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.telling import message

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser_driver = pytest.importorskip("playwright.sync_api", reason="playwright is missing, so no browser was driven")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
PATHS = (
    "/", "/deploys/grown", "/deploys/bad", "/deploys/held", "/deploys/held/migrate-down", "/deploys/bad/label",
    "/deploys/now", "/deploys/grown/approve", "/services", "/services/shop", "/sign-in",
)  # fmt: skip
FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const box = e.getBoundingClientRect(), name = e.getAttribute("aria-label") || e.innerText || e.id;
  return [name.trim().split("\\n")[0], box.top + scrollY, getComputedStyle(e).outlineStyle !== "none"];
}"""
TIMES_SEEN_S = {"grown": 120, "bad": 90, "held": 90, "now": 22}


@dataclass
class Shop:
    """1 500 requests a look, of which the candidate gets its share while it is live. 1 % of them fail; of a bad
    deploy's candidate 6 %, from its sixth look on."""

    ledger: SqlLedger
    hook: FakeHook

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng([len(request.watch_id), request.interval + 1000])
        watch = self.ledger.watch(request.watch_id)
        share = (watch.share if watch is not None and self.hook.live != "v1" else None) or 0.0
        is_bad = request.watch_id in ("bad", "held") and request.interval >= 5
        rows = []
        for window in request.arms:
            is_new = window.arm == Arm.CANDIDATE.value
            replicas = 1 if is_new else 3
            for replica in range(replicas if not is_new or share else 0):
                total = int(rng.poisson(1500 * (share if is_new else 1 - share) / replicas))
                bad = float(rng.binomial(total, 0.06 if is_new and is_bad else 0.01))
                rows.append((window.arm, f"{'v2' if is_new else 'v1'}-{replica}", bad, float(total)))
        return {"errors": counts(rows)}


def a_deploy_called(name: str, at: float) -> Watch:
    watch = replace(a_watch(deploy_id=name), created_at=at, updated_at=at, next_look_at=at + 6.0)
    steps = Steps(shares=(0.1, 0.5, 1.0), bake_s=30.0, hook="front")
    plan = replace(watch.plan, metrics=(errors_metric(),), public_url="http://127.0.0.1:1")
    if name in ("grown", "now"):
        plan = replace(plan, steps=steps)
    if name == "held":
        plan = replace(plan, migrate_down_hook="front")
    deploy = replace(watch.deploy, id=name, version=f"v2-{name}", deployed_at=at, received_at=at)
    return replace(watch, deploy=deploy, plan=plan, mode=Mode.APPROVE if name == "held" else Mode.AUTO)


def live_through(ledger: SqlLedger, clock: FakeClock) -> None:
    """Deploys of every kind, through the real pipeline: grown step by step, rolled back, held, and still watched."""
    hook, front = FakeHook(), FakeHook()
    source = FakeSource(Shop(ledger, hook))
    pipeline = Pipeline(
        ledger=ledger, sources={"pages": source}, clock=clock, owner="me", telemetry=Telemetry(),
        edge=ActionEdge(ledger=ledger, hooks={"back": hook, "front": front}, clock=clock, owner="me"),
        surroundings=Surroundings(ledger=ledger), submit=lambda job, key: job(),
    )  # fmt: skip
    for name, seconds in TIMES_SEEN_S.items():
        watch = a_deploy_called(name, clock.now())
        hook.live = front.live = watch.deploy.version
        begun = message(watch, MessageKind.STARTED, Severity.INFO, "the watch begins", key="started")
        ledger.record_deploy(watch, [begun], [])
        for _ in range(seconds):
            clock.advance(1.0)
            pipeline.tick()
            found = ledger.watch(name)
            if found is not None and found.state in FINAL:
                break
    said = Label(watch_id="bad", kind=LabelKind.RIGHT, note="seen in the logs", actor="token:ann", at=clock.now())
    ledger.set_label(said, AuditEntry(at=clock.now(), watch_id="bad", actor="token:ann", event="operator.label"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the pages over that ledger."""
    path, clock = tmp_path_factory.mktemp("pages") / "w.db", FakeClock(DEPLOYED_AT)
    with closing(open_ledger(path, clock=clock, owner="me", sinks_for=lambda service: ("team",))) as ledger:
        live_through(ledger, clock)
        states = {name: watch.state for name in TIMES_SEEN_S if (watch := ledger.watch(name)) is not None}
        assert states == {
            "grown": State.PASSED, "bad": State.ROLLED_BACK, "held": State.HELD, "now": State.WATCHING,
        }  # fmt: skip
        with served(ledger, clock) as url:
            yield url


@pytest.fixture(scope="module")
def page(base: str) -> "Iterator[Page]":
    """A tab of a headless Chromium that is signed in."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH, so the pages were NOT looked at in a browser")
    with browser_driver.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(f"{base}/sign-in")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Sign in").click()
        tab.wait_for_url(f"{base}/")
        yield tab
        browser.close()


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_no_page_has_a_barrier(page: "Page", base: str, scheme: Any, size: Any, tmp_path: Path) -> None:
    """Names, contrast, structure, keyboard: nothing that axe-core calls serious, and nothing to scroll sideways."""
    axe = npm_file("axe-core")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    barriers: list[str] = []
    for path in PATHS:
        page.goto(base + path)
        page.evaluate(axe)  # not through the page's policy, which would refuse it
        found, passed = page.evaluate("axe.run().then(r => [r.violations, r.passes.length])")
        assert passed > 10, f"{path}: axe-core has looked at hardly anything"
        barriers += [
            f"{path}: {v['id']}: {v['nodes'][0]['html'][:120]}" for v in found if v["impact"] in ("serious", "critical")
        ]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        barriers += [f"{path}: {wide} pixels too wide"] if wide > 0 else []
    assert barriers == []


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(page: "Page", base: str) -> None:
    """Skip link first, then from top to bottom, each with a name and a visible focus, and out at the end."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{base}/deploys/held")
    places = []
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUSED)
        if here is None:
            break
        places.append(here)
    assert here is None, "the focus never leaves the page"
    names = [name for name, _, _ in places]
    assert names[:5] == ["Skip to content", "deploy-watchdog", "Deploys", "Services", "Sign out"]
    assert names[5:8] == ["Approve the rollback", "Deny the rollback", "Take the migration back"]
    assert names[8:] == ["Label the verdict", "shop"]
    assert all(names)
    assert [name for name, _, is_seen in places if not is_seen] == []
    tops = [top for _, top, _ in places[5:]]
    assert all(after >= before - 30 for before, after in pairwise(tops))  # what stands side by side may differ

    page.goto(f"{base}/deploys/held")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
