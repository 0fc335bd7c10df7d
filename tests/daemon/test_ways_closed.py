"""Where going back may do harm: until when it is safe, a schema that changed; and what is left to do then."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.daemon.test_pipeline import Shop
from tests.fakes import FakeClock, FakeHook, FakeSource
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.app import load_config
from watchdog.deploy_request import DeployRequest
from watchdog.errors import ConfigError
from watchdog.intake import Intake
from watchdog.intended import first_actions
from watchdog.model import ActionKind, HoldReason, MessageKind, Mode, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.planning import Pace
from watchdog.ports import HookCall, HookOutcome, HookResult, Ledger, ProbeAnswer
from watchdog.telling import message
from watchdog.web.views import recorded_json


@dataclass
class Schema(FakeHook):
    """A hook that prints the schema's version; `versions` are its answers, the last one for ever."""

    versions: list[str] = field(default_factory=lambda: ["41"])

    def run(self, call: HookCall) -> HookResult:
        self.calls.append(call)
        said = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return HookResult(outcome=self.outcome, exit_code=0, output=f"connecting\n{said}\n")

    def probe(self, call: HookCall) -> ProbeAnswer:
        raise AssertionError("a question leaves nothing behind that could be asked for")


def road(ledger: Ledger, clock: FakeClock, schema: Schema, back: FakeHook) -> Pipeline:
    return a_road(ledger, clock, FakeSource(Shop(back, candidate_errors=0.2)), {"back": back, "schema": schema})


def walk(ledger: Ledger, clock: FakeClock, watch: Watch, schema: Schema, back: FakeHook) -> Pipeline:
    """A bad canary, until it rests."""
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [], first_actions(watch, DEPLOYED_AT))
    pipeline = road(ledger, clock, schema, back)
    on(pipeline, ledger, clock)
    return pipeline


def on(pipeline: Pipeline, ledger: Ledger, clock: FakeClock) -> None:
    for _ in range(90):
        clock.advance(1.0)
        pipeline.tick()
        if standing(ledger).state in (State.HELD, State.ROLLED_BACK):
            return


def standing(ledger: Ledger) -> Watch:
    watch = ledger.watch("d1")
    assert watch is not None
    return watch


def asking(*, migration: str = "none") -> Watch:
    watch = a_watch()
    return replace(
        watch,
        plan=replace(watch.plan, schema_hook="schema"),
        deploy=replace(watch.deploy, migration=migration),
    )


def test_a_schema_that_changed_unannounced_holds_the_rollback(ledger: Ledger, clock: FakeClock) -> None:
    """The event said that nothing migrates, the database says otherwise: a human decides, and is asked only once."""
    schema, back = Schema(versions=["41", "42"]), FakeHook()
    pipeline = walk(ledger, clock, asking(), schema, back)
    held = standing(ledger)
    assert (held.state, held.hold, back.effects) == (State.HELD, HoldReason.MIGRATION, 0)
    assert "the schema was 41 when the deploy began and is 42 now, though no migration was announced" in held.sentence
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann", why="42 only adds an index")
    on(pipeline, ledger, clock)
    assert (standing(ledger).state, back.effects) == (State.ROLLED_BACK, 1)
    assert [call.kind for call in schema.calls] == [ActionKind.SCHEMA] * 2


@pytest.mark.parametrize(
    ("migration", "versions", "outcome"),
    [
        ("none", ["41"], HookOutcome.OK),  # as it was
        ("expand", ["41", "42"], HookOutcome.OK),  # announced, and the old version lives with it
        ("none", ["41", "42"], HookOutcome.FAILED),  # nobody could say what it was
    ],
)
def test_else_it_goes_back(
    migration: str, versions: list[str], outcome: HookOutcome, ledger: Ledger, clock: FakeClock
) -> None:
    """A schema that is as expected, or cannot be asked for, leaves no bad version live."""
    back = FakeHook()
    walk(ledger, clock, asking(migration=migration), Schema(versions=versions, outcome=outcome), back)
    assert (standing(ledger).state, back.effects) == (State.ROLLED_BACK, 1)
    told = [row.message.sentence for row, _ in ledger.messages("d1") if "the schema's version" in row.message.sentence]
    assert len(told) == (outcome is HookOutcome.FAILED)


@pytest.mark.parametrize(("until", "state"), [(5.0, State.HELD), (3600.0, State.ROLLED_BACK)])
def test_after_the_time_in_which_it_is_safe_a_human_decides(
    until: float, state: State, ledger: Ledger, clock: FakeClock
) -> None:
    """An expand migration whose second half follows by itself: going back is safe until then."""
    watch = a_watch()
    deploy = replace(watch.deploy, migration="expand", safe_to_rollback_until=DEPLOYED_AT + until)
    back = FakeHook()
    walk(ledger, clock, replace(watch, deploy=deploy), Schema(), back)
    assert standing(ledger).state is state
    assert standing(ledger).hold is (HoldReason.MIGRATION if state is State.HELD else None)
    assert back.effects == (state is State.ROLLED_BACK)


