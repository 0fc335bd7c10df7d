"""How many were hit, and whether it is over."""

import math
from dataclasses import replace

import pytest

from analysis.prepare import Cells, LookFacts
from analysis.result import Design, Direction, Kind, MetricSpec, SourceStatus
from tests.fakes import counts
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.blast_radius import blast_radius, radius_fields, recovered, sent_to_the_absent
from watchdog.intended import rollback_action
from watchdog.model import ActionState, Metric, Plan, State, StoredLook
from watchdog.recovery import verify
from watchdog.selector import parse_selector
from watchdog.tally import Tally


def look(interval: int, cells: dict[str, Cells], status: SourceStatus = SourceStatus.OK) -> StoredLook:
    return StoredLook(interval=interval, facts=LookFacts(status=status), cells=cells)


def both(bad: float, total: float) -> Cells:
    return counts([("baseline", "a", 1.0, 900.0), ("candidate", "b", bad, total)])


def latency_plan() -> Plan:
    spec = MetricSpec(name="latency", kind=Kind.LATENCY)
    return replace(a_plan(), metrics=(Metric(spec=spec, series={"histogram": parse_selector("d")}),))


def buckets(arm: str, under: dict[float, float]) -> Cells:
    n = len(under)
    return Cells(
        arm=(arm,) * n, replica=("r",) * n, stratum=("",) * n, le=tuple(under), value=tuple(under.values()),
        total=(under[math.inf],) * n,
    )  # fmt: skip


def merged(*parts: Cells) -> Cells:
    return Cells(
        *(sum((getattr(p, f) for p in parts), ()) for f in ("arm", "replica", "stratum", "le", "value", "total"))
    )


def test_requests_of_the_candidate_are_exposed_and_its_errors_affected() -> None:
    """History does not count, nor do the baseline's errors."""
    past = look(-1, {"errors": counts([("history", "a", 50.0, 1000.0)])})
    radius = blast_radius(
        a_plan(), [past, look(0, {"errors": both(6, 100)}), look(1, {"errors": both(7, 110)})], "errors"
    )
    assert (radius.exposed, radius.affected, radius.total) == (210.0, 13.0, 2010.0)


def test_exposure_of_a_histogram_is_counted_once_however_many_buckets() -> None:
    """Affected are the requests slower than the old version's 90th percentile."""
    old = buckets("baseline", {0.1: 80.0, 0.25: 95.0, math.inf: 100.0})
    new = buckets("candidate", {0.1: 5.0, 0.25: 8.0, math.inf: 20.0})
    radius = blast_radius(latency_plan(), [look(0, {"latency": merged(old, new)})], "latency")
    assert (radius.exposed, radius.affected, radius.total) == (20.0, 12.0, 120.0)


def test_a_silent_candidate_beside_a_serving_baseline_is_recovered() -> None:
    """Traffic went back: that is the proof, not an exit code."""
    plan = a_plan()
    assert recovered(plan, [], look(5, {"errors": both(0, 0)}), deciding="errors") is True
    assert recovered(plan, [], look(5, {"errors": both(0, 3)}), deciding="errors") is False


def test_a_candidate_without_samples_is_recovered_only_when_known_to_be_gone() -> None:
    """One missed scrape is no proof; two in a row, or targets known to be down, are; of one that is up none is."""
    plan, absent = a_plan(), {"errors": counts([("baseline", "a", 1.0, 900.0)])}
    once = look(5, absent)
    gone = replace(once, facts=LookFacts(candidate_up=0))
    assert recovered(plan, [], once, deciding="errors") is None
    assert recovered(plan, [], once, deciding="errors", previous=look(4, {"errors": both(0, 3)})) is None
    assert recovered(plan, [], once, deciding="errors", previous=look(4, absent, SourceStatus.PARTIAL)) is None
    assert recovered(plan, [], once, deciding="errors", previous=look(4, absent)) is True
    assert recovered(plan, [], gone, deciding="errors") is True
    up = replace(once, facts=LookFacts(baseline_up=3, candidate_up=1))
    assert recovered(plan, [], up, deciding="errors", previous=replace(up, interval=4)) is None


@pytest.mark.parametrize("status", [SourceStatus.DOWN, SourceStatus.PARTIAL])
def test_an_interval_that_cannot_tell_proves_nothing(status: SourceStatus) -> None:
    """Neither recovered nor not."""
    assert recovered(a_plan(), [], look(5, {"errors": both(0, 3)}, status), deciding="errors") is None
    assert recovered(a_plan(), [], look(5, {}), deciding="errors") is None


