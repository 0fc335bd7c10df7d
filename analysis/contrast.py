"""One count comparison of one watch: who has which events, with which margin, and how noisy they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.decode import Decoded, Floats, Panel
from analysis.dispersion import DEFAULT_V, Noise, over_time
from analysis.methods.counts import CountTest, rate_limit
from analysis.noise import LEAST_PAST, NoiseQuestion, Side, concurrent_noise, side_of
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec

FLOORS = {Kind.RATIO: 1e-4, Kind.RATE: 0.0, Kind.LATENCY: 0.005, Kind.LABELS: 1e-4}  # events per unit of exposure


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """Candidate against baseline for one metric (or one latency bound), and the tests that judge it."""

    label: str
    weight: float
    tests: tuple[CountTest, ...]  # one, or two where either direction is bad
    candidate: Side  # looks only
    baseline: Side  # looks (concurrent) or the intervals before the deploy
    noise: Noise
    dispersion_from: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A contrast of concurrent arms whose noise is not known yet. least_factor: of the noise until replicas tell it."""

    label: str
    weight: float
    question: NoiseQuestion
    fewer: tuple[bool, ...]  # which directions are tested
    margins: tuple[float, ...]
    floor: float
    log_prior: Floats
    least_factor: float = 1.0


def margin_ratio(spec: MetricSpec, settings: JudgeSettings, *, fewer: bool) -> float:
    """The ratio r0 that is still tolerated; for `fewer` between baseline and candidate."""
    margin = settings.margin if spec.margin is None else spec.margin
    return 1.0 / (1.0 - min(margin, 0.9)) if fewer else 1.0 + margin


def compare(
    watch: Decoded,
    spec: MetricSpec,
    panels: Mapping[Arm, Panel],
    first: int,
    settings: JudgeSettings,
    log_prior: Floats,
    *,
    label: str,
    weight: float,
    share_of_budget: float,
) -> Comparison | Contrast | None:
    """Set up one comparison, which `contrasts` completes; None where an arm was never seen."""
    if Arm.CANDIDATE not in panels or Arm.BASELINE not in panels:
        return None
    candidate = _after(side_of(panels[Arm.CANDIDATE]), first)
    baseline = side_of(panels[Arm.BASELINE])
    if watch.design is Design.BEFORE_AFTER:
        before = Side(baseline.events[:, : -first or None], baseline.exposure[:, : -first or None])
        if first >= 0 or before.exposure.sum() <= 0:
            return None
        tests, noise, source = _before_after(spec, settings, candidate, before, log_prior, share_of_budget)
        return Contrast(label, weight, tests, candidate, before, noise, source)
    now = _after(baseline, first)
    shares = asked_shares(watch) if spec.configured_share else None
    if shares is not None:
        candidate, now = _by_share(candidate, now, shares)
    fewer = suspicions(spec)
    return Comparison(
        label=label,
        weight=weight,
        question=NoiseQuestion(panels, first, candidate, now, margin_ratio(spec, settings, fewer=False)),
        fewer=fewer,
        margins=tuple(margin_ratio(spec, settings, fewer=one) for one in fewer),
        floor=floor_of(spec),
        log_prior=log_prior,
    )


def contrasts(found: Sequence[Comparison | Contrast]) -> list[Contrast]:
    """Complete comparisons, of as many watches as there are; the noise of all of them is computed together."""
    told = iter(concurrent_noise([one.question for one in found if isinstance(one, Comparison)]))
    return [_contrast(one, *next(told)) if isinstance(one, Comparison) else one for one in found]


def _contrast(found: Comparison, noise: Noise, source: str) -> Contrast:
    if found.least_factor > 1.0:
        least = np.maximum(noise.factor, found.least_factor)
        noise = replace(noise, factor=np.where(noise.trusted, noise.factor, least))
    candidate, baseline = found.question.candidate, found.question.baseline
    tests = tuple(
        CountTest(
            events=(baseline if fewer else candidate).events,
            exposure=(baseline if fewer else candidate).exposure,
            other_events=(candidate if fewer else baseline).events,
            other_exposure=(candidate if fewer else baseline).exposure,
            r0=r0,
            floor=found.floor,
            noise=noise,
            log_prior=found.log_prior,
            swapped=fewer,
        )
        for fewer, r0 in zip(found.fewer, found.margins, strict=True)
    )
    return Contrast(found.label, found.weight, tests, candidate, baseline, noise, source)


