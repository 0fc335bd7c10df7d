"""The demo's table and its words: what is promised about scenarios, report and the stand-in for Slack."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient

from watchdog.app import load_config
from watchdog.demo import settings
from watchdog.demo.faults import Fault, changed, parse_fault, render_fault
from watchdog.demo.live import PlainView
from watchdog.demo.report import Ending, FrontCount, as_json, as_text
from watchdog.demo.runner import run
from watchdog.demo.scenario import NEW, OLD
from watchdog.demo.scenarios import SCENARIOS
from watchdog.demo.scene import Rates, RollingRates, Scene
from watchdog.demo.slack_desk import SlackDesk
from watchdog.demo.weights import RefusedError, Request, load
from watchdog.demo.world import decision_sentences

PROMISED: dict[str, tuple[str, str | None]] = {
    "bad-canary": ("rolled_back", "METRICS"),
    "dead-canary": ("rolled_back", "METRICS"),
    "slow-canary": ("rolled_back", "METRICS"),
    "healthy": ("passed", None),
    "bad-direct": ("rolled_back", "METRICS"),
    "silent-candidate": ("rolled_back", "CANDIDATE_ABSENT"),
    "metrics-outage": ("inconclusive", "SOURCE_DOWN"),
    "late-bug": ("rolled_back", "METRICS"),
    "config-error": ("rolled_back", "METRICS"),
    "traffic-spike": ("passed", None),
    "spike-breaks-v2": ("rolled_back", "METRICS"),
    "simpson": ("passed", None),
    "business": ("rolled_back", "METRICS"),
    "leak": ("rolled_back", "METRICS"),
    "canary-promotes": ("passed", None),
    "feature-flag": ("rolled_back", "METRICS"),
    "blue-green": ("rolled_back", "METRICS"),
    "smoke-fails": ("smoke_failed", None),
    "rolling": ("rolled_back", "METRICS"),
    "irreversible-migration": ("held", "METRICS"),
    "migration-lock": ("held", "SHARED_CAUSE"),
    "schema-breaks-v1": ("held", "SHARED_CAUSE"),
    "shared-db": ("held", "SHARED_CAUSE"),
    "dependency-outage": ("held", "SHARED_CAUSE"),
}
WATCH: dict[str, Any] = {
    "degraded_at": 1_000.5,
    "hook_started_at": 1_000.7,
    "id": "demo-bad-canary",
    "strategy": "canary",
    "state": "ROLLED_BACK",
    "outcome": "rolled_back",
    "verdict": "DEGRADED",
    "reason": "METRICS",
    "metric": "errors",
    "sentence": "shop v2: errors 6.0 % vs 1.0 %, evidence 120 of 100",
    "deployed_at": 1000.0,
    "looks": 4,
    "time_to_detect_s": 9.0,
    "time_to_recover_s": 2.0,
    "exposed_requests": 250,
    "affected_requests": 15,
    "total_requests": 2500,
    "timeline": [{"at": 1000.0, "event": "deployed", "text": "shop v2 went live"}],
}


def test_table_keeps_what_was_promised() -> None:
    """Every scenario of the road is there, under its name, with its ending; direct says that it is uncalibrated."""
    assert {name: (s.outcome, s.reason) for name, s in SCENARIOS.items()} == PROMISED
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())
    assert [n for n, s in SCENARIOS.items() if s.act_uncalibrated] == ["bad-direct", "blue-green", "smoke-fails"]
    most = [float(t.changes.get("rate", 0)) for s in SCENARIOS.values() for t in s.turns]
    assert max(*most, *(s.rate for s in SCENARIOS.values())) <= 300
    assert {s.share for s in SCENARIOS.values() if s.strategy == "canary" and not s.steps} == {0.10}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_gives_the_daemon_a_configuration_without_mistakes(name: str, tmp_path: Path) -> None:
    """As an operator would write it: [judge] and [policy] are not in it, so that they stand at their defaults."""
    scenario = SCENARIOS[name]
    ports = {instance: 18_000 + number for number, instance in enumerate(scenario.instances)}
    targets = settings.Targets(metrics=scenario.instances, ports=ports, front_admin=18_100)
    slack = settings.Slack(channel="#deploys")
    text = settings.render(scenario, targets, daemon_port=18_101, slack=slack, effects=tmp_path / "effects")
    assert "[judge" not in text
    assert "[policy" not in text
    (tmp_path / "config.toml").write_text(text)
    loaded = load_config(tmp_path / "config.toml", {settings.TOKEN_ENV: "t" * 32, settings.SLACK_TOKEN_ENV: "xoxb-1"})
    assert loaded.services[settings.SERVICE].strategy.value == scenario.strategy


def test_faults_read_back_what_they_write() -> None:
    """A fault survives the command line."""
    for scenario in SCENARIOS.values():
        assert parse_fault(render_fault(scenario.fault)) == scenario.fault
    assert parse_fault(" errors=0.5, hang ") == Fault(errors=0.5, hang=True)


@pytest.mark.parametrize("text", ["eror=1", "errors=2", "errors=x", "slow=0", "dead=1", "errors=nan", "errors"])
def test_faults_refuse_what_they_do_not_know(text: str) -> None:
    """A mistyped fault is no healthy version."""
    with pytest.raises(ValueError, match=r"."):
        parse_fault(text)


@pytest.mark.parametrize(
    "changes", [{"erors": 1}, {"errors": 2}, {"dead": 1}, {"slow": 0}, {"slow": True}, {"errors": "1"}]
)
def test_a_running_shop_refuses_a_fault_it_does_not_know(changes: dict[str, Any]) -> None:
    """Likewise where the fault comes later, as JSON."""
    with pytest.raises(ValueError, match=r"."):
        changed(Fault(), changes)


@pytest.mark.parametrize(
    "weights", [{"v3": 1}, {"v1": -1}, {"v1": 0, "v2": 0}, {"v1": "90"}, {"v1": True}, {"v1": 1e9}, {}]
)
def test_front_refuses_weights_that_make_no_sense(weights: dict[str, Any]) -> None:
    """Bad weights change nothing, and not even their fence is believed."""
    front = load(["v1", "v2"], None)
    with pytest.raises(RefusedError) as refused:
        front.change(Request(weights=weights, fence=3))
    assert refused.value.status == 400
    assert front.document() == load(["v1", "v2"], None).document()


def test_front_compares_before_it_sets() -> None:
    """A change made for an older revision is refused; the same weights again are no change."""
    front = load(["v1", "v2"], None)
    assert front.change(Request(weights={"v1": 90, "v2": 10}, revision=0))
    with pytest.raises(RefusedError) as refused:
        front.change(Request(weights={"v2": 100}, revision=0))
    assert refused.value.status == 412
    assert not front.change(Request(weights={"v1": 90, "v2": 10}))
    assert front.revision == len(front.changes) == 1


@pytest.mark.parametrize("weights", [{"v1": 90, "v2": 10}, {"v1": 1, "v2": 0}, {"v1": 1, "v2": 2}, {"v1": 5, "v2": 5}])
def test_shares_are_exact_over_any_round(weights: dict[str, int]) -> None:
    """Smooth weighted round robin: wherever one begins to count, a full round gives each version its weight."""
    front = load(["v1", "v2"], None)
    front.change(Request(weights=weights))
    total = sum(weights.values())
    picked = [front.pick() for _ in range(3 * total)]
    for start in range(2 * total):
        assert picked[start : start + total].count("v2") == weights["v2"]


def test_unknown_scenario_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, with what would have been right."""
    assert run("bad-canry") == 4
    assert "bad-canary" in capsys.readouterr().err


