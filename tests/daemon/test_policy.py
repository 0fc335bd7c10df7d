"""What follows from a verdict."""

from dataclasses import replace

import pytest

from analysis.result import Reason, Verdict, VerdictKind
from tests.samples import a_watch
from watchdog.holding import held_expires
from watchdog.model import Action, ActionKind, ActionState, DecisionKind, HoldReason, Limits, Mode, Severity, State
from watchdog.other_rollbacks import BY_HAND, still_limited
from watchdog.policy import Brakes, decide
from watchdog.telling import hold_severity

NOW = 1_700_000_100.0


def verdict(kind: VerdictKind, reason: Reason | None = None, alarm: int | None = None) -> Verdict:
    return Verdict(
        kind=kind, reason=reason, metric="errors", look=3, alarm_look=alarm, log_evidence=5.0, log_threshold=4.6,
        sentence="errors 6 % vs 1 %",
    )  # fmt: skip


def rolled_back(at: float, *, service: str = "shop", left: str = "v0") -> Action:
    return Action(
        id=f"{service}{at}", watch_id="d0", kind=ActionKind.ROLLBACK, state=ActionState.APPLIED, hook="back",
        service=service, environment="production", from_version=left, to_version="v00", created_at=at, started_at=at,
    )  # fmt: skip


DEGRADED = verdict(VerdictKind.DEGRADED, Reason.METRICS, 3)


@pytest.mark.parametrize(
    ("mode", "hold"),
    [
        (Mode.OBSERVE, HoldReason.MODE_OBSERVE),
        (Mode.NOTIFY, HoldReason.MODE_NOTIFY),
        (Mode.APPROVE, HoldReason.APPROVAL),
    ],
)
def test_a_degraded_deploy_is_held_in_every_mode_but_auto(mode: Mode, hold: HoldReason) -> None:
    """Trust is given per service; only auto acts by itself."""
    decision = decide(replace(a_watch(), mode=mode), DEGRADED, Brakes(), NOW)
    assert (decision.kind, decision.hold) == (DecisionKind.HOLD, hold)


def test_a_degraded_deploy_is_rolled_back_in_auto() -> None:
    """The road's purpose."""
    assert decide(a_watch(), DEGRADED, Brakes(), NOW).kind is DecisionKind.ROLL_BACK


@pytest.mark.parametrize(
    ("brakes", "hold"),
    [
        (Brakes(paused="freeze week"), HoldReason.KILL_SWITCH),
        (Brakes(recent=[rolled_back(NOW - 3599)]), HoldReason.COOL_DOWN),
        (Brakes(recent=[rolled_back(NOW - 80_000, left="v1")]), HoldReason.BAD_TARGET),
        (Brakes(target_worse_at=NOW - 80_000), HoldReason.BAD_TARGET),
        (Brakes(recent=[rolled_back(NOW - 60 * i, service=f"s{i}") for i in range(3)]), HoldReason.BREAKER),
        (
            Brakes(
                recent=[rolled_back(NOW, service=f"s{i}") for i in range(8)],
                active=26,
                limits=Limits(breaker_rollbacks=50),
            ),
            HoldReason.BREAKER,
        ),
        (Brakes(migration="irreversible"), HoldReason.MIGRATION),
        (Brakes(migration="unknown"), HoldReason.MIGRATION),
    ],
)
def test_a_brake_holds_instead_of_rolling_back(brakes: Brakes, hold: HoldReason) -> None:
    """Every brake ends in HELD with its own reason."""
    decision = decide(a_watch(), DEGRADED, brakes, NOW)
    assert (decision.kind, decision.hold) == (DecisionKind.HOLD, hold)


def test_a_target_that_was_found_worse_long_ago_is_gone_back_to() -> None:
    """What was bad a day ago is not known to be so now; and a human's word stands above it."""
    assert decide(a_watch(), DEGRADED, Brakes(target_worse_at=NOW - 86_400), NOW).kind is DecisionKind.ROLL_BACK
    intended = replace(rolled_back(NOW), started_at=None)
    found = still_limited(intended, [], 1, Limits(), NOW, target_worse_at=NOW - 60)
    assert found is not None
    assert found.hold is HoldReason.BAD_TARGET
    approved = replace(intended, params={BY_HAND: True})
    assert still_limited(approved, [], 1, Limits(), NOW, target_worse_at=NOW - 60) is None


def test_a_rollback_is_allowed_again_after_the_cool_down() -> None:
    """The cool-down is a time, not for ever."""
    assert decide(a_watch(), DEGRADED, Brakes(recent=[rolled_back(NOW - 3600)]), NOW).kind is DecisionKind.ROLL_BACK


