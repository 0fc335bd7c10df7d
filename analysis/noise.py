"""How noisy count comparisons of concurrent arms are: asked by many at once, answered in a few array operations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.coupling import swings, unshared
from analysis.decode import Floats, Panel
from analysis.dispersion import (
    DEFAULT_V,
    ENOUGH_DF,
    SCALES,
    Noise,
    believed_factor,
    between_replicas,
    own_variation,
)
from analysis.result import Arm
from analysis.sums import total
from analysis.together import Rows, in_groups

LEAST_PAST = 20  # intervals of history from which noise in time is measured


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One arm summed over replicas: (strata, intervals), 0 where absent."""

    events: Floats
    exposure: Floats


@dataclass(frozen=True, slots=True, eq=False)
class NoiseQuestion:
    """One comparison that asks for its noise. candidate, baseline: its looks; panels begin at interval `first`."""

    panels: Mapping[Arm, Panel]
    first: int
    candidate: Side
    baseline: Side
    r0: float


def side_of(panel: Panel) -> Side:
    return sides_of([panel])[0]


def sides_of(panels: Sequence[Panel]) -> list[Side]:
    """Each arm summed over its replicas."""
    found = in_groups([(panel.value[:, :, 0, :], panel.total) for panel in panels], _summed)
    return [Side(*one) for one in found]


def _summed(value: Floats, requests: Floats) -> tuple[Floats, Floats]:
    return (
        total(np.where(np.isnan(value), 0.0, value), axis=1),
        total(np.where(np.isnan(requests), 0.0, requests), axis=1),
    )


def _counted(panel: Panel) -> tuple[Floats, Floats]:
    """Events and exposure, (replicas, strata, intervals), 0 where absent."""
    value = panel.value[:, :, 0, :]
    return np.where(np.isnan(value), 0.0, value), np.where(np.isnan(panel.total), 0.0, panel.total)


def concurrent_noise(questions: Sequence[NoiseQuestion]) -> list[tuple[Noise, str]]:
    """What is believed of the noise at each look, from data up to that look, and where it comes from.

    Rows of the same shape are computed together, with the same bits as alone.
    """
    replicas = replica_noise([(q.panels, q.first) for q in questions])
    own = _between([(q.panels[Arm.CANDIDATE], q.first) for q in questions])
    factors = in_groups(
        [(*theirs, *ours) for theirs, ours in zip(replicas, own, strict=True)],
        lambda chi2, df, own_chi2, own_df: (
            np.maximum(_believed(chi2, df), _believed(own_chi2, own_df)),
            total(df, axis=1),
        ),
    )
    sides = in_groups([(*_parts(q.candidate), *_parts(q.baseline)) for q in questions], _over_strata)
    pasts = _pasts_of(questions)
    pasts = [past if len(factor) else None for past, (factor, _) in zip(pasts, factors, strict=True)]
    told = [i for i, past in enumerate(pasts) if past is not None]
    variations = in_groups(
        [(*past, factors[i][0][:1], *sides[i]) for i in told if (past := pasts[i]) is not None], _variation
    )
    known_past = dict(zip(told, variations, strict=True))
    believed = [_believed_in_time(df >= ENOUGH_DF, known_past.get(i)) for i, (_, df) in enumerate(factors)]
    rows = [
        (*sides[i], np.array([q.r0, own.at_once, own.beyond]))
        for i, (q, own) in enumerate(zip(questions, believed, strict=True))
    ]
    return [
        (Noise(factor, in_time, own.unshared, own.trusted), own.source)
        for (factor, _), (in_time,), own in zip(factors, in_groups(rows, _in_time), believed, strict=True)
    ]


def _over_strata(*sides: Floats) -> tuple[Floats, ...]:
    return tuple([total(side, axis=1) for side in sides])


def replica_noise(asked: Sequence[tuple[Mapping[Arm, Panel], int]]) -> Rows:
    """Chi-squares and degrees of freedom between replicas of the old version at every scale and look: peers, history
    and baseline. Asked by (panels, first) each."""
    now = _between([(panels[Arm.BASELINE], first) for panels, first in asked])
    older = [_before(panels, first) for panels, first in asked]
    seen = [i for i, rows in enumerate(older) if rows is not None]
    then = dict(zip(seen, in_groups([r for r in older if r is not None], _stacked_between), strict=True))
    return [
        (chi2 + then[i][0][:, -1:], df + then[i][1][:, -1:]) if i in then else (chi2, df)
        for i, (chi2, df) in enumerate(now)
    ]


def _before(panels: Mapping[Arm, Panel], first: int) -> tuple[Floats, Floats] | None:
    """The old version's replicas before the deploy; None where none was seen."""
    older = panels.get(Arm.PEERS) or panels.get(Arm.HISTORY)
    if older is None or first >= 0:
        return None
    value, requests = _counted(older)
    used = np.flatnonzero(requests[..., :-first].any(axis=(0, 1)))
    return (value[..., used], requests[..., used]) if len(used) else None


