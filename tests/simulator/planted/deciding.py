"""Bugs of evidence, verdicts and brakes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.prepare import LookFacts
from analysis.result import SourceStatus
from tests.simulator.faults import Fault
from tests.simulator.planted.bug import Bugs, Ground
from watchdog import collecting, intake, intervals, other_rollbacks, pipeline, policy
from watchdog.judging import Judging, Seen
from watchdog.model import Change, Decision, DecisionKind, Limits, StoredLook, Watch
from watchdog.pipeline import Pipeline
from watchdog.sources import fold

FOUND = Bugs()
_GONE = LookFacts(baseline_up=1, candidate_up=0, candidate_down=1)


@FOUND.breaks("I8", 2, needs=(Fault.SOURCE_NAN,))
def what_is_no_number_is_read_as_zero(ground: Ground) -> None:
    ground.put(fold, "_known", lambda placed: ((p, q, one) for p, q, one in placed if math.isfinite(one.value)))


@FOUND.breaks("I8", 133, needs=(Fault.SOURCE_GAPS,))
def missing_metrics_are_bad_metrics(ground: Ground) -> None:
    _taken_as_gone(ground, lambda look: not look.cells and look.facts.status is SourceStatus.OK)


@FOUND.breaks("I8", 9, needs=(Fault.SOURCE_DOWN,))
def a_source_that_is_down_is_a_candidate_that_is_down(ground: Ground) -> None:
    _taken_as_gone(ground, lambda look: look.facts.status is SourceStatus.DOWN)


def _taken_as_gone(ground: Ground, when: Callable[[StoredLook], bool]) -> None:
    def kept(real: Callable[..., list[StoredLook]], looks: list[StoredLook]) -> list[StoredLook]:
        return [replace(look, facts=_GONE) if when(look) else look for look in real(looks)]

    ground.wrap(collecting, "kept", kept)


@FOUND.breaks("I8", 2, needs=(Fault.SOURCE_DOWN,))
def no_evidence_is_good_evidence(ground: Ground) -> None:
    def decide(real: Callable[..., Decision], *args: object) -> Decision:
        found = real(*args)
        return replace(found, kind=DecisionKind.PASS) if found.kind is DecisionKind.CONCLUDE else found

    ground.wrap(pipeline, "decide", decide)


@FOUND.breaks("P14", 1)
def the_budget_is_spent_twice(ground: Ground) -> None:
    def begin(real: Callable[..., object], judging: Judging, watches: Sequence[Watch], seen: object) -> object:
        return real(judging, [_with_twice_the_budget(watch) for watch in watches], seen)

    ground.wrap(Judging, "begin", begin)


def _with_twice_the_budget(watch: Watch) -> Watch:
    settings = replace(watch.plan.judge, budget=2 * watch.plan.judge.budget)
    return replace(watch, plan=replace(watch.plan, judge=settings))


@FOUND.breaks("P14 I4", 1)
def the_last_look_counts_twice(ground: Ground) -> None:
    def seen(real: Callable[..., Seen], judging: Judging, watch: Watch, fresh: Sequence[StoredLook]) -> Seen:
        return real(judging, watch, [*fresh, replace(fresh[-1], interval=fresh[-1].interval + 1)])

    ground.wrap(Judging, "seen", seen)


@FOUND.breaks("P14 I8", 1)
def what_begins_late_is_not_looked_at(ground: Ground) -> None:
    def seen(real: Callable[..., Seen], judging: Judging, watch: Watch, fresh: Sequence[StoredLook]) -> Seen:
        return real(judging, watch, [replace(look, cells={}) if look.interval > 1 else look for look in fresh])

    ground.wrap(Judging, "seen", seen)


@FOUND.breaks("I4", 1)
def a_look_is_counted_that_was_not_stored(ground: Ground) -> None:
    def recorded(real: Callable[..., Change], *args: object, **named: object) -> Change:
        change = real(*args, **named)
        return replace(change, looks=change.looks[:-1])

    ground.wrap(pipeline, "look_recorded", recorded)


@FOUND.breaks("I3", 51)
def the_cool_down_is_forgotten(ground: Ground) -> None:
    _limited_by(ground, cool_down_s=0.0, bad_target_s=0.0)


@FOUND.breaks("I3", 97)
def the_breaker_is_forgotten(ground: Ground) -> None:
    _limited_by(ground, breaker_rollbacks=1_000_000)


@FOUND.breaks("I3", 20)
def a_rollback_is_rolled_back(ground: Ground) -> None:
    ground.put(intake, "_mode", lambda deploy, service, around, since: service.mode)
    ground.put(other_rollbacks, "_stopped_by_others", lambda *_: None)


def _limited_by(ground: Ground, **limits: float) -> None:
    def stopped(
        real: Callable[..., object], way: object, rollbacks: object, active: int, by: Limits, now: float
    ) -> object:
        return real(way, rollbacks, active, replace(by, **limits), now)  # type: ignore[arg-type]

    ground.wrap(other_rollbacks, "_stopped_by_others", stopped)


@FOUND.breaks("I3", 4)
def the_mode_of_a_service_is_ignored(ground: Ground) -> None:
    ground.put(policy, "_MODE_HOLDS", {})


@FOUND.breaks("P1", 2)
def a_watch_that_its_last_look_did_not_end_is_never_looked_at_again(ground: Ground) -> None:
    def decide(real: Callable[..., Decision], watch: Watch, *args: object) -> Decision:
        found = real(watch, *args)
        late = watch.looks == watch.plan.judge.planned_looks and found.kind in (
            DecisionKind.PASS,
            DecisionKind.CONCLUDE,
        )
        return replace(found, kind=DecisionKind.WAIT) if late else found

    ground.wrap(pipeline, "decide", decide)
    ground.put(intervals, "_wants", lambda watch, interval: interval < watch.plan.judge.planned_looks)


@FOUND.breaks("P1", 1)
def a_hold_never_expires(ground: Ground) -> None:
    ground.put(Pipeline, "_expire", lambda road, watch: None)