def test_before_after_is_recovered_when_the_level_is_nearer_to_the_baseline() -> None:
    """Everybody is the candidate there, so only the level can tell."""
    plan = a_plan(design=Design.BEFORE_AFTER)
    past = [look(-1, {"errors": counts([("baseline", "a", 10.0, 1000.0)])})]
    past += [look(i, {"errors": counts([("candidate", "a", 60.0, 1000.0)])}) for i in range(3)]

    def now(bad: float) -> StoredLook:
        return look(4, {"errors": counts([("candidate", "a", bad, 1000.0)])})

    assert recovered(plan, past, now(12), deciding="errors") is True
    assert recovered(plan, past, now(55), deciding="errors") is False


def test_without_a_request_metric_only_a_candidate_that_is_gone_is_a_proof() -> None:
    """A gauge goes on being read where no traffic goes."""
    spec = MetricSpec(name="cpu", kind=Kind.GAUGE)
    plan = replace(a_plan(), metrics=(Metric(spec=spec, series={"gauge": parse_selector("cpu")}),))
    alive = replace(look(5, {}), facts=LookFacts(baseline_up=3, candidate_up=1))
    gone = replace(look(5, {}), facts=LookFacts(baseline_up=3, candidate_up=0))
    assert recovered(plan, [], alive, deciding="cpu") is None
    assert recovered(plan, [], gone, deciding="cpu") is True


def test_before_after_nobody_is_exposed_after_the_rollback() -> None:
    """Half of the second interval was bad: its exposure counts half, and the errors v1 makes anyway not at all."""
    plan = a_plan(design=Design.BEFORE_AFTER)

    def after(interval: int, bad: float) -> StoredLook:
        return look(interval, {"errors": counts([("candidate", "a", bad, 1000.0)])})

    past = look(-1, {"errors": counts([("baseline", "a", 10.0, 1000.0)])})
    radius = blast_radius(plan, [past, after(0, 60.0), after(1, 35.0), after(2, 10.0)], "errors", step_ends=1.5)
    assert (radius.exposed, radius.affected, radius.total) == (1500.0, 90.0, 3000.0)


def test_what_was_sent_to_an_absent_candidate_is_estimated_from_its_share() -> None:
    """It counted nothing itself; its share of the traffic until the rollback was lost."""
    serving = [look(i, {"errors": counts([("baseline", "a", 1.0, 900.0)])}) for i in range(3)]
    radius = sent_to_the_absent(a_plan(), serving, share=0.1, step_ends=2.0)
    assert radius.exposed == radius.affected == pytest.approx(200)
    assert radius.total == pytest.approx(2900)


def orders_plan() -> Plan:
    spec = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD)
    orders = Metric(spec=spec, series={"events": parse_selector("o"), "exposure": parse_selector("r")})
    return replace(a_plan(), metrics=(*a_plan().metrics, orders))


def sold(v2: float, visits: float) -> dict[str, Cells]:
    """7 orders of 100 visits in v1, and so many in v2; the last visit of v2 failed."""
    orders = counts([("baseline", "a", 63.0, 900.0), ("candidate", "b", v2, visits)])
    return {"errors": both(float(visits > 0), visits), "orders": orders}


def test_affected_by_a_rate_that_fell_is_what_is_missing() -> None:
    """7 orders of 100 visits in v1, 4 in v2: three orders are missing; errors do not count."""
    radius = blast_radius(orders_plan(), [look(0, sold(4.0, 100.0))], "orders")
    assert (radius.exposed, round(radius.affected, 6), radius.total) == (100.0, 3.0, 1000.0)


def test_the_closing_sentence_of_a_rate_that_fell_says_what_it_cost() -> None:
    """Nothing went wrong for anybody who looks at errors."""
    watch = replace(a_watch(state=State.VERIFYING), plan=orders_plan(), metric="orders", degraded_at=DEPLOYED_AT + 6)
    back = rollback_action(watch, ActionState.APPLIED, DEPLOYED_AT + 6)
    assert back is not None
    back = replace(back, finished_at=DEPLOYED_AT + 7)
    ended = verify(watch, [look(0, sold(4.0, 100.0))], [look(2, sold(0.0, 0.0))], back, DEPLOYED_AT + 16)
    assert ended is not None
    assert ended.to_state is State.ROLLED_BACK
    assert "100 of 1\u202f900 requests reached v2, which cost about 3 orders" in str(ended.fields["sentence"])


def conversion_plan(design: Design) -> Plan:
    spec = MetricSpec(name="conversion", kind=Kind.RATIO, direction=Direction.DOWN_IS_BAD)
    conversion = Metric(spec=spec, series={"bad": parse_selector("o"), "total": parse_selector("v")})
    return replace(a_plan(design=design), metrics=(conversion,))


