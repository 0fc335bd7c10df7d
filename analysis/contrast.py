"""One count comparison of one watch: who has which events, with which margin, and how noisy they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import apart
from analysis.apart import Apart
from analysis.decode import Decoded, Floats, Panel
from analysis.dispersion import DEFAULT_V, Noise, all_over_time
from analysis.methods.counts import CountTest, rate_limit
from analysis.noise import LEAST_PAST, NoiseQuestion, Side, concurrent_noise, sides_of
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec
from analysis.sums import total
from analysis.together import in_groups

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
    apart: tuple[Apart, ...] = ()  # what the new version serves and the old one does not


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A comparison that is asked for: what it needs to know of its arms is worked out for many at once.

    noise_panels: whose noise is believed, where not the arms' own. least_factor: of the noise until replicas tell it.
    """

    watch: Decoded
    spec: MetricSpec
    panels: Mapping[Arm, Panel]
    first: int
    settings: JudgeSettings
    log_prior: Floats
    label: str
    weight: float
    share_of_budget: float
    design: Design
    noise_panels: Mapping[Arm, Panel] | None = None
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
    design: Design | None = None,
) -> Comparison | None:
    """Ask for one comparison, which `contrasts` completes; None where an arm was never seen.

    design: as which it is compared, where not as the watch is.
    """
    if Arm.CANDIDATE not in panels or Arm.BASELINE not in panels:
        return None
    design = watch.design if design is None else design
    if design is Design.BEFORE_AFTER:
        before = panels[Arm.BASELINE].total[..., : max(-first, 0)]
        if not (before > 0).any():
            return None
    return Comparison(watch, spec, panels, first, settings, log_prior, label, weight, share_of_budget, design)


def contrasts(found: Sequence[Comparison | Contrast]) -> list[Contrast]:
    """Complete comparisons, of as many watches as there are; what they need of their arms is computed together."""
    asked = [one for one in found if isinstance(one, Comparison)]
    sides = sides_of([one.panels[arm] for one in asked for arm in (Arm.CANDIDATE, Arm.BASELINE)])
    pairs = list(zip(asked, sides[::2], sides[1::2], strict=True))
    beside = [(one, *_now(one, *own)) for one, *own in pairs if one.design is Design.CONCURRENT]
    since = [
        (one, _after(candidate, one.first), Side(old.events[:, : -one.first], old.exposure[:, : -one.first]))
        for one, candidate, old in pairs
        if one.design is Design.BEFORE_AFTER
    ]
    questions = [_question(*three) for three in beside]
    noises = concurrent_noise(questions)
    concurrent = iter([_beside(*three, *noise) for three, noise in zip(beside, noises, strict=True)])
    pasts = _pasts([before for _, _, before in since])
    before_after = iter([_before_after(*three, past) for three, past in zip(since, pasts, strict=True)])
    kinds = {Design.CONCURRENT: concurrent, Design.BEFORE_AFTER: before_after}
    return [next(kinds[one.design]) if isinstance(one, Comparison) else one for one in found]


def _question(asked: Comparison, candidate: Side, baseline: Side) -> NoiseQuestion:
    r0 = margin_ratio(asked.spec, asked.settings, fewer=False)
    return NoiseQuestion(asked.noise_panels or asked.panels, asked.first, candidate, baseline, r0)


def _now(asked: Comparison, candidate: Side, baseline: Side) -> tuple[Side, Side]:
    """Both arms from the deploy on; with the exposure that was asked for, where the metric has none of its own."""
    candidate, now = _after(candidate, asked.first), _after(baseline, asked.first)
    shares = asked_shares(asked.watch) if asked.spec.configured_share else None
    return (candidate, now) if shares is None else _by_share(candidate, now, shares)