def test_a_few_rollbacks_of_other_services_are_no_reason_to_stop() -> None:
    """Two in half an hour, three with one long ago, another service's bad version, eight of thirty watches."""
    two = [rolled_back(NOW - 10, service="a"), rolled_back(NOW - 20, service="b", left="v1")]
    for brakes in (
        Brakes(recent=two, active=2),
        Brakes(recent=[*two, rolled_back(NOW - 1801, service="c")], active=3),
        Brakes(
            recent=[rolled_back(NOW, service=f"s{i}") for i in range(8)], active=30, limits=Limits(breaker_rollbacks=50)
        ),
    ):
        assert decide(a_watch(), DEGRADED, brakes, NOW).kind is DecisionKind.ROLL_BACK


@pytest.mark.parametrize("reason", [r for r in Reason if r not in (Reason.METRICS, Reason.CANDIDATE_ABSENT)])
@pytest.mark.parametrize("looks", [3, 18])
def test_cannot_tell_never_rolls_back_and_never_passes(reason: Reason, looks: int) -> None:
    """INCONCLUSIVE is neither bad nor good, whatever its reason, during the watch or at its end."""
    watch = replace(a_watch(), looks=looks)
    kind = decide(watch, verdict(VerdictKind.INCONCLUSIVE, reason), Brakes(), NOW).kind
    assert kind not in (DecisionKind.ROLL_BACK, DecisionKind.PASS, DecisionKind.PROMOTE)


def test_healthy_passes_only_at_the_end_of_the_watch() -> None:
    """A fault may begin late."""
    healthy = verdict(VerdictKind.HEALTHY)
    assert decide(replace(a_watch(), looks=17), healthy, Brakes(), NOW).kind is DecisionKind.WAIT
    assert decide(replace(a_watch(), looks=18), healthy, Brakes(), NOW).kind is DecisionKind.PASS


def test_an_uncalibrated_alarm_is_held_for_a_human() -> None:
    """Before/after evidence acts only where its placebo rate is known."""
    decision = decide(a_watch(), verdict(VerdictKind.INCONCLUSIVE, Reason.UNCALIBRATED, alarm=3), Brakes(), NOW)
    assert (decision.kind, decision.hold) == (DecisionKind.HOLD, HoldReason.UNCALIBRATED)


def test_without_hook_or_target_a_degraded_deploy_is_held() -> None:
    """There is nothing to go back with, or nowhere to go back to; both are said."""
    watch = a_watch()
    no_hook = replace(watch, plan=replace(watch.plan, rollback_hook=None))
    no_target = replace(watch, deploy=replace(watch.deploy, previous_version=None))
    assert decide(no_hook, DEGRADED, Brakes(), NOW).hold is HoldReason.NO_HOOK
    assert decide(no_target, DEGRADED, Brakes(), NOW).hold is HoldReason.NO_TARGET


@pytest.mark.parametrize(
    ("migration", "words"),
    [
        ("none", "going back may not help"),
        ("expand", "expand migration, which both versions run into"),
        ("contract", "v1 may not work with its schema"),
        ("irreversible", "irreversible migration"),
        ("unknown", "unknown migration"),
    ],
)
def test_a_shared_cause_is_held_and_names_the_migration_of_the_deploy(migration: str, words: str) -> None:
    """A lock or a schema that v1 does not know comes with the deploy; it is no excuse, and no proof either."""
    said = decide(a_watch(), verdict(VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE), Brakes(migration=migration), NOW)
    assert (said.kind, said.hold) == (DecisionKind.HOLD, HoldReason.SHARED_CAUSE)
    assert words in said.why


@pytest.mark.parametrize("mode", list(Mode))
def test_worse_in_what_has_no_counterpart_is_held_and_judged_on(mode: Mode) -> None:
    """New routes or a fault: never promoted, nor rolled back for it, and back when it turns worse like for like."""
    unlike = verdict(VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART)
    said = decide(replace(a_watch(), mode=mode), unlike, Brakes(), NOW)
    assert (said.kind, said.hold, said.why) == (DecisionKind.HOLD, HoldReason.NO_COUNTERPART, "a human decides")
    assert replace(a_watch(), state=State.HELD, hold=said.hold).is_judged


def test_a_hold_for_a_migration_says_what_to_do_instead() -> None:
    """Somebody was woken up for it."""
    said = decide(a_watch(), DEGRADED, Brakes(migration="contract"), NOW)
    assert "contract" in said.why
    assert "fix forward" in said.why


