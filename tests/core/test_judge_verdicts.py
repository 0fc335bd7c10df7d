"""Each verdict and each reason, on watches made for it, with shipped settings."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, Reason, SourceStatus, VerdictKind
from analysis.simulate import ERRORS, LATENCY, Service, observe

SETTINGS = JudgeSettings(planned_looks=18)
BEFORE_AFTER = Service(design=Design.BEFORE_AFTER, replicas=1, past=60)


def _draw(service: Service, *, seed: int = 1, metrics: tuple[MetricSpec, ...] = (ERRORS, LATENCY)) -> Observation:
    return observe(service, np.random.default_rng(seed), metrics)


def _until(watch: Observation, looks: int) -> Observation:
    return replace(watch, looks=looks)


def _without(watch: Observation, arm: Arm, looks: range) -> Observation:
    """The watch without one arm's cells in some intervals."""
    samples = dict(watch.samples)
    for (name, i), c in watch.samples.items():
        if i in looks:
            keep = [k for k, a in enumerate(c.arm) if a != arm]
            columns = (tuple(col[k] for k in keep) for col in (c.arm, c.replica, c.stratum, c.le, c.value, c.total))
            samples[name, i] = Cells(*columns)  # type: ignore[arg-type]
    return replace(watch, samples=samples)


def _facts(watch: Observation, facts: dict[int, LookFacts]) -> Observation:
    return replace(watch, facts={**watch.facts, **facts})


def test_healthy_says_which_regression_would_have_been_seen() -> None:
    """The end of a good canary: both arms, effect, amounts, and what was not there."""
    verdict = judge([_draw(Service())], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.HEALTHY, None)
    assert verdict.sentence.startswith("healthy: errors 0.")
    assert "requests); an increase to ×" in verdict.sentence
    assert 1 < verdict.evidence[0].detectable <= SETTINGS.seen_ratio
    assert "\u202f" in verdict.sentence


def test_errors_are_degraded_with_onset_effect_and_evidence() -> None:
    """0.75 % -> 6 % from 00:45 on: named, dated, sized."""
    verdict = judge([_draw(Service(errors_after=0.06, onset=9))], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason, verdict.metric) == (VerdictKind.DEGRADED, Reason.METRICS, "errors")
    assert verdict.alarm_look is not None
    assert 9 <= verdict.alarm_look <= 12
    assert abs((verdict.since_look or 0) - 9) <= 2
    assert verdict.evidence[0].effect_low < 8 < verdict.evidence[0].effect_high
    assert "the deploy, evidence" in verdict.sentence
    assert "(100 is enough)" in verdict.sentence


def test_an_alarm_is_never_taken_back() -> None:
    """Degraded stays degraded at every later look, whatever follows."""
    watch = _draw(Service(errors_after=0.06))
    verdicts = judge([_until(watch, k) for k in range(1, 19)], [SETTINGS] * 18)
    first = next(i for i, v in enumerate(verdicts) if v.kind is VerdictKind.DEGRADED)
    assert all(v.kind is VerdictKind.DEGRADED and v.alarm_look == first for v in verdicts[first:])


def test_slow_requests_are_degraded_by_a_bucket_bound() -> None:
    """Latency +60 %: the sentence names the bound that shows it."""
    verdict = judge([_draw(Service(slowdown=1.6))], [SETTINGS])[0]
    assert (verdict.kind, verdict.metric) == (VerdictKind.DEGRADED, "latency")
    assert "latency above 0." in verdict.sentence