def test_keep_wants_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody's files are never mixed with a demo's."""
    (tmp_path / "mine.txt").write_text("mine")
    assert run("healthy", keep=tmp_path) == 4
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def ending(**watch: Any) -> Ending:
    return Ending(
        scenario=SCENARIOS["bad-canary"],
        watch={**WATCH, **watch},
        front=FrontCount(exposed=251, errors=16, total=2520, after_end=0),
        posts=[],
        kept=None,
    )


def test_json_has_exactly_the_stable_keys() -> None:
    """The keys that scripts rely on, and the front's count beside them."""
    told = as_json(ending())
    assert list(told) == [
        *("scenario", "strategy", "outcome", "verdict", "reason", "metric", "time_to_detect_s", "time_to_recover_s"),
        *("exposed_requests", "affected_requests", "total_requests", "sentence", "time_to_hook_s", "front"),
    ]
    assert "\n" not in json.dumps(told)


def test_ending_is_as_expected_only_with_the_expected_reason() -> None:
    """Rolled back for the wrong reason is a failed demo, and the report says so."""
    assert ending().as_expected
    assert not ending(reason="CANDIDATE_ABSENT").as_expected
    assert not ending(outcome="held").as_expected
    assert "UNEXPECTED" in as_text(ending(outcome="held"))
    held = replace(ending(outcome="held", hold="MIGRATION"), scenario=SCENARIOS["irreversible-migration"])
    assert held.as_expected
    assert not replace(held, watch={**held.watch, "hold": "COOL_DOWN"}).as_expected
    assert "251 requests exposed, 16 failed, of 2\u202f520 in total" in as_text(ending())
    assert "2\u202f500 in total (up to its last scrape)" in as_text(ending())


def test_the_end_says_how_long_the_page_is_there() -> None:
    """Its address stands in the messages, and leads nowhere once the daemon is gone."""
    assert "`deploy-watchdog demo --stay` leaves it up" in as_text(ending())
    assert "--stay" not in as_text(ending(), stays=True)