def test_in_an_outage_a_sentence_names_a_few_of_the_many_services_that_are_hurt() -> None:
    """A thousand names are not read by anybody who was woken up."""
    shared = verdict(VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE)
    said = decide(a_watch(), shared, Brakes(hurt_too=tuple(f"s{i:03}" for i in range(1000))), NOW)
    assert "s000, s001, s002 and 997 more got worse at the same time" in said.why


def test_a_shared_cause_that_hurts_other_services_too_is_sought_outside_of_the_deploy() -> None:
    """A third party, a network: named by who else is hurt; a migration in the deploy is still named first."""
    shared = verdict(VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE)
    said = decide(a_watch(), shared, Brakes(hurt_too=("kiosk", "mail")), NOW)
    assert said.hold is HoldReason.SHARED_CAUSE
    assert "kiosk, mail got worse at the same time" in said.why
    assert "expand" in decide(a_watch(), shared, Brakes(hurt_too=("kiosk",), migration="expand"), NOW).why


@pytest.mark.parametrize("mode", [Mode.APPROVE, Mode.AUTO])
@pytest.mark.parametrize(("migration", "until"), [("irreversible", None), ("contract", None), ("none", NOW - 60.0)])
def test_who_may_approve_a_rollback_is_told_first_that_the_way_back_is_closed(
    mode: Mode, migration: str, until: float | None
) -> None:
    """A button that says approve, and no word that going back does harm, is pressed."""
    watch = a_watch()
    closed = replace(watch, mode=mode, deploy=replace(watch.deploy, safe_to_rollback_until=until))
    decision = decide(closed, DEGRADED, Brakes(migration=migration), NOW)
    assert (decision.kind, decision.hold) == (DecisionKind.HOLD, HoldReason.MIGRATION)
    assert "may do harm" in decision.why


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY])
@pytest.mark.parametrize("migration", ["none", "irreversible"])
def test_the_modes_that_only_tell_say_so_and_that_the_way_back_is_closed(mode: Mode, migration: str) -> None:
    """They stay as quiet as they are."""
    decision = decide(replace(a_watch(), mode=mode), DEGRADED, Brakes(migration=migration), NOW)
    assert decision.hold in (HoldReason.MODE_OBSERVE, HoldReason.MODE_NOTIFY)
    assert ("may do harm" in decision.why) == (migration == "irreversible")


@pytest.mark.parametrize(
    ("recent", "words"),
    [([rolled_back(NOW - 600)], "is a loop"), ([rolled_back(NOW - 80_000, left="v1")], "v1 was itself rolled back")],
)
def test_an_approval_is_asked_for_with_what_else_speaks_against_it(recent: list[Action], words: str) -> None:
    """The daemon by itself would not have gone back; whoever decides instead knows why."""
    decision = decide(replace(a_watch(), mode=Mode.APPROVE), DEGRADED, Brakes(recent=recent), NOW)
    assert decision.hold is HoldReason.APPROVAL
    assert words in decision.why


@pytest.mark.parametrize(
    ("mode", "severity"),
    [
        (Mode.OBSERVE, Severity.INFO),
        (Mode.NOTIFY, Severity.WARNING),
        (Mode.APPROVE, Severity.PAGE),
        (Mode.AUTO, Severity.PAGE),
    ],
)
@pytest.mark.parametrize("reason", [Reason.UNCALIBRATED, Reason.SHARED_CAUSE, Reason.NO_COUNTERPART])
def test_an_alarm_that_nobody_may_act_on_is_as_loud_as_its_mode(mode: Mode, severity: Severity, reason: Reason) -> None:
    """Mode observe is the first one, and wakes nobody up for a comparison that was never calibrated."""
    watch = replace(a_watch(), mode=mode)
    decision = decide(watch, verdict(VerdictKind.INCONCLUSIVE, reason, alarm=3), Brakes(), NOW)
    assert decision.hold is not None
    assert decision.hold.value == reason.value
    assert hold_severity(watch, decision.hold) is severity
    ended = held_expires(replace(watch, hold=decision.hold, hold_until=NOW), None, NOW)
    assert ended.messages[0].severity is (Severity.INFO if mode is Mode.OBSERVE else Severity.PAGE)


def test_a_hold_that_is_no_alarm_pages_in_every_mode() -> None:
    """What a hook of ours left unclear, or a load balancer does wrong, is there whatever is done about versions."""
    for reason in (HoldReason.SHARE_MISMATCH, HoldReason.SWITCH_FAILED, HoldReason.TARGET_GONE):
        assert hold_severity(replace(a_watch(), mode=Mode.OBSERVE), reason) is Severity.PAGE