def test_before_the_first_interval_nothing_is_said() -> None:
    """No closed interval: INCONCLUSIVE, look -1."""
    verdict = judge([_until(_draw(Service()), 0)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason, verdict.look) == (VerdictKind.INCONCLUSIVE, Reason.NO_DATA, -1)


def test_too_few_looks_and_too_little_traffic_are_low_traffic() -> None:
    """The sentence says what could not have been seen and what to do."""
    early = judge([_until(_draw(Service()), 3)], [SETTINGS])[0]
    assert early.reason is Reason.LOW_TRAFFIC
    assert "look 3 of at least 6" in early.sentence
    thin = judge([_draw(Service(requests=30))], [SETTINGS])[0]
    assert thin.reason is Reason.LOW_TRAFFIC
    assert "too little traffic" in thin.sentence
    assert "send more traffic" in thin.sentence


def test_a_source_that_is_down_is_said_at_its_first_look() -> None:
    """Down now: SOURCE_DOWN with the detail, neither healthy nor degraded; back again: judged again."""
    watch = _draw(Service())
    down = {i: LookFacts(status=SourceStatus.DOWN, detail="connection refused") for i in range(5, 9)}
    gap = _facts(watch, down)
    verdicts = judge([_until(gap, k) for k in (5, 6, 9, 10, 18)], [SETTINGS] * 5)
    assert [v.reason for v in verdicts[1:3]] == [Reason.SOURCE_DOWN] * 2
    assert "connection refused" in verdicts[1].sentence
    assert verdicts[0].reason is Reason.LOW_TRAFFIC
    assert verdicts[3].reason is not Reason.SOURCE_DOWN
    assert verdicts[4].kind is VerdictKind.HEALTHY


def test_a_watch_that_ends_with_its_source_down_is_inconclusive() -> None:
    """Twelve good looks do not make a deploy healthy whose source died."""
    down = {i: LookFacts(status=SourceStatus.DOWN) for i in range(12, 18)}
    verdict = judge([_facts(_draw(Service()), down)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.SOURCE_DOWN)


def test_a_source_that_was_down_most_of_the_time_says_so() -> None:
    """Answering at the last looks only is not enough."""
    down = {i: LookFacts(status=SourceStatus.DOWN) for i in range(15)}
    verdict = judge([_facts(_draw(Service()), down)], [SETTINGS])[0]
    assert verdict.reason is Reason.SOURCE_DOWN
    assert "only 3 of 18 looks" in verdict.sentence


def test_partial_intervals_are_not_weighed() -> None:
    """Errors that stand in partial answers do not count, and the sentence tells why nothing is judged."""
    watch = _draw(Service(errors_after=0.5))
    partial = {i: LookFacts(status=SourceStatus.PARTIAL, detail="1 of 3 shards") for i in range(18)}
    verdict = judge([_facts(watch, partial)], [SETTINGS])[0]
    assert verdict.reason is Reason.SOURCE_DOWN
    assert verdict.log_evidence == pytest.approx(0.0)
    assert "only in part (1 of 3 shards)" in verdict.sentence


def test_missing_candidate_metrics_are_no_data_and_never_roll_back() -> None:
    """The source answers, the candidate's instances are up, its metrics are not there."""
    watch = _without(_draw(Service()), Arm.CANDIDATE, range(18))
    verdict = judge([watch], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_DATA)
    assert "candidate" in verdict.sentence
    gone = _without(_draw(Service()), Arm.BASELINE, range(12, 18))
    assert "baseline" in judge([gone], [SETTINGS])[0].sentence


def test_metrics_that_are_merely_missing_prove_no_absence() -> None:
    """Nobody knows about targets, nobody announced instances: NO_DATA, not CANDIDATE_ABSENT."""
    watch = replace(_without(_draw(Service()), Arm.CANDIDATE, range(18)), facts={}, candidate_expected=None)
    assert judge([watch], [SETTINGS])[0].reason is Reason.NO_DATA


def _absent(looks: range, *, down: int = 1, up: int = 0, baseline_up: int = 3) -> Observation:
    watch = _without(_draw(Service()), Arm.CANDIDATE, looks)
    return _facts(watch, {i: LookFacts(baseline_up=baseline_up, candidate_up=up, candidate_down=down) for i in looks})


def test_a_candidate_proven_down_is_absent_after_three_looks() -> None:
    """Refused connections, fresh baseline, no requests: DEGRADED at the third look in a row."""
    verdicts = judge([_until(_absent(range(4, 18)), k) for k in (6, 7, 18)], [SETTINGS] * 3)
    assert verdicts[0].reason is not Reason.CANDIDATE_ABSENT
    assert (verdicts[1].kind, verdicts[1].reason) == (VerdictKind.DEGRADED, Reason.CANDIDATE_ABSENT)
    assert (verdicts[2].reason, verdicts[2].alarm_look) == (Reason.CANDIDATE_ABSENT, 6)
    assert "since 20 s after the deploy, 3 looks in a row" in verdicts[2].sentence


@pytest.mark.parametrize("change", ["up", "switch", "stale", "serving", "down", "warm-up"])
def test_absence_needs_every_part_of_its_proof(change: str) -> None:
    """A living instance, the switch, a silent baseline, served requests or a silent source each refute it."""
    watch, settings = _absent(range(4, 18)), SETTINGS
    if change == "up":
        watch = _absent(range(4, 18), up=1)
    if change == "switch":
        settings = replace(SETTINGS, judge_absence=False)
    if change == "stale":
        watch = _without(_absent(range(4, 18), baseline_up=0), Arm.BASELINE, range(4, 18))
    if change == "serving":
        watch = replace(watch, samples=_draw(Service()).samples)
    if change == "warm-up":
        watch, settings = _absent(range(3)), replace(SETTINGS, warm_up_looks=6)
    if change == "down":
        watch = _facts(watch, {i: replace(watch.facts[i], status=SourceStatus.DOWN) for i in range(4, 18)})
    assert judge([watch], [settings])[0].reason is not Reason.CANDIDATE_ABSENT


def test_an_announced_candidate_of_a_recorded_case_may_be_gone() -> None:
    """Levels at 0 while the peers' are not, five looks in a row, nobody watching targets."""
    spec = MetricSpec(name="cpu", kind=Kind.GAUGE)
    rng = np.random.default_rng(0)
    samples = {}
    for i in range(12):
        values = (*rng.normal(50, 1, 3).tolist(), 0.0 if i >= 4 else 50.0)
        samples["cpu", i] = Cells(("baseline",) * 3 + ("candidate",), ("a", "b", "c", "d"), value=values)
    watch = Observation(
        design=Design.CONCURRENT, step_s=60, metrics=(spec,), samples=samples, looks=12, candidate_expected=1
    )
    verdict = judge([watch], [SETTINGS])[0]
    assert (verdict.reason, verdict.alarm_look) == (Reason.CANDIDATE_ABSENT, 8)
    assert judge([replace(watch, candidate_expected=None)], [SETTINGS])[0].reason is not Reason.CANDIDATE_ABSENT
    watched = replace(SETTINGS, guess_absence=False)
    assert judge([watch], [watched])[0].reason is not Reason.CANDIDATE_ABSENT


@pytest.mark.parametrize("silent", ["queue", "orders"])
def test_a_candidate_that_serves_is_not_gone_whatever_else_it_does_not_report(silent: str) -> None:
    """An idle queue is 0, a metric may be renamed: requests reach it all the same."""
    kind = Kind.GAUGE if silent == "queue" else Kind.RATE
    specs = (MetricSpec(name="errors", kind=Kind.RATIO, critical=True), MetricSpec(name=silent, kind=kind))
    rng = np.random.default_rng(2)
    samples = {}
    for i in range(12):
        arms, who = ("baseline",) * 3 + ("candidate",), ("a", "b", "c", "d")
        errors = tuple(map(float, rng.binomial(300, 0.01, 4)))
        samples["errors", i] = Cells(arms, who, value=errors, total=(300.0,) * 4)
        if silent == "queue":
            samples[silent, i] = Cells(arms, who, value=(3.0, 4.0, float(1 + i % 3), 0.0))
        else:
            samples[silent, i] = Cells(arms[:3], who[:3], value=(30.0,) * 3, total=(300.0,) * 3)
    watch = Observation(
        design=Design.CONCURRENT, step_s=10, metrics=specs, samples=samples, looks=12, candidate_expected=1
    )
    assert judge([watch], [SETTINGS])[0].reason is not Reason.CANDIDATE_ABSENT


def _stops_being_asked(requests: int, design: Design) -> Observation:
    """Errors at 1 %; from look 12 on the candidate's counters stand still."""
    spec = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
    rng = np.random.default_rng(3)
    samples = {}
    for i in range(-30, 24):
        served = requests if i < 12 else 0
        arms = [("baseline", f"b{k}", 300) for k in range(3)] if i < 0 or design is Design.CONCURRENT else []
        arms += [("candidate", "c", served)] if i >= 0 else []
        if i < 0 and design is Design.CONCURRENT:
            continue
        samples["errors", i] = Cells(
            tuple(arm for arm, _, _ in arms),
            tuple(who for _, who, _ in arms),
            value=tuple(float(rng.binomial(n, 0.01)) for _, _, n in arms),
            total=tuple(float(n) for _, _, n in arms),
        )
    return Observation(design=design, step_s=10, metrics=(spec,), samples=samples, looks=24)


@pytest.mark.parametrize("design", [Design.CONCURRENT, Design.BEFORE_AFTER])
def test_a_candidate_that_no_request_reaches_any_more_is_not_called_healthy(design: Design) -> None:
    """A server that hangs answers nothing, and its counters stand still: what is known is of before."""
    verdict = judge([_stops_being_asked(900, design)], [replace(SETTINGS, act_uncalibrated=True)])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_DATA)
    assert "no request has reached the new version since 2 min after the deploy (12 looks)" in verdict.sentence


def test_where_requests_are_rare_a_quiet_time_is_nothing() -> None:
    """With a request every third look, three looks of none are no news."""
    watch = _stops_being_asked(900, Design.CONCURRENT)
    spec = watch.metrics[0]
    rare = {
        (spec.name, i): Cells(
            ("baseline", "candidate"), ("b", "c"), value=(3.0, 0.0), total=(300.0, float(i % 3 == 0 and i < 21))
        )
        for i in range(24)
    }
    assert "no request" not in judge([replace(watch, samples=rare)], [SETTINGS])[0].sentence


def test_one_series_in_both_arms_is_misconfigured() -> None:
    """Identical changing exposure for ten looks: the label does not tell the arms apart."""
    rng = np.random.default_rng(1)
    samples = {}
    for i in range(18):
        n = float(rng.poisson(500))
        samples["errors", i] = Cells(("baseline", "candidate"), ("a", "a"), ("", ""), (np.inf,) * 2, (3.0, 3.0), (n, n))
    watch = Observation(design=Design.CONCURRENT, step_s=5, metrics=(ERRORS,), samples=samples, looks=18)
    verdicts = judge([_until(watch, 9), watch], [SETTINGS] * 2)
    assert verdicts[0].reason is not Reason.MISCONFIGURED
    assert verdicts[1].reason is Reason.MISCONFIGURED
    assert "check the version label" in verdicts[1].sentence


def test_equal_error_counts_of_zero_are_not_misconfigured() -> None:
    """Both arms without errors, exposures of their own."""
    assert judge([_draw(Service(errors=0.0), metrics=(ERRORS,))], [SETTINGS])[0].reason is not Reason.MISCONFIGURED


def test_garbage_is_named_and_never_weighed() -> None:
    """More errors than requests: INCONCLUSIVE, with the array in the sentence; other watches are judged."""
    good = _draw(Service(errors_after=0.06))
    bad = replace(
        good, samples={**good.samples, ("errors", 4): Cells(("candidate",), ("x",), value=(9.0,), total=(3.0,))}
    )
    verdicts = judge([bad, good], [SETTINGS] * 2)
    assert (verdicts[0].kind, verdicts[0].reason) == (VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED)
    assert "errors: candidate value: more bad events than events" in verdicts[0].sentence
    assert verdicts[1].kind is VerdictKind.DEGRADED


def test_a_baseline_that_gets_worse_too_is_a_shared_cause() -> None:
    """Both arms at four times the past's errors: not healthy, not the candidate's fault."""
    verdict = judge([_draw(Service(past=60, shared=(4.0,)))], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE)
    assert "the old version itself got worse" in verdict.sentence
    assert judge([_draw(Service(past=60))], [SETTINGS])[0].kind is VerdictKind.HEALTHY


def _slower_everywhere(service: Service) -> Observation:
    """A watch since whose begin both versions take twice the time."""
    before, now = _draw(service), _draw(replace(service, latency_median_s=2 * service.latency_median_s))
    return replace(now, samples={key: (before if key[1] < 0 else now).samples[key] for key in now.samples})


def test_a_baseline_that_gets_slower_too_is_a_shared_cause() -> None:
    """Twice the latency in both arms: a lock, an exhausted pool; the bound that shows it is named."""
    verdict = judge([_slower_everywhere(Service(past=60))], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason, verdict.metric) == (
        VerdictKind.INCONCLUSIVE,
        Reason.SHARED_CAUSE,
        "latency",
    )
    assert "the old version itself got worse: latency above 0." in verdict.sentence
    alone = judge([_slower_everywhere(Service(past=60, slowdown=4.0))], [SETTINGS])[0]
    assert (alone.kind, alone.metric) == (VerdictKind.DEGRADED, "latency")


def test_a_steady_old_version_is_no_shared_cause() -> None:
    """Unchanged services with noise of their own: at most 1 of 60 is suspected of one."""
    services = (Service(past=60, latency_noise=0.05, noise_ar=0.5), Service(past=90, swing=0.5, noise_v=0.1))
    watches = [_draw(service, seed=seed) for service in services for seed in range(30)]
    reasons = [verdict.reason for verdict in judge(watches, [SETTINGS] * len(watches))]
    assert reasons.count(Reason.SHARED_CAUSE) <= 1


def test_a_worse_candidate_under_a_shared_cause_is_still_degraded() -> None:
    """The baseline's own trouble is no alibi."""
    verdict = judge([_draw(Service(past=60, shared=(2.0,), errors_after=0.08))], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.DEGRADED, Reason.METRICS)


def test_before_after_alarms_act_only_where_they_are_calibrated_or_allowed() -> None:
    """Unknown or bad placebo rate: UNCALIBRATED; a rate within budget or the operator's word: DEGRADED."""
    watch = _draw(replace(BEFORE_AFTER, errors_after=0.06))
    known = [
        SETTINGS,
        replace(SETTINGS, placebo_rate=0.03),
        replace(SETTINGS, placebo_rate=0.008),
        replace(SETTINGS, act_uncalibrated=True),
    ]
    verdicts = judge([watch] * 4, known)
    assert [v.reason for v in verdicts] == [Reason.UNCALIBRATED] * 2 + [Reason.METRICS] * 2
    assert all(v.alarm_look is not None and v.alarm_look <= 3 for v in verdicts)
    assert "unknown" in verdicts[0].sentence
    assert "3.0 %, above the budget of 1.0 %" in verdicts[1].sentence
    assert "uncalibrated as the operator allows" in verdicts[3].sentence
    healthy = judge([_draw(BEFORE_AFTER)], [SETTINGS])[0]
    assert healthy.kind is VerdictKind.HEALTHY


def test_fewer_orders_are_degraded_where_fewer_is_worse() -> None:
    """Conversion halves: the swapped arms see it, and the sentence reads as a ratio below one."""
    orders = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD, critical=True)
    service = Service(requests=4000, share=0.5, orders=0.05, lost=0.5)
    verdict = judge([_draw(service, metrics=(orders,))], [SETTINGS])[0]
    assert (verdict.kind, verdict.metric) == (VerdictKind.DEGRADED, "orders")
    assert verdict.evidence[0].effect_high < 1
    better = judge([_draw(replace(service, lost=-1.0), metrics=(orders,))], [SETTINGS])[0]
    assert better.kind is VerdictKind.HEALTHY
    assert "a fall to ×" in better.sentence