@pytest.mark.parametrize("waits", [60.0, 1200.0])
def test_an_approval_that_comes_after_the_time_in_which_it_is_safe_is_asked_for_again(
    waits: float, ledger: Ledger, clock: FakeClock
) -> None:
    """Held while going back was safe, approved ten minutes later: said once, and then it is the human's word."""
    watch = replace(a_watch(), mode=Mode.APPROVE)
    back = FakeHook()
    deploy = replace(watch.deploy, safe_to_rollback_until=DEPLOYED_AT + 600.0)
    pipeline = walk(ledger, clock, replace(watch, deploy=deploy), Schema(), back)
    assert standing(ledger).hold is HoldReason.APPROVAL
    clock.advance(waits)
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.approve("d1", actor="ann")
    on(pipeline, ledger, clock)
    if waits > 600.0:
        assert (standing(ledger).state, standing(ledger).hold, back.effects) == (State.HELD, HoldReason.MIGRATION, 0)
        assert "going back was safe for 10 min" in standing(ledger).sentence
        desk.approve("d1", actor="ann", why="the old version still works")
        on(pipeline, ledger, clock)
    assert (standing(ledger).state, back.effects) == (State.ROLLED_BACK, 1)


def test_a_rollback_that_a_human_asks_for_is_not_asked_about(ledger: Ledger, clock: FakeClock) -> None:
    """Whoever types it wants it now."""
    watch = a_watch()
    back = FakeHook()
    ledger.record_deploy(
        replace(watch, deploy=replace(watch.deploy, safe_to_rollback_until=DEPLOYED_AT + 1.0)),
        [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")],
        [],
    )
    clock.advance(2.0)
    OperatorDesk(ledger=ledger, clock=clock).rollback("d1", actor="ann", why="now")
    on(road(ledger, clock, Schema(), back), ledger, clock)
    assert (standing(ledger).state, back.effects) == (State.ROLLED_BACK, 1)


@pytest.mark.parametrize("verb", ["approve", "rollback"])
def test_who_approves_what_was_held_as_no_longer_safe_is_not_asked_again(
    verb: str, ledger: Ledger, clock: FakeClock
) -> None:
    """The hold said it, whatever it was held for; a rollback that is typed is wanted all the same."""
    watch = replace(a_watch(), mode=Mode.NOTIFY)
    back = FakeHook()
    deploy = replace(watch.deploy, safe_to_rollback_until=DEPLOYED_AT + 5.0)
    pipeline = walk(ledger, clock, replace(watch, deploy=deploy), Schema(), back)
    assert standing(ledger).hold is HoldReason.MODE_NOTIFY
    assert "going back was safe for" in standing(ledger).sentence
    getattr(OperatorDesk(ledger=ledger, clock=clock), verb)("d1", actor="ann", why="it has to")
    on(pipeline, ledger, clock)
    assert (standing(ledger).state, back.effects) == (State.ROLLED_BACK, 1)


CONFIG = """
[sources.pages]
kind = "scrape"
[[sources.pages.targets]]
url = "http://127.0.0.1:9/metrics"
[hooks.back]
kind = "dry_run"
[services.shop]
source = "pages"
mode = "{mode}"
presets = ["otel-http"]
{more}
"""


def test_a_way_back_that_closes_before_the_watch_is_over_is_told_at_once(
    ledger: Ledger, clock: FakeClock, tmp_path: Path
) -> None:
    """While there is time to shorten the watch, or to put the second half off."""
    (tmp_path / "c.toml").write_text(CONFIG.format(mode="observe", more="rollback_hook = 'back'"))
    config = load_config(tmp_path / "c.toml", {})
    intake = Intake(config=config, paces={"pages": Pace(step_s=5.0, settle_s=1.0)}, ledger=ledger, clock=clock)
    body: dict[str, Any] = {"service": "shop", "previous_version": "v1", "share": 0.1}
    for version, until in (("v2", 60.0), ("v3", 7200.0)):
        clock.advance(1.0)
        _, watch = intake.receive(
            DeployRequest(version=version, safe_to_rollback_until=clock.now() + until, **body), actor="ci"
        )
        told = [
            row.message.sentence for row, _ in ledger.messages(watch.id) if row.message.severity is Severity.WARNING
        ]
        assert [("safe only until" in sentence) for sentence in told] == ([True] if until == 60.0 else [])


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("[0.25, 0.10, 1.0]", r"steps.shares.1: expected more than 0.25 and at most 1"),
        ("[0.10, 0.10, 1.0]", r"steps.shares.1: expected more than 0.1 and at most 1"),
        ("[0.10, 1.5]", r"steps.shares.1: expected more than 0.1 and at most 1 \(all traffic\), got 1.5"),
        ("[5, 100]", r"steps.shares.0: expected more than 0 and at most 1 \(all traffic\), got 5"),
        ("[0.10, 0.50]", r"steps.shares.1: expected 1 \(all traffic\) at the end, got 0.5"),
        ("[0.0, 1.0]", r"steps.shares.0: expected more than 0"),
        ("[nan, 1.0]", r"steps.shares.0: expected a finite number"),
    ],
)
def test_steps_that_fall_or_go_beyond_all_traffic_are_refused(shares: str, said: str, tmp_path: Path) -> None:
    """With file, line and key, and what was expected."""
    more = f"rollback_hook = 'back'\n[services.shop.steps]\nshares = {shares}\npromote_hook = 'back'"
    (tmp_path / "c.toml").write_text(CONFIG.format(mode="auto", more=more))
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "c.toml", {})


