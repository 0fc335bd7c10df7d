"""Error codes and exception types that the old version never showed."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from analysis.decode import decode
from analysis.judge import judge
from analysis.methods.labels import MOST, new_labels, remaining_weight
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind

CODES = MetricSpec(name="errors by code", kind=Kind.LABELS)
LOOKS, PAST, PODS = 40, 60, 4
SETTINGS = JudgeSettings(planned_looks=LOOKS, placebo_rate=0.0)
Counts = Mapping[str, Mapping[tuple[str, str], float]]  # arm → (replica, label) → events


def _cells(counts: Counts, requests: Mapping[str, float]) -> Cells:
    """All requests of a replica in the row without a label, its events in rows of their own."""
    rows = []
    for arm, total in requests.items():
        pods = PODS if arm == Arm.BASELINE else 2
        rows += [(arm, f"pod{i}", "", np.nan, 0.0, total / pods) for i in range(pods)]
        rows += [(arm, pod, code, np.nan, n, 0.0) for (pod, code), n in counts.get(arm, {}).items() if n]
    return Cells(*(tuple(column) for column in zip(*rows, strict=True)))


def _watch(
    draw: Callable[[int], Counts], *, share: float = 0.1, requests: float = 2000.0, past: int = PAST
) -> Observation:
    samples = {}
    for i in range(-past, LOOKS):
        arms = {"baseline": requests * (1 - share), "candidate": requests * share} if i >= 0 else {"baseline": requests}
        samples[CODES.name, i] = _cells(draw(i), arms)
    return Observation(design=Design.CONCURRENT, step_s=10, metrics=(CODES,), samples=samples, looks=LOOKS)


def _usual(rng: np.random.Generator, rate: float = 0.005, requests: float = 1800.0) -> dict[tuple[str, str], float]:
    return {(f"pod{i}", "E1"): float(rng.poisson(rate * requests / PODS)) for i in range(PODS)}


def _judged(watch: Observation) -> Verdict:
    return judge([watch], [SETTINGS])[0]


def _with_new(per_look: float, *, seed: int = 1, past: int = PAST, onset: int = 5) -> Observation:
    """The candidate throws E42 from `onset` on, on both of its pods."""
    rng = np.random.default_rng(seed)

    def counts(i: int) -> Counts:
        usual = {(f"pod{k}", "E1"): float(rng.poisson(0.5)) for k in range(2)}
        found = {"baseline": _usual(rng), "candidate": usual}
        if i >= onset:
            found["candidate"] |= {(f"pod{k}", "E42"): float(rng.poisson(per_look / 2)) for k in range(2)}
        return found

    return _watch(counts, past=past)


def test_a_code_that_only_the_new_version_throws_is_named_and_decides() -> None:
    """Half a percent of its requests: the sum of all errors would hardly move."""
    verdict = _judged(_with_new(1.0))
    assert (verdict.kind, verdict.reason, verdict.metric) == (VerdictKind.DEGRADED, Reason.METRICS, CODES.name)
    assert "new “E42”" in verdict.sentence
    assert "vs 0 %" in verdict.sentence
    assert verdict.evidence[0].dispersion_from == "replicas"
    assert verdict.since_look is not None
    assert 5 <= verdict.since_look <= 7


def test_codes_that_the_old_version_knows_are_no_news() -> None:
    """However many of them there are: that is for the metric of all errors to say."""
    rng = np.random.default_rng(2)
    watch = _watch(lambda i: {"baseline": _usual(rng), "candidate": {("pod0", "E1"): 30.0 if i >= 5 else 1.0}})
    verdict = _judged(watch)
    assert verdict.kind is not VerdictKind.DEGRADED
    assert verdict.evidence[0].sentence == "errors by code: nothing new"


def test_a_code_that_is_new_to_both_versions_accuses_nobody() -> None:
    """A third party invented it."""
    rng = np.random.default_rng(3)

    def counts(i: int) -> Counts:
        both = {"baseline": _usual(rng), "candidate": {("pod0", "E1"): float(rng.poisson(1.0))}}
        if i >= 5:
            both["baseline"] |= {(f"pod{k}", "E99"): float(rng.poisson(2.0)) for k in range(PODS)}
            both["candidate"] |= {("pod0", "E99"): float(rng.poisson(1.0))}
        return both

    assert _judged(_watch(counts)).kind is not VerdictKind.DEGRADED


def test_one_client_that_repeats_itself_is_one_piece_of_evidence() -> None:
    """Where replicas of the old version show such clients."""

    def counts(i: int) -> Counts:
        stuck = {("pod0", f"E{1 + i // 9 % 2}"): 30.0 if i % 9 < 4 else 0.0} if i < 0 else {}
        mine = {("pod0", "E42"): 3.0} if 5 <= i < 12 else {}
        return {"baseline": stuck, "candidate": mine}

    assert _judged(_watch(counts)).kind is not VerdictKind.DEGRADED


def test_two_events_are_no_evidence() -> None:
    """A new code now and then is what releases bring."""
    rng = np.random.default_rng(5)
    watch = _watch(lambda i: {"baseline": _usual(rng), "candidate": {("pod0", "E42"): 1.0 if i in (8, 20) else 0.0}})
    assert _judged(watch).kind is not VerdictKind.DEGRADED


def test_labels_alone_never_make_a_deploy_healthy() -> None:
    """Nothing new says nothing about the errors everybody knows."""
    rng = np.random.default_rng(6)
    watch = _watch(lambda _: {"baseline": _usual(rng), "candidate": {("pod0", "E1"): float(rng.poisson(1.0))}})
    assert _judged(watch).reason is Reason.LOW_TRAFFIC


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("routing", ["by request", "by client"])
def test_new_codes_of_an_unchanged_version_stay_within_the_budget(share: float, routing: str) -> None:
    """Rare codes turn up all the time, in whichever arm their request fell; or each from one client, on one pod."""
    n, false = 60, 0
    for seed in range(n):
        rng = np.random.default_rng([seed, int(100 * share)])
        false += _judged(_watch(_rare(rng, share, routing), share=share)).kind is VerdictKind.DEGRADED
    assert false <= binom.ppf(0.999, n, SETTINGS.budget)


def _rare(rng: np.random.Generator, share: float, routing: str) -> Callable[[int], Counts]:
    """A new code every few intervals, of 1 to 60 events (a heavy tail)."""

    def counts(i: int) -> Counts:
        found: dict[str, dict[tuple[str, str], float]] = {"baseline": _usual(rng), "candidate": {}}
        size = int(min(rng.pareto(1.0) + 1, 60)) if rng.random() < 0.3 else 0
        arms = rng.random(size) < share if routing == "by request" else np.full(size, rng.random() < share)
        pods = rng.integers(0, PODS, size) if routing == "by request" else np.full(size, rng.integers(0, PODS))
        for mine, pod in zip(arms, pods, strict=True):
            arm, place = ("candidate", pod % 2) if mine and i >= 0 else ("baseline", pod)
            key = (f"pod{place}", f"E{i}")
            found[arm][key] = found[arm].get(key, 0.0) + 1.0
        return found

    return counts


@given(st.integers(0, 1000), st.integers(6, LOOKS))
def test_later_looks_change_nothing_that_was_said(seed: int, looks: int) -> None:
    """Which labels are new, in which order, and with which weight."""
    rng = np.random.default_rng(seed)
    whole = _watch(_rare(rng, 0.5, "by request"), share=0.5, past=3)
    part = Observation(design=whole.design, step_s=10, metrics=(CODES,), samples=whole.samples, looks=looks)
    then, now = (new_labels(decode(watch).metrics[0]) for watch in (part, whole))
    known = {label.name: (label.first, label.weight) for label in now}
    assert {label.name: (label.first, label.weight) for label in then}.items() <= known.items()


def test_weights_are_spent_in_the_order_of_appearance_and_never_exceed_one() -> None:
    """1/2, 1/6, 1/12, ...: any number of labels costs no more than one metric."""
    rng = np.random.default_rng(7)
    watch = _watch(lambda i: {"baseline": _usual(rng), "candidate": {("pod0", f"N{i:02}"): 1.0 if i >= 0 else 0.0}})
    labels = new_labels(decode(watch).metrics[0])
    assert [label.name for label in labels] == [f"N{i:02}" for i in range(MOST)]
    assert [label.weight for label in labels[:3]] == [1 / 2, 1 / 6, 1 / 12]
    assert remaining_weight([label.weight for label in labels]) == pytest.approx(1 / (MOST + 1))


def _swapped(watch: Observation) -> Observation:
    """The arms change places from the deploy on."""
    other = {Arm.BASELINE.value: Arm.CANDIDATE.value, Arm.CANDIDATE.value: Arm.BASELINE.value}
    samples = {
        (name, i): replace(cells, arm=tuple(other[arm] for arm in cells.arm)) if i >= 0 else cells
        for (name, i), cells in watch.samples.items()
    }
    return replace(watch, samples=samples)


@pytest.mark.parametrize("seed", range(5))
def test_which_arm_showed_a_label_first_plays_no_part_in_whether_it_is_weighed(seed: int) -> None:
    """A label kept only where chance showed it in the candidate first would be evidence before a test is made."""
    watch = _watch(_rare(np.random.default_rng(seed), 0.5, "by request"), share=0.5, past=3)
    mine, theirs = (new_labels(decode(one).metrics[0]) for one in (watch, _swapped(watch)))
    assert mine == theirs
    assert len(mine) > 1


def test_a_code_that_the_old_version_happened_to_show_first_still_decides() -> None:
    """Once in the old version, and in every look of the new one."""
    rng = np.random.default_rng(10)

    def counts(i: int) -> Counts:
        once = {("pod0", "E42"): 1.0} if i == 0 else {}
        mine = {(f"pod{k}", "E42"): float(rng.poisson(1.0)) for k in range(2)} if i >= 5 else {}
        return {"baseline": _usual(rng) | once, "candidate": mine}

    verdict = _judged(_watch(counts))
    assert verdict.kind is VerdictKind.DEGRADED
    assert "new “E42”" in verdict.sentence


def test_a_code_that_only_the_old_version_shows_is_not_told_as_news() -> None:
    """Nor does what it would have taken make a deploy healthy."""
    rng = np.random.default_rng(11)
    old = {("pod0", "E42"): 20.0}
    mine = {("pod0", "E1"): 1.0}
    watch = _watch(lambda i: {"baseline": _usual(rng) | (old if i >= 0 else {}), "candidate": mine})
    verdict = _judged(watch)
    assert verdict.reason is Reason.LOW_TRAFFIC
    assert verdict.evidence[0].sentence == "errors by code: nothing new"


def test_before_and_after_the_rate_of_a_new_code_is_held_against_a_past_without_it() -> None:
    """A direct deploy; and the same events within what sixty intervals could not have shown are no alarm."""

    def found(per_look: float) -> VerdictKind:
        rng = np.random.default_rng(8)
        samples = {}
        for i in range(-PAST, LOOKS):
            arm = "candidate" if i >= 0 else "baseline"
            events = {("pod0", "E1"): float(rng.poisson(4.0)), ("pod1", "E1"): float(rng.poisson(4.0))}
            if i >= 5:
                events |= {(f"pod{k}", "E42"): float(rng.poisson(per_look / 2)) for k in range(2)}
            samples[CODES.name, i] = _cells({arm: events}, {arm: 2000.0})
        watch = Observation(design=Design.BEFORE_AFTER, step_s=10, metrics=(CODES,), samples=samples, looks=LOOKS)
        return _judged(watch).kind

    assert found(12.0) is VerdictKind.DEGRADED
    assert found(0.05) is not VerdictKind.DEGRADED


def test_evidence_agrees_with_the_exact_test_where_it_is_strong() -> None:
    """Direction and order: what the sequential test calls certain, the binomial test does."""
    verdict = _judged(_with_new(2.0, onset=0))
    bad = int(verdict.evidence[0].bad_candidate)
    assert binomtest(bad, bad, 0.1).pvalue < np.exp(-verdict.evidence[0].log_evidence)


@pytest.mark.parametrize(
    ("value", "total", "what"),
    [(-1.0, 0.0, "negative count"), (np.nan, 0.0, "not a number"), (1.0, np.inf, "exposure"), (1.0, -1.0, "negative")],
)
def test_counts_that_cannot_be_are_named(value: float, total: float, what: str) -> None:
    """And not weighed."""
    cells = Cells(("candidate",), ("pod0",), ("E42",), (np.nan,), (value,), (total,))
    watch = Observation(
        design=Design.CONCURRENT, step_s=10, metrics=(CODES,), samples={(CODES.name, 0): cells}, looks=1
    )
    verdict = _judged(watch)
    assert verdict.reason is Reason.MISCONFIGURED
    assert what in verdict.sentence


def test_a_label_value_from_outside_is_shown_in_one_short_line() -> None:
    """Whatever a client managed to put into it."""
    rng = np.random.default_rng(9)
    wild = "evil\n<script>" + "x" * 500
    watch = _watch(lambda i: {"baseline": _usual(rng), "candidate": {(f"pod{i % 2}", wild): 4.0 if i >= 0 else 0.0}})
    verdict = _judged(watch)
    assert verdict.kind is VerdictKind.DEGRADED
    assert "\n" not in verdict.sentence
    assert len(verdict.sentence) < 400