def test_noise_that_was_only_assumed_is_said() -> None:
    """One baseline replica and no history: the note tells that nobody measured the noise."""
    verdict = judge([_draw(Service(replicas=1))], [SETTINGS])[0]
    assert any("noise assumed" in note for note in verdict.notes)


def test_warm_up_looks_are_skipped() -> None:
    """A fault of the first two looks only is not judged when they are warm-up."""
    watch = _draw(Service(errors_after=1.0))
    calm = _draw(Service())
    samples = {key: watch.samples[key] if key[1] < 2 else cells for key, cells in calm.samples.items()}
    spiky = replace(calm, samples=samples)
    assert judge([spiky], [SETTINGS])[0].kind is VerdictKind.DEGRADED
    assert judge([spiky], [replace(SETTINGS, warm_up_looks=2)])[0].kind is VerdictKind.HEALTHY


def test_settings_must_match_observations() -> None:
    """One settings object per observation."""
    with pytest.raises(ValueError, match="settings: 0 for 1"):
        judge([_draw(Service())], [])


def test_no_sentence_ever_prints_nan_or_inf() -> None:
    """Empty arms, no errors, everything failing: words, not nan."""
    services = [Service(errors=0.0), Service(errors=0.0, errors_after=1.0), Service(requests=3), Service(looks=1)]
    verdicts = judge([_draw(s) for s in services], [SETTINGS] * len(services))
    for verdict in verdicts:
        for text in (verdict.sentence, *verdict.notes, *(e.sentence for e in verdict.evidence)):
            assert "nan" not in text
            assert "inf" not in text


def test_an_answer_that_holds_nothing_of_the_candidate_is_no_look_at_it() -> None:
    """Six looks with samples are six; five with samples and an empty one are five."""
    whole = _until(_draw(Service(requests=20_000)), 6)
    hole = _without(_without(whole, Arm.CANDIDATE, range(2, 3)), Arm.BASELINE, range(2, 3))
    assert judge([whole], [SETTINGS])[0].kind is VerdictKind.HEALTHY
    said = judge([hole], [SETTINGS])[0]
    assert (said.kind, said.reason) == (VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC)
    assert "look 5 of at least 6" in said.sentence