def _between(asked: Iterable[tuple[Panel, int]]) -> Rows:
    """Chi-squares between one version's replicas at every scale and look, of (panel, first) each."""
    asked = list(asked)
    found = in_groups([(panel.value[:, :, 0, :], panel.total) for panel, _ in asked], _stacked_between)
    return [
        (chi2[:, max(-first, 0) :], df[:, max(-first, 0) :])
        for (chi2, df), (_, first) in zip(found, asked, strict=True)
    ]


def _stacked_between(value: Floats, requests: Floats) -> tuple[Floats, Floats]:
    """NaN where absent, as (rows, replicas, strata, intervals)."""
    value, requests = (np.where(np.isnan(a), 0.0, a) for a in (value, requests))
    chi2, df = between_replicas(value, requests)
    return np.moveaxis(chi2, 0, 1), np.moveaxis(df, 0, 1)


def _believed(chi2: Floats, df: Floats) -> Floats:
    """(rows, looks) from (rows, scales, looks)."""
    return believed_factor(np.ascontiguousarray(np.moveaxis(chi2, 1, 0)), np.ascontiguousarray(np.moveaxis(df, 1, 0)))


def _pasts_of(questions: Sequence[NoiseQuestion]) -> list[tuple[Floats, Floats] | None]:
    """The old version before the deploy, as one series without gaps; None where it is too short or saw no event."""
    arms = [
        [q.panels[arm] for arm in (Arm.BASELINE, Arm.HISTORY) if arm in q.panels] if q.first < 0 else []
        for q in questions
    ]
    sides = iter(sides_of([_until(p, -q.first) for q, own in zip(questions, arms, strict=True) for p in own]))
    own_sides = [[next(sides) for _ in own] for own in arms]
    rows = [(*(s.events for s in own), *(s.exposure for s in own)) for own in own_sides if own]
    joined = iter(in_groups(rows, _joined))
    return [_series(*next(joined)) if own else None for own in own_sides]


def _until(panel: Panel, end: int) -> Panel:
    return Panel(panel.value[..., :end], panel.total[..., :end])


def _series(events: Floats, exposure: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Floats] | None:
    if np.count_nonzero(used) < LEAST_PAST:
        return None
    return (events[used], exposure[used]) if events.any() else None


def _joined(*sides: Floats) -> tuple[NDArray[Any], ...]:
    """Events of some arms, then their exposures, (rows, strata, intervals) each: both sums, and where any was."""
    events, exposure = sides[: len(sides) // 2], sides[len(sides) // 2 :]
    used = np.any(np.stack(exposure), axis=(0, 2))
    e, n = (total(total(np.stack(arms)), axis=1) for arms in (events, exposure))
    return np.where(used, e, 0.0), n, used


def _variation(
    events: Floats, exposure: Floats, clustering: Floats, e: Floats, n: Floats, e_other: Floats, n_other: Floats
) -> tuple[Floats, Floats, Floats]:
    """The old version's own variation at once and beyond, and the part of it that the arms do not share."""
    at_once, beyond = own_variation(events, exposure, clustering[:, 0])
    return at_once, beyond, unshared((e, n, e_other, n_other), swings(events, exposure))


@dataclass(frozen=True, slots=True, eq=False)
class _InTime:
    """What is believed of the noise in time: its squared variation at once and beyond, who shares it, whence known."""

    at_once: float
    beyond: float
    unshared: Floats
    trusted: NDArray[np.bool_]
    source: str


def _believed_in_time(trusted: NDArray[np.bool_], past: tuple[Floats, ...] | None) -> _InTime:
    source = "replicas" if len(trusted) and trusted[-1] else "history" if past is not None else "assumed"
    if past is None:
        return _InTime(DEFAULT_V, 0.0, np.where(trusted, 0.0, 1.0), trusted, source)
    return _InTime(float(past[0]), float(past[1]), past[2], trusted, source)


def _in_time(e: Floats, n: Floats, e_other: Floats, n_other: Floats, told: Floats) -> tuple[Floats]:
    """Variance factor of each look's events, were none of it shared. told: (rows, 3) r0, v at once and beyond."""
    r0, v, slow_v = told[:, :1], told[:, 1:2], told[:, 2:]
    events = e + e_other
    all_n = r0 * n + n_other
    p = np.divide(r0 * n, all_n, out=np.zeros_like(n), where=all_n > 0)
    usual = _recent_mean(events)
    intensity = usual * (1.0 + v * events) / (1.0 + v * usual)  # posterior mean of a gamma rate given its count
    return (1.0 + 2.0 * (v * intensity + slow_v * usual) * p * (1.0 - p),)


def _recent_mean(events: Floats) -> Floats:
    """Mean of each look and those shortly before it: slow noise meets whole stretches of looks, not single bursts."""
    looks, back = events.shape[1], SCALES[-1]
    seen = np.zeros((len(events), looks + back))
    np.add.accumulate(events, axis=1, out=seen[:, back:])
    return (seen[:, back:] - seen[:, :looks]) / np.minimum(np.arange(1, looks + 1), back)


def _parts(side: Side) -> tuple[Floats, Floats]:
    return side.events, side.exposure
