"""What must hold before metrics may be weighed: a source that answers, arms that differ, a candidate that lives."""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.decode import COUNTS, Arrays, Decoded, Floats
from analysis.result import Arm, Design, JudgeSettings, Kind, SourceStatus
from analysis.sums import total

SAME_LOOKS = 10  # identical changing values in both arms for this long: one series seen twice
RECORDED_ABSENT_LOOKS = 5  # without anybody watching targets, an announced candidate must be gone this long
NO_CHANCE = 1e-4  # that requests which should have come stayed away by chance
GONE_LOOKS = 3  # no candidate samples in this many last looks (or a tenth of the watch): no data
_Scalar = TypeVar("_Scalar", bound=np.generic)
Flags = NDArray[np.bool_]
REQUEST_KINDS = COUNTS | {Kind.LATENCY}
_BOTH = (Arm.CANDIDATE, Arm.BASELINE)


def source_trouble(watch: Decoded) -> tuple[SourceStatus, str] | None:
    """Status and detail of the last look, where the source did not answer wholly."""
    if not watch.facts or watch.facts[-1].status is SourceStatus.OK:
        return None
    return watch.facts[-1].status, watch.facts[-1].detail


def absent_since(watch: Decoded, settings: JudgeSettings) -> tuple[int, int] | None:
    """First look of an absence that is proven, and the look that proved it.

    Proof is positive: the source answers, the baseline is fresh, no request reaches the candidate, and its targets
    are seen failing. Where nobody watches targets (recorded cases, `guess_absence`), an announced candidate that serves
    nothing counts as gone when most of its levels are missing or exactly 0, or half of its request metrics are missing,
    while the baseline reports them. Metrics that are merely missing prove nothing, nor do looks of the warm-up.
    """
    if not settings.judge_absence:
        return None
    guesses = settings.guess_absence and watch.candidate_expected
    hollow = _hollow(watch) if guesses else np.zeros(watch.looks, dtype=bool)
    if not hollow.any() and not any(facts.candidate_down for facts in watch.facts):
        return None  # nothing speaks for it at any look
    streak = guessed = 0
    serving = _serving(watch)
    fresh = _fresh(watch)
    for i, facts in enumerate(watch.facts):
        alive = facts.status is SourceStatus.OK and (bool(facts.baseline_up) or bool(fresh[i]))
        alive = alive and i >= settings.warm_up_looks and not serving[i]
        failing = bool(facts.candidate_down) and not facts.candidate_up
        unseen = facts.candidate_up is None and facts.candidate_down is None
        streak = streak + 1 if alive and failing else 0
        guessed = guessed + 1 if alive and unseen and hollow[i] else 0
        if streak >= settings.absent_looks:
            return i - streak + 1, i
        if guessed >= RECORDED_ABSENT_LOOKS:
            return i - guessed + 1, i
    return None


def _present(metric: Arrays, arm: Arm) -> Flags:
    """(intervals,) whether the arm has any value."""
    panel = metric.panels.get(arm)
    if panel is None:
        return np.zeros(metric.panel(arm).value.shape[-1], dtype=bool)
    return np.asarray(~np.isnan(panel.value).all(axis=(0, 1, 2)))


def looks_with_candidate(watch: Decoded) -> int:
    """Usable looks in which the candidate was heard of; an answer that holds nothing of it is no look at it."""
    heard = np.zeros(watch.looks, dtype=bool)
    for metric in watch.metrics:
        if Arm.CANDIDATE in metric.panels:
            heard |= _looks(metric, _present(metric, Arm.CANDIDATE))
        if heard.all():
            break
    return int(np.count_nonzero(heard & watch.usable))