def test_slack_desk_shows_what_the_slack_client_sends() -> None:
    """A real Slack client posts, threads and edits; the desk shows the channel as a reader would see it."""
    desk = SlackDesk()
    try:
        client = WebClient("xoxb-test", base_url=desk.base_url, timeout=5)
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": {"type": "plain_text", "text": "shop v2"}},
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "*Blast radius*\n5 &lt; 6"}]},
            {"type": "context", "elements": [{"type": "plain_text", "text": "for machines"}]},
        ]
        parent = client.chat_postMessage(channel="#d", text="short", blocks=blocks)
        client.chat_postMessage(channel="#d", text="a &amp; b <http://x/y|open>", thread_ts=parent["ts"])
        assert [(p.text, p.replies, p.edits) for p in desk.posts()] == [
            ("shop v2\nBlast radius: 5 < 6", ["a & b open: http://x/y"], 0)
        ]
        client.chat_update(channel="#d", ts=parent["ts"], text="done")
        assert [(p.text, p.edits) for p in desk.posts()] == [("done", 1)]
    finally:
        desk.close()


def scene(at_s: float, **watch: Any) -> Scene:
    return Scene(
        scenario=SCENARIOS["bad-canary"],
        says="watching",
        since_deploy_s=at_s,
        shares={OLD: 0.9, NEW: 0.1},
        rates={OLD: Rates(requests_per_s=225, error_share=0.01), NEW: Rates()},
        watch={**WATCH, **watch},
    )


def test_plain_view_says_each_thing_once() -> None:
    """A moving figure is told every few seconds, a new state and a new event at once."""
    out = io.StringIO()
    view = PlainView(out)
    for at_s in range(4):
        view.show(scene(float(at_s), state="WATCHING", sentence=f"looking {at_s}"))
    view.show(scene(4.0, state="ROLLED_BACK", sentence="back"))
    lines = out.getvalue().splitlines()
    assert [line.strip() for line in lines if "looking" in line] == [
        "T+0.0s  looking 0  [v1 90 %: 1.0 % errors · v2 10 %]"
    ]
    assert sum("went live" in line for line in lines) == 1
    assert "back" in lines[-1]
    assert "v1 90 %: 1.0 % errors · v2 10 %" in lines[-1]


def test_the_sentence_that_decided_is_always_told() -> None:
    """The watch's own is soon another: the audit keeps it, and it is told once, with the turn that it brought."""
    audit = [
        {"at": 1004.0, "event": "decision.roll_back", "before": "WATCHING", "after": "INTENT", "details": {
            "sentence": "errors 6.0 % vs 1.0 %, evidence 120 of 100"}, "why": "going back to v1"},
        {"at": 1004.2, "event": "action.claimed", "before": "INTENT", "after": "RUNNING", "why": "", "details": None},
    ]  # fmt: skip
    told = decision_sentences(audit)
    assert list(told) == [(1004.0, "decision.roll_back")]
    out = io.StringIO()
    view = PlainView(out)
    (decided,) = told.values()
    for sentence in ("shop v2: errors 6.0 % vs 1.0 %, evidence 120 of 100; going back to v1", "shop v2: the hook runs"):
        timeline = [*WATCH["timeline"], {"at": 1004.0, "event": "decision.roll_back", "text": decided}]
        view.show(scene(5.0, state=sentence[-4:], sentence=sentence, timeline=timeline))
    said = out.getvalue()
    assert said.count("WATCHING → INTENT: errors 6.0 % vs 1.0 %, evidence 120 of 100; going back to v1") == 1
    assert said.count("going back to v1") == 1
    assert "the hook runs" in said


def test_scene_reads_the_evidence_out_of_the_sentence() -> None:
    """The bar shows the daemon's own figure, or nothing."""
    assert scene(1.0).evidence == (120.0, 100.0)
    assert replace(scene(1.0), watch=None).evidence is None


def test_rolling_rates_forget_the_past() -> None:
    """Rates are those of the last seconds; before the first two glances there are none."""
    rates = RollingRates()

    def counts(requests: int, errors: int) -> dict[str, dict[str, Any]]:
        return {OLD: {"requests": requests, "errors": errors}, NEW: {"requests": 0, "errors": 0}}

    assert math.isnan(rates.add(0.0, counts(0, 0))[OLD].error_share)
    for second in range(1, 11):
        rates.add(float(second), counts(100 * second, 0))
    latest = rates.add(11.0, counts(1100, 80))[OLD]
    assert (round(latest.requests_per_s), round(latest.error_share, 3)) == (100, 0.1)


def test_live_view_draws_a_scene() -> None:
    """The terminal view shows shares, errors, sentence, evidence and timeline."""
    from rich.console import Console

    from watchdog.demo.live_terminal import drawn

    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(drawn(scene(9.0)))
    shown = console.export_text()
    for part in ("bad-canary", "90%", "errors 1.0 %", "ROLLED_BACK", "120 of 100", "went live", "T+9.0s"):
        assert part in shown, part
