"""One count comparison of one watch: who has which events, with which margin, and how noisy they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.coupling import swings, unshared
from analysis.decode import Decoded, Floats, Panel
from analysis.dispersion import (
    DEFAULT_V,
    ENOUGH_DF,
    SCALES,
    Noise,
    believed_factor,
    between_replicas,
    over_time,
    own_variation,
)
from analysis.methods.counts import CountTest, rate_limit
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec

FLOORS = {Kind.RATIO: 1e-4, Kind.RATE: 0.0, Kind.LATENCY: 0.005}  # events per unit of exposure
LEAST_PAST = 20  # intervals of history from which noise in time is measured


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One arm summed over replicas: (strata, intervals), 0 where absent."""

    events: Floats
    exposure: Floats


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


def margin_ratio(spec: MetricSpec, settings: JudgeSettings, *, fewer: bool) -> float:
    """The ratio r0 that is still tolerated; for `fewer` between baseline and candidate."""
    margin = settings.margin if spec.margin is None else spec.margin
    return 1.0 / (1.0 - min(margin, 0.9)) if fewer else 1.0 + margin


def build_contrast(
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
) -> Contrast | None:
    """Set up the tests of one comparison; None where an arm was never seen."""
    if Arm.CANDIDATE not in panels or Arm.BASELINE not in panels:
        return None
    candidate = _after(_side(panels[Arm.CANDIDATE]), first)
    baseline = _side(panels[Arm.BASELINE])
    if watch.design is Design.BEFORE_AFTER:
        before = Side(baseline.events[:, : -first or None], baseline.exposure[:, : -first or None])
        if first >= 0 or before.exposure.sum() <= 0:
            return None
        tests, noise, source = _before_after(spec, settings, candidate, before, log_prior, share_of_budget)
        return Contrast(label, weight, tests, candidate, before, noise, source)
    now = _after(baseline, first)
    if spec.configured_share and watch.share is not None:
        candidate, now = _by_share(candidate, now, watch.share)
    noise, source = _concurrent_noise(panels, first, candidate, now, margin_ratio(spec, settings, fewer=False))
    tests = tuple(
        CountTest(
            events=(now if fewer else candidate).events,
            exposure=(now if fewer else candidate).exposure,
            other_events=(candidate if fewer else now).events,
            other_exposure=(candidate if fewer else now).exposure,
            r0=margin_ratio(spec, settings, fewer=fewer),
            floor=floor_of(spec),
            noise=noise,
            log_prior=log_prior,
            swapped=fewer,
        )
        for fewer in _suspicions(spec)
    )
    return Contrast(label, weight, tests, candidate, now, noise, source)


def floor_of(spec: MetricSpec) -> float:
    return FLOORS.get(spec.kind, 0.0) if spec.floor is None else spec.floor


def _suspicions(spec: MetricSpec) -> tuple[bool, ...]:
    """Whether too many (False), too few (True) or either is bad."""
    return {Direction.UP_IS_BAD: (False,), Direction.DOWN_IS_BAD: (True,), Direction.EITHER: (False, True)}[
        spec.direction
    ]


def _side(panel: Panel) -> Side:
    value = np.nan_to_num(panel.value[:, :, 0, :])
    return Side(np.add.accumulate(value, axis=0)[-1], np.add.accumulate(np.nan_to_num(panel.total), axis=0)[-1])


def _after(side: Side, first: int) -> Side:
    return Side(side.events[:, -first:], side.exposure[:, -first:]) if first < 0 else side


def _by_share(candidate: Side, baseline: Side, share: float) -> tuple[Side, Side]:
    both = candidate.exposure + baseline.exposure
    both = np.where((both <= 0) & (candidate.events + baseline.events > 0), 1.0, both)
    return Side(candidate.events, share * both), Side(baseline.events, (1 - share) * both)


def _concurrent_noise(
    panels: Mapping[Arm, Panel], first: int, candidate: Side, baseline: Side, r0: float
) -> tuple[Noise, str]:
    """What is believed of the noise at each look, from data up to that look, and where it comes from."""
    chi2, df = _replica_noise(panels, first)
    between = believed_factor(chi2, df)
    known = np.cumsum(df, axis=0)[-1] >= ENOUGH_DF
    sides = [
        np.cumsum(a, axis=0)[-1] for a in (candidate.events, candidate.exposure, baseline.events, baseline.exposure)
    ]
    (v, slow_v), source, shares = (DEFAULT_V, 0.0), "assumed", np.where(known, 0.0, 1.0)
    past = _past(panels, first)
    if past is not None and past.exposure.shape[1] >= LEAST_PAST:
        series = np.cumsum(past.events, axis=0)[-1], np.cumsum(past.exposure, axis=0)[-1]
        if series[0].any() and len(between):
            (v, slow_v), source = own_variation(*series, float(between[0])), "history"
            shares = unshared((sides[0], sides[1], sides[2], sides[3]), swings(*series))
    events, n, n_other = sides[0] + sides[2], sides[1], sides[3]
    all_n = r0 * n + n_other
    p = np.divide(r0 * n, all_n, out=np.zeros_like(n), where=all_n > 0)
    usual = _recent_mean(events)
    intensity = usual * (1.0 + v * events) / (1.0 + v * usual)  # posterior mean of a gamma rate given its count
    in_time = 1.0 + 2.0 * (v * intensity + slow_v * usual) * p * (1.0 - p)
    if len(known) and known[-1]:
        source = "replicas"
    return Noise(between, in_time, shares, known), source


def _recent_mean(events: Floats) -> Floats:
    """Mean of each look and those shortly before it: slow noise meets whole stretches of looks, not single bursts."""
    seen = np.concatenate([np.zeros(SCALES[-1]), np.cumsum(events)])
    width = np.minimum(np.arange(1, len(events) + 1), SCALES[-1])
    return np.asarray((seen[SCALES[-1] :] - seen[: len(events)]) / width)


def _replica_noise(panels: Mapping[Arm, Panel], first: int) -> tuple[Floats, Floats]:
    """Chi-squares between replicas of the old version at every scale and look: peers, history and baseline."""
    baseline = panels[Arm.BASELINE]
    chi2, df = between_replicas(np.nan_to_num(baseline.value[:, :, 0, :]), np.nan_to_num(baseline.total))
    chi2, df = chi2[:, max(-first, 0) :], df[:, max(-first, 0) :]
    older = panels.get(Arm.PEERS) or panels.get(Arm.HISTORY)
    if older is not None and first < 0:
        value = np.nan_to_num(older.value[:, :, 0, :-first])
        total = np.nan_to_num(older.total[:, :, :-first])
        used = np.flatnonzero(total.any(axis=(0, 1)))
        if len(used):
            old_chi2, old_df = between_replicas(value[..., used], total[..., used])
            chi2, df = chi2 + old_chi2[:, -1:], df + old_df[:, -1:]
    return chi2, df


def _past(panels: Mapping[Arm, Panel], first: int) -> Side | None:
    """The old version before the deploy, as one series."""
    if first >= 0:
        return None
    sides = [_side(panels[arm]) for arm in (Arm.BASELINE, Arm.HISTORY) if arm in panels]
    events = np.stack([s.events[:, :-first] for s in sides])
    exposure = np.stack([s.exposure[:, :-first] for s in sides])
    used = np.flatnonzero(exposure.any(axis=(0, 1)))
    return Side(np.cumsum(events, axis=0)[-1][:, used], np.cumsum(exposure, axis=0)[-1][:, used])


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
    for fewer in _suspicions(spec):
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