def _beside(asked: Comparison, candidate: Side, baseline: Side, noise: Noise, source: str) -> Contrast:
    """Concurrent arms: the one that is under suspicion against the other."""
    if asked.least_factor > 1.0:
        least = np.maximum(noise.factor, asked.least_factor)
        noise = replace(noise, factor=np.where(noise.trusted, noise.factor, least))
    tests = tuple(
        CountTest(
            events=(baseline if fewer else candidate).events,
            exposure=(baseline if fewer else candidate).exposure,
            other_events=(candidate if fewer else baseline).events,
            other_exposure=(candidate if fewer else baseline).exposure,
            r0=margin_ratio(asked.spec, asked.settings, fewer=fewer),
            floor=floor_of(asked.spec),
            noise=noise,
            log_prior=asked.log_prior,
            swapped=fewer,
        )
        for fewer in suspicions(asked.spec)
    )
    unknown = apart.beside(tests, candidate, baseline)
    return Contrast(asked.label, asked.weight, tests, candidate, baseline, noise, source, unknown)


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


@dataclass(frozen=True, slots=True)
class _Past:
    """One series before the deploy, over its strata: its events and exposure, and what `over_time` says of it."""

    events: float
    exposure: float
    factor: float
    mean: float
    df: float


def _pasts(pasts: Sequence[Side]) -> list[_Past]:
    pooled = in_groups([(past.events, past.exposure) for past in pasts], _pooled)
    swings = all_over_time([(events, exposure) for events, exposure, _, _ in pooled])
    return [_Past(float(one[2]), float(one[3]), *swing) for one, swing in zip(pooled, swings, strict=True)]


def _pooled(events: Floats, exposure: Floats) -> tuple[Floats, ...]:
    e, n = total(events, axis=1), total(exposure, axis=1)
    return e, n, np.add.accumulate(e, axis=1)[:, -1], np.add.accumulate(n, axis=1)[:, -1]


def _before_after(asked: Comparison, candidate: Side, before: Side, past: _Past) -> Contrast:
    """One-sample tests against limits of the rate before the deploy; noise is that of the series in time."""
    spec, settings = asked.spec, asked.settings
    source = "history" if past.df + 1 >= LEAST_PAST else "assumed"
    v = (past.factor - 1.0) / past.mean if past.mean > 0 else 0.0
    v = v if source == "history" else max(v, DEFAULT_V)
    phi, rate = max(past.factor, 1.0 + v * past.mean), past.events / past.exposure
    noise = Noise.fixed(1.0 + v * rate * total(candidate.exposure))
    nothing = np.zeros(candidate.events.shape)
    tests, unknown = [], []
    directions = suspicions(spec)
    for fewer in directions:
        alpha = settings.budget * asked.share_of_budget / 2 / len(directions)
        limit = rate_limit(past.events, past.exposure, phi, alpha, upper=not fewer)
        test = CountTest(
            events=candidate.events,
            exposure=candidate.exposure,
            other_events=nothing,
            other_exposure=nothing,
            r0=margin_ratio(spec, settings, fewer=fewer),
            floor=floor_of(spec),
            noise=noise,
            log_prior=asked.log_prior,
            known_rate=np.array([limit]),
            fewer=fewer,
        )
        if len(before.events) > 1:
            test = _by_stratum(test, before, rate, limit, phi, alpha)
        tests.append(test)
        unknown.append(apart.since(test, candidate, before, limit))
    told = tuple(one for one in unknown if one is not None)
    return Contrast(asked.label, asked.weight, tuple(tests), candidate, before, noise, source, told)


def _by_stratum(test: CountTest, before: Side, rate: float, limit: float, phi: float, alpha: float) -> CountTest:
    """Like with like: each stratum against the limit of its own rate, with a part of alpha that goes by its exposure.

    The parts add up to alpha, so that all limits hold together (a union bound). What the past says too little of is
    not counted: its limit would be so wide that it hides what the others show.
    """
    e, n = (np.add.accumulate(side, axis=1)[:, -1] for side in (before.events, before.exposure))
    own = np.divide(e, n, out=np.full(len(n), rate), where=n > 0)
    shares = n / np.add.accumulate(n)[-1]
    limits = np.array(
        [
            rate_limit(events, exposure, phi, alpha * share, upper=not test.fewer) if share > 0 else 0.0
            for events, exposure, share in zip(e.tolist(), n.tolist(), shares.tolist(), strict=True)
        ]
    )
    counted = apart.told_by_past(own, limits, limit, fewer=test.fewer) & (n > 0)
    believed = own * (limit / rate) if rate > 0 else np.full(len(own), limit)
    return replace(test, known_rate=limits, counted=counted, believed=believed)