def floor_of(spec: MetricSpec) -> float:
    return FLOORS.get(spec.kind, 0.0) if spec.floor is None else spec.floor


def suspicions(spec: MetricSpec) -> tuple[bool, ...]:
    """Whether too many (False), too few (True) or either is bad."""
    return {Direction.UP_IS_BAD: (False,), Direction.DOWN_IS_BAD: (True,), Direction.EITHER: (False, True)}[
        spec.direction
    ]


def _after(side: Side, first: int) -> Side:
    return Side(side.events[:, -first:], side.exposure[:, -first:]) if first < 0 else side


def asked_shares(watch: Decoded) -> Floats | None:
    """(looks,) the candidate's asked share of the traffic at each look; None where nobody asked for one.

    A share that grew step by step is known look by look, but for those in which it changed: NaN there.
    """
    told = np.array([np.nan if facts.share is None else facts.share for facts in watch.facts], dtype=np.float64)
    if not np.isnan(told).all():
        return told
    return None if watch.share is None else np.full(watch.looks, watch.share)


def _by_share(candidate: Side, baseline: Side, shares: Floats) -> tuple[Side, Side]:
    """Exposure as it was asked for; looks whose share nobody knows are not weighed."""
    both = candidate.exposure + baseline.exposure
    both = np.where((both <= 0) & (candidate.events + baseline.events > 0), 1.0, both)
    known = ~np.isnan(shares)
    share, both = np.where(known, shares, 0.0), np.where(known, both, 0.0)
    events = [np.where(known, side.events, 0.0) for side in (candidate, baseline)]
    return Side(events[0], share * both), Side(events[1], (1 - share) * both)


def _before_after(
    spec: MetricSpec, settings: JudgeSettings, candidate: Side, before: Side, log_prior: Floats, share: float
) -> tuple[tuple[CountTest, ...], Noise, str]:
    """One-sample tests against limits of the rate before the deploy; noise is that of the series in time."""
    events, exposure = np.cumsum(before.events, axis=0)[-1], np.cumsum(before.exposure, axis=0)[-1]
    factor, mean, df = over_time(events, exposure)
    source = "history" if df + 1 >= LEAST_PAST else "assumed"
    v = (factor - 1.0) / mean if mean > 0 else 0.0
    v = v if source == "history" else max(v, DEFAULT_V)
    rate = np.cumsum(events)[-1] / np.cumsum(exposure)[-1]
    n = np.cumsum(candidate.exposure, axis=0)[-1]
    noise = Noise.fixed(1.0 + v * rate * n)
    by_stratum_exposure = np.cumsum(before.exposure, axis=1)[:, -1]
    by_stratum = np.divide(
        np.cumsum(before.events, axis=1)[:, -1],
        by_stratum_exposure,
        out=np.full(len(by_stratum_exposure), rate),
        where=by_stratum_exposure > 0,
    )
    tests = []
    for fewer in suspicions(spec):
        limit = rate_limit(
            float(np.cumsum(events)[-1]),
            float(np.cumsum(exposure)[-1]),
            max(factor, float(1.0 + v * mean)),
            settings.budget * share / 2,
            upper=not fewer,
        )
        known = by_stratum * (limit / rate) if rate > 0 else np.full(len(by_stratum), limit)
        tests.append(
            replace(
                CountTest(
                    events=candidate.events,
                    exposure=candidate.exposure,
                    other_events=np.zeros_like(candidate.events),
                    other_exposure=np.zeros_like(candidate.exposure),
                    r0=margin_ratio(spec, settings, fewer=fewer),
                    floor=floor_of(spec),
                    noise=noise,
                    log_prior=log_prior,
                ),
                known_rate=known,
                fewer=fewer,
            )
        )
    return tuple(tests), noise, source