def _looks(metric: Arrays, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The part from the deploy on."""
    return values[max(-metric.first, 0) :]


def _any(values: Floats, axes: tuple[int, ...]) -> Flags:
    """(intervals,) whether any value is there and not 0."""
    return np.asarray(np.any((values != 0) & ~np.isnan(values), axis=axes), dtype=bool)


def _serving(watch: Decoded) -> Flags:
    """(looks,) whether any request is known to have reached the candidate."""
    serving = np.zeros(watch.looks, dtype=bool)
    for metric in watch.metrics:
        panel = metric.panels.get(Arm.CANDIDATE)
        if panel is not None and metric.spec.kind in REQUEST_KINDS:
            requests = _any(panel.total, (0, 1)) | _any(panel.value, (0, 1, 2))
            serving |= _looks(metric, requests)
    return serving


def _fresh(watch: Decoded) -> Flags:
    """(looks,) whether the baseline reports: now, or before the deploy where the arms are before and after."""
    fresh = np.zeros(watch.looks, dtype=bool)
    for metric in watch.metrics:
        present = _present(metric, Arm.BASELINE)
        if watch.design is Design.BEFORE_AFTER:
            fresh |= bool(present[: max(-metric.first, 0)].any())
        elif len(present):
            fresh |= _looks(metric, present)
    return fresh


def _hollow(watch: Decoded) -> Flags:
    """(looks,) most levels missing or 0 while the baseline's are not, or half of the request metrics missing."""
    levels, zero = np.zeros(watch.looks), np.zeros(watch.looks)
    requests, missing = np.zeros(watch.looks), np.zeros(watch.looks)
    for metric in watch.metrics:
        reports = _reports(watch, metric)
        present = _looks(metric, _present(metric, Arm.CANDIDATE)) if metric.panels else np.zeros(watch.looks, bool)
        panel = metric.panels.get(Arm.CANDIDATE)
        value = _looks(metric, _any(panel.value, (0, 1, 2))) if panel is not None else np.zeros(watch.looks, dtype=bool)
        if metric.spec.kind in REQUEST_KINDS:
            requests, missing = requests + reports, missing + (reports & ~present)
        else:
            levels, zero = levels + reports, zero + (reports & ~value)
    return np.asarray(((levels > 0) & (2 * zero > levels)) | ((requests > 0) & (2 * missing >= requests)), dtype=bool)


def _reports(watch: Decoded, metric: Arrays) -> Flags:
    """(looks,) whether the baseline reports this metric and it is not 0."""
    panel = metric.panels.get(Arm.BASELINE)
    if panel is None:
        return np.zeros(watch.looks, dtype=bool)
    nonzero = _any(panel.value, (0, 1, 2))
    if metric.spec.kind in REQUEST_KINDS:
        nonzero = _present(metric, Arm.BASELINE)
    if watch.design is Design.BEFORE_AFTER:
        past = nonzero[: max(-metric.first, 0)]
        return np.full(watch.looks, len(past) > 0 and bool(past.mean() >= 0.95))
    return _looks(metric, nonzero)


def seen_twice(watch: Decoded, metric: Arrays) -> bool:
    """Whether both arms carry the same changing exposure (or level) at every look: the selector tells no arms apart."""
    if watch.design is not Design.CONCURRENT or metric.spec.configured_share:
        return False
    if Arm.CANDIDATE not in metric.panels or Arm.BASELINE not in metric.panels:
        return False
    if _differ_lastly(metric):  # mostly the last look tells
        return False
    looks = slice(max(-metric.first, 0), None)
    candidate, baseline = (_carried(metric, arm, looks) for arm in _BOTH)
    both = ~np.isnan(candidate) & ~np.isnan(baseline)
    a, b = candidate[both], baseline[both]
    return len(a) >= SAME_LOOKS and bool((a == b).all()) and bool((a != a[0]).any())


def _differ_lastly(metric: Arrays) -> bool:
    """Whether both arms carry something in the last interval, and not the same."""
    sums = []
    for arm in _BOTH:
        panel = metric.panels[arm]
        carried = panel.total[..., -1] if metric.spec.kind in REQUEST_KINDS else panel.value[:, :, 0, -1]
        there = [number for number in carried.ravel().tolist() if not math.isnan(number)]
        if not there:
            return False
        sums.append(sum(there))  # one after another, as `total` adds them
    return bool(sums[0] != sums[1])


def _carried(metric: Arrays, arm: Arm, at: slice) -> Floats:
    """(intervals asked for,) total exposure, or the sum of levels; NaN where the arm has no value."""
    panel = metric.panels[arm]
    carried = panel.total if metric.spec.kind in REQUEST_KINDS else panel.value[:, :, 0, :]
    flat = carried[..., at].reshape(carried.shape[0] * carried.shape[1], -1)
    absent = np.isnan(flat)
    return np.where(absent.all(axis=0), np.nan, total(np.where(absent, 0.0, flat)))


def unheard_of(watch: Decoded, metric: Arrays) -> int:
    """Last usable looks, at least `GONE_LOOKS`, in which no request reached the candidate though many should have; 0
    where there are none such, or so few that it may be chance.

    Many: so many that, were they independent, none at all would be less likely than `NO_CHANCE`. What should have come
    is what came to the candidate in the looks before; before and after, if that was nothing, to the old version.
    """
    if metric.spec.kind not in REQUEST_KINDS or Arm.CANDIDATE not in metric.panels:
        return 0
    usable = np.flatnonzero(watch.usable)
    came = _looks(metric, _exposure(metric, Arm.CANDIDATE))[usable]
    if not len(came) or came[-1] > 0:
        return 0
    served = np.flatnonzero(came > 0)
    silent = len(came) - (int(served[-1]) + 1 if len(served) else 0)
    usual = float(np.cumsum(came)[-1]) / (len(came) - silent) if len(served) else _usual_before(watch, metric)
    return silent if silent >= GONE_LOOKS and math.exp(-silent * usual) < NO_CHANCE else 0


def _exposure(metric: Arrays, arm: Arm) -> Floats:
    """(intervals,) requests of all replicas and strata, 0 where there are none."""
    panel = metric.panels[arm]
    return total(np.where(np.isnan(panel.total), 0.0, panel.total).reshape(-1, panel.total.shape[-1]))


def _usual_before(watch: Decoded, metric: Arrays) -> float:
    """Requests in an interval before the deploy, where these are what the candidate should have now."""
    before = max(-metric.first, 0)
    if watch.design is not Design.BEFORE_AFTER or not before or Arm.BASELINE not in metric.panels:
        return 0.0
    return float(np.cumsum(_exposure(metric, Arm.BASELINE)[:before])[-1]) / before


def without_data(watch: Decoded, metric: Arrays) -> str | None:
    """Which arm of a metric has no samples: "candidate", "baseline", or None where both have."""
    usable = np.flatnonzero(watch.usable)
    if not len(usable):
        return None
    recent = usable[-max(GONE_LOOKS, len(usable) // 10) :]
    start = max(-metric.first, 0)
    latest = slice(start + int(recent[-1]), start + int(recent[-1]) + 1)
    if watch.design is not Design.BEFORE_AFTER and all(_has_any(metric, arm, latest) for arm in _BOTH):
        return None  # mostly the last look tells
    if not _has_any(metric, Arm.CANDIDATE, start + recent):
        return "candidate"
    at = np.arange(start) if watch.design is Design.BEFORE_AFTER else start + recent
    return None if _has_any(metric, Arm.BASELINE, at) else "baseline"


def _has_any(metric: Arrays, arm: Arm, intervals: NDArray[np.int64] | slice) -> bool:
    """Whether the arm has any value in some of its intervals."""
    panel = metric.panels.get(arm)
    return panel is not None and not bool(np.isnan(panel.value[..., intervals]).all())