@pytest.mark.parametrize("deciding", ["conversion", None])
@pytest.mark.parametrize("design", Design)
def test_affected_by_a_share_that_fell_is_what_is_missing(design: Design, deciding: str | None) -> None:
    """10 % of the visits ordered and 2 % do: 80 of 1 000 are missing; the 20 orders are what went well."""
    old, new = ("baseline", "a", 100.0, 1000.0), ("candidate", "b", 20.0, 1000.0)
    arms = [(0, [old, new])] if design is Design.CONCURRENT else [(-1, [old]), (0, [new])]
    looks = [look(interval, {"conversion": counts(rows)}) for interval, rows in arms]
    plan = conversion_plan(design)
    radius = blast_radius(plan, looks, deciding)
    assert radius.exposed == 1000.0
    assert radius.affected == pytest.approx(80.0)
    watch = replace(a_watch(), plan=plan, metric=deciding)
    assert Tally.of(plan, looks).radius_fields(watch) == radius_fields(watch, looks)


def test_of_a_share_that_fell_before_and_after_nothing_is_missing_after_the_rollback() -> None:
    """The old version serves again, and has what it had."""
    rows = {-1: ("baseline", 100.0), 0: ("candidate", 20.0), 1: ("candidate", 60.0), 2: ("candidate", 100.0)}
    looks = [look(i, {"conversion": counts([(arm, "a", good, 1000.0)])}) for i, (arm, good) in rows.items()]
    radius = blast_radius(conversion_plan(Design.BEFORE_AFTER), looks, "conversion", step_ends=1.5)
    assert radius.exposed == 1500.0
    assert radius.affected == pytest.approx(120.0)


def test_without_a_usual_share_nothing_is_known_to_be_missing() -> None:
    """The old version was not heard of."""
    alone = look(0, {"conversion": counts([("candidate", "b", 20.0, 1000.0)])})
    assert blast_radius(conversion_plan(Design.CONCURRENT), [alone], "conversion").affected == 0.0


def test_slow_is_told_by_a_bound_that_both_versions_have() -> None:
    """A new layout of buckets made every request of the new version slow."""
    old = buckets("baseline", {0.1: 50.0, 0.25: 950.0, 0.5: 990.0, math.inf: 1000.0})
    new = buckets("candidate", {0.1: 49.0, 0.3: 950.0, 0.5: 970.0, math.inf: 1000.0})
    assert blast_radius(latency_plan(), [look(0, {"latency": merged(old, new)})], "latency").affected == 30.0
    other = buckets("candidate", {0.1: 49.0, 0.3: 950.0, 0.6: 970.0, math.inf: 1000.0})
    assert blast_radius(latency_plan(), [look(0, {"latency": merged(old, other)})], "latency").affected == 0.0


def test_of_instances_without_the_bound_nothing_is_said() -> None:
    """One of two has it: its slow requests are known, and the other's are not taken for slow."""
    old = buckets("baseline", {0.1: 50.0, 0.25: 950.0, math.inf: 1000.0})
    new = buckets("candidate", {0.1: 5.0, 0.25: 90.0, math.inf: 100.0})
    other = replace(buckets("candidate", {0.1: 5.0, 0.3: 90.0, math.inf: 100.0}), replica=("s",) * 3)
    looks = [look(0, {"latency": merged(old, new, other)})]
    plan = latency_plan()
    assert blast_radius(plan, looks, "latency").affected == 10.0
    watch = replace(a_watch(), plan=plan, metric="latency")
    assert Tally.of(plan, looks).radius_fields(watch) == radius_fields(watch, looks)


def test_the_closing_sentence_of_a_share_that_fell_says_what_is_missing() -> None:
    """20 of 1 000 visits ordered: they did not go wrong."""
    plan = conversion_plan(Design.CONCURRENT)
    watch = replace(a_watch(state=State.VERIFYING), plan=plan, metric="conversion", degraded_at=DEPLOYED_AT + 6)
    back = rollback_action(watch, ActionState.APPLIED, DEPLOYED_AT + 6)
    assert back is not None
    back = replace(back, finished_at=DEPLOYED_AT + 7)
    bad, well = (
        {"conversion": counts([("baseline", "a", 100.0, 1000.0), ("candidate", "b", good, visits)])}
        for good, visits in ((20.0, 1000.0), (0.0, 0.0))
    )
    ended = verify(watch, [look(0, bad)], [look(2, well)], back, DEPLOYED_AT + 16)
    assert ended is not None
    assert "and about 80 of them are missing in conversion" in str(ended.fields["sentence"])
