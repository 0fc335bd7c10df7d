"""Control series of a before/after watch: what this deploy cannot have touched, and so what it is not to blame for.

What makes a whole site worse at once makes the control worse too. The watch is judged a second time beside it
(difference in differences): counts in the ratio that both had before the deploy, levels less the control's own move.
A degradation has to stand in both; a control that is calm, missing or better therefore accuses nobody.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.special import betainccinv, betaincinv

from analysis.contrast import Contrast, floor_of, margin_ratio, suspicions
from analysis.decode import Arrays, Decoded, Floats, Panel
from analysis.dispersion import SCALES, Noise, believed_factor
from analysis.methods.counts import CountTest
from analysis.methods.gauge import LEAST_PAST as LEAST_LEVELS
from analysis.methods.levels import levels, mean_level
from analysis.noise import LEAST_PAST, Side, side_of
from analysis.result import Arm, Design, JudgeSettings, MetricSpec

LEAST_BLOCKS = 3


def has_control(watch: Decoded) -> bool:
    """Whether any metric of a before/after watch comes with a control series."""
    return watch.design is Design.BEFORE_AFTER and any(Arm.CONTROL in metric.panels for metric in watch.metrics)


def control_contrast(
    _watch: Decoded,
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
    """The candidate beside the control, in the ratio of their rates before the deploy; None where that is unknown.

    H0: rate <= r0 rho control's rate at every look, with rho the upper limit of the ratio before the deploy (lower for
    "fewer is worse"). The ratio's own swings in time give the noise. Arguments as those of `compare`.
    """
    if not {Arm.CANDIDATE, Arm.BASELINE, Arm.CONTROL} <= set(panels) or first >= 0:
        return None
    candidate, own, control = (_pooled(side_of(panels[arm])) for arm in (Arm.CANDIDATE, Arm.BASELINE, Arm.CONTROL))
    before, then = _part(own, slice(None, -first)), _part(control, slice(None, -first))
    now, beside = _part(candidate, slice(-first, None)), _part(control, slice(-first, None))
    used = (before.exposure[0] > 0) & (then.exposure[0] > 0)
    if np.count_nonzero(used) < LEAST_PAST or not then.events[0, used].any():
        return None
    before, then = _part(before, used), _part(then, used)
    factor, information = _noise_of_ratio(before, then)
    tests = []
    directions = suspicions(spec)
    alpha = settings.budget * share_of_budget / 2 / len(directions)
    for fewer in directions:
        rho = ratio_limit(before, then, factor, alpha, upper=not fewer)
        if not 0 < rho < np.inf:
            return None
        scaled = Side(beside.events, beside.exposure / rho)
        worse, other = (scaled, now) if fewer else (now, scaled)
        r0 = margin_ratio(spec, settings, fewer=fewer)
        tests.append(
            CountTest(
                events=worse.events,
                exposure=worse.exposure,
                other_events=other.events,
                other_exposure=other.exposure,
                r0=r0,
                floor=floor_of(spec),
                noise=_noise_now(worse, other, r0, factor, information),
                log_prior=log_prior - np.log(2.0),  # the price of the limit on the ratio, a union bound
                swapped=fewer,
            )
        )
    return Contrast(label, weight, tuple(tests), now, before, tests[0].noise, "history")


def ratio_limit(own: Side, other: Side, phi: float, alpha: float, *, upper: bool) -> float:
    """One-sided confidence limit of the ratio of two rates: Clopper-Pearson on the share of the events, counts / phi.

    >>> one, other = (Side(np.array([[e]]), np.array([[n]])) for e, n in ((900.0, 9e4), (100.0, 1e4)))
    >>> round(ratio_limit(one, other, 1.0, 0.025, upper=True), 3)
    1.242
    """
    e, n, e_other, n_other = (float(np.cumsum(a)[-1]) for a in (own.events, own.exposure, other.events, other.exposure))
    if upper:
        share = float(betainccinv(e / phi + 1.0, e_other / phi, alpha)) if e_other > 0 else 1.0
    else:
        share = float(betaincinv(e / phi, e_other / phi + 1.0, alpha)) if e > 0 else 0.0
    return share / (1.0 - share) * n_other / n if share < 1.0 else float("inf")


def less_control(metric: Arrays) -> Arrays | None:
    """A level without the move that its control made, relative to both levels before the deploy; None where unknown."""
    start = max(-metric.first, 0)
    if not {Arm.CANDIDATE, Arm.BASELINE, Arm.CONTROL} <= set(metric.panels):
        return None
    own = mean_level(levels(metric.panels[Arm.BASELINE]))[:start]
    control = mean_level(levels(metric.panels[Arm.CONTROL]))
    both = ~np.isnan(own) & ~np.isnan(control[:start])
    if np.count_nonzero(both) < LEAST_LEVELS:
        return None
    usual = float(_mean(control[:start][both]))
    size = float(_mean(np.abs(control[:start][both])))
    scale = float(_mean(np.abs(own[both]))) / size if size > 0 else 1.0
    move = scale * (control - usual)
    panels: dict[Arm, Panel] = {
        arm: replace(panel, value=panel.value - move) for arm, panel in metric.panels.items() if arm is not Arm.CONTROL
    }
    return replace(metric, panels=panels)


def _mean(values: Floats) -> float:
    return float(np.cumsum(values)[-1] / len(values))


def _pooled(side: Side) -> Side:
    """Over strata: what the control's strata are is no business of the candidate's."""
    return Side(np.cumsum(side.events, axis=0)[-1:], np.cumsum(side.exposure, axis=0)[-1:])


def _part(side: Side, at: slice | np.ndarray) -> Side:
    return Side(side.events[:, at], side.exposure[:, at])


def _noise_of_ratio(own: Side, control: Side) -> tuple[float, float]:
    """Variance factor of how events split between the two before the deploy; mean information per interval."""
    e, n, other, n_other = own.events[0], own.exposure[0], control.events[0], control.exposure[0]
    mine, theirs = (float(np.cumsum(a)[-1] / np.cumsum(b)[-1]) for a, b in ((e, n), (other, n_other)))
    expected = mine * n + theirs * n_other
    p = np.divide(mine * n, expected, out=np.zeros_like(n), where=expected > 0)
    miss, information = e - (e + other) * p, (e + other) * p * (1 - p)
    chi2, df = np.zeros((len(SCALES), 1)), np.zeros((len(SCALES), 1))
    for i, scale in enumerate(SCALES):
        ends = np.arange(scale - 1, len(e), scale)
        off, known = (np.diff(np.cumsum(a)[ends], prepend=0.0) for a in (miss, information))
        used = known >= 1.0
        if np.count_nonzero(used) >= LEAST_BLOCKS:
            chi2[i, 0] = np.cumsum(off[used] ** 2 / known[used])[-1]
            df[i, 0] = np.count_nonzero(used) - 1.0
    return float(believed_factor(chi2, df)[0]), _mean(information)


def _noise_now(worse: Side, other: Side, r0: float, factor: float, usual: float) -> Noise:
    """The ratio's swings before the deploy, at what a look tells now: they weigh more where there are more events."""
    n, n_other = r0 * worse.exposure[0], other.exposure[0]
    p = np.divide(n, n + n_other, out=np.zeros_like(n), where=n + n_other > 0)
    information = (worse.events[0] + other.events[0]) * p * (1 - p)
    swing = (factor - 1.0) / usual if usual > 0 else 0.0
    return Noise.fixed(1.0 + swing * information)