def test_auto_without_a_way_back_is_refused(tmp_path: Path) -> None:
    """`check` and `run` alike read the configuration by this."""
    (tmp_path / "c.toml").write_text(CONFIG.format(mode="auto", more=""))
    with pytest.raises(ConfigError, match="rollback_hook: is missing; mode 'auto' needs a hook to roll back with"):
        load_config(tmp_path / "c.toml", {})


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "big_bang"}, {"share": 0.0}, {"share": 1.5}, {"train": "-x"}, {"safe_to_rollback_until": "soon"}],
)
def test_an_event_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is stored."""
    with pytest.raises(ValidationError):
        DeployRequest(service="shop", version="v2", **wrong)


# --- what is left to do -----------------------------------------------------------------------------------


@dataclass
class Marks(Schema):
    """A restore point's hook."""

    versions: list[str] = field(default_factory=lambda: ["before-v2 at 0/16B3748"])

    def probe(self, call: HookCall) -> ProbeAnswer:
        return ProbeAnswer.UNKNOWN


def steps_of(ledger: Ledger) -> str:
    told = recorded_json(ledger, standing(ledger))["recovery_steps"]
    return "\n".join(told)


def test_a_held_migration_says_what_to_do_step_by_step(ledger: Ledger, clock: FakeClock) -> None:
    """Forward first, the commands by name, the suspect data and the point to recover it from."""
    watch = a_watch()
    plan = replace(watch.plan, restore_hook="schema", migrate_down_hook="schema")
    watch = replace(watch, plan=plan, deploy=replace(watch.deploy, migration="contract"))
    walk(ledger, clock, watch, Marks(), FakeHook())
    told = steps_of(ledger).splitlines()
    assert told[0] == "Fix forward, or switch the new feature off: going back may do harm."
    assert told[1].endswith("`deploy-watchdog approve d1`.")
    assert told[2].endswith("`deploy-watchdog migrate-down d1`.")
    assert told[3].startswith(
        "Data written from 2023-11-14 22:13:20 UTC by v2 is suspect; the restore point before it: "
    )
    assert "before-v2 at 0/16B3748" in told[3]
    assert "recovery_target_name" in told[4]


def test_what_went_back_still_says_which_data_is_suspect(ledger: Ledger, clock: FakeClock) -> None:
    """The code is back, the rows it wrote are not."""
    watch = a_watch()
    walk(ledger, clock, replace(watch, plan=replace(watch.plan, restore_hook="schema")), Marks(), FakeHook())
    assert standing(ledger).state is State.ROLLED_BACK
    (first, _) = steps_of(ledger).splitlines()
    assert first.startswith("Data written from 2023-11-14 22:13:20 UTC until 2023-11-14 22:13:")


@pytest.mark.parametrize(
    ("state", "hold", "said"),
    [
        (State.HELD, HoldReason.APPROVAL, "To go back to v1: `deploy-watchdog approve d1`."),
        (State.UNKNOWN, None, "Nobody knows whether the rollback took effect"),
        (State.FAILED, None, "put v1 back by hand: the watchdog tries no further."),
        (State.NOT_RECOVERED, None, "put v1 back by hand: the watchdog tries no further."),
    ],
)
def test_every_end_that_needs_somebody_says_what_for(
    state: State, hold: HoldReason | None, said: str, ledger: Ledger
) -> None:
    """And one that needs nobody says nothing."""
    ledger.record_deploy(replace(a_watch(), state=state, hold=hold), [], [])
    assert said in steps_of(ledger)
    assert recorded_json(ledger, replace(a_watch(), state=State.PASSED))["recovery_steps"] == []
