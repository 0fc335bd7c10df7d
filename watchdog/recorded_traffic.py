"""The traffic, levels and noise of a recorded deploy's old version, for `sensitivity`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analysis.decode import COUNTS, Arrays, Decoded, Floats, decode
from analysis.dispersion import believed_factor, between_replicas, over_time
from analysis.prepare import Observation
from analysis.result import Arm, Design, Kind
from analysis.sensitivity import SIZELESS, Traffic
from watchdog.app import recorded_cases
from watchdog.errors import WatchdogError

_SLOWEST = 0.01
LEAST_LEVELS = 12  # values from which a level's noise is taken
_NO_SAMPLES = "no samples of the old version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What metrics look like, and by name why others tell too little: nobody should believe that they were asked."""

    traffic: Sequence[Traffic]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> str:
        return ", ".join(f"{metric} ({why})" for metric, why in self.left_out.items())


def traffic_of_case(folder: Path, wanted: str | None) -> Told:
    """What a case's metrics look like before its deploy (WatchdogError where all of them tell too little).

    wanted: the case's id; the first case without it. The candidate's own values are not looked at.
    """
    case = next((case for case in recorded_cases(folder) if wanted in (None, case.id)), None)
    if case is None:
        raise WatchdogError(f"{folder} has no case {wanted!r}" if wanted else f"{folder} has no case")
    found = traffic_of(case.observation())
    if not found.traffic:
        why = f": {found.reasons}" if found.left_out else ""
        raise WatchdogError(f"case {case.id!r} tells of no metric what its traffic and level were{why}")
    return found


def traffic_of(seen: Observation) -> Told:
    """What the metrics look like before the deploy, else beside it; those that tell too little are left out."""
    watch = decode(seen)
    found = {metric.spec.name: _traffic(watch, metric) for metric in watch.metrics}
    return Told(
        traffic=[one for one in found.values() if isinstance(one, Traffic)],
        left_out={name: why for name, why in found.items() if isinstance(why, str)},
    )


def _traffic(watch: Decoded, metric: Arrays) -> Traffic | str:
    """The old version's figures: before the deploy, else beside the candidate; else why there are none."""
    if metric.spec.kind in SIZELESS:
        return SIZELESS[metric.spec.kind]
    reasons: list[str] = []
    arms = [arm for arm in (Arm.HISTORY, Arm.BASELINE) if arm in metric.panels]
    start = max(-metric.first, 0)
    for arm in arms:
        for before in (True, False):
            if before is False and watch.design is Design.BEFORE_AFTER:
                continue
            cut = slice(None, start) if before else slice(start, None)
            panel = metric.panels[arm]
            value, total = panel.value[..., cut], panel.total[..., cut]
            whole = before or watch.share is None
            part = 1.0 if whole else 1.0 - (watch.share or 0.0)
            made = _counted(watch, metric, value, total, part) if _is_counted(metric) else _level(watch, metric, value)
            if isinstance(made, Traffic):
                return made
            reasons.append(made)
    return next((why for why in reasons if why != _NO_SAMPLES), _NO_SAMPLES)


def _is_counted(metric: Arrays) -> bool:
    return metric.spec.kind in COUNTS or metric.spec.kind is Kind.LATENCY


def _counted(watch: Decoded, metric: Arrays, value: Floats, total: Floats, part: float) -> Traffic | str:
    counted = _slower(value, total) if metric.spec.kind is Kind.LATENCY else value[:, :, 0]
    events = np.nan_to_num(counted).sum(axis=(0, 1))
    exposure = np.nan_to_num(total).sum(axis=(0, 1))
    n, e = float(exposure.sum()), float(events.sum())
    if n <= 0:
        return _NO_SAMPLES
    if not e > 0:
        return "not one event in all of that time, so no level to rise from"
    if metric.spec.kind in (Kind.RATIO, Kind.LATENCY) and e >= n:
        return "all of its requests are bad, and more cannot be"
    factor = _dispersion(watch.design, np.nan_to_num(counted), np.nan_to_num(total))
    return Traffic(
        spec=metric.spec,
        level=e / n,
        requests_per_minute=n / len(exposure) / watch.step_s * 60 / part,
        share=watch.share or 0.5,
        dispersion=max(factor, 1.0),
        replicas=max(value.shape[0], 1),
        candidates=max(watch.candidate_expected or 1, 1),
        past_looks=min(len(exposure), 90),
        look_s=watch.step_s,
        design=watch.design,
    )


def _dispersion(design: Design, events: Floats, exposure: Floats) -> float:
    """What the judge reckons with: noise between replicas where both arms serve, swings in time before/after."""
    if design is Design.CONCURRENT and events.shape[0] > 1:
        chi2, df = between_replicas(events, exposure)
        return float(believed_factor(chi2, df)[-1])
    return over_time(events.sum(axis=(0, 1)), exposure.sum(axis=(0, 1)))[0]


def _slower(value: Floats, total: Floats) -> Floats:
    """Requests slower than one bound: of all bounds the one that is nearest to the slowest hundredth."""
    slower = np.maximum(total[:, :, None, :] - value, 0.0)
    n = max(float(np.nan_to_num(total).sum()), 1.0)
    shares = np.nan_to_num(slower).sum(axis=(0, 1, 3)) / n
    distance = [abs(math.log(share / _SLOWEST)) if share > 0 else math.inf for share in shares]
    found: Floats = slower[:, :, int(np.argmin(distance))]
    return found


def _level(watch: Decoded, metric: Arrays, value: Floats) -> Traffic | str:
    rows: Sequence[Floats] = [row[~np.isnan(row)] for row in value[:, 0, 0]]
    rows = [row for row in rows if len(row) >= LEAST_LEVELS]
    if not rows:
        return f"fewer than {LEAST_LEVELS} samples of any replica" if (~np.isnan(value)).any() else _NO_SAMPLES
    level = float(np.mean([row.mean() for row in rows]))
    sd = float(np.sqrt(np.mean([row.var() for row in rows])))
    if level <= 0:
        return "a level that is not above 0 has no ratio"
    if sd <= 0:
        return "a level that never moves has no noise to be told from"
    lagged = [float(np.mean((row[1:] - row.mean()) * (row[:-1] - row.mean())) / max(row.var(), 1e-300)) for row in rows]
    return Traffic(
        spec=metric.spec,
        level=level,
        sd=sd,
        phi=min(max(float(np.mean(lagged)), 0.0), 0.97),
        share=watch.share or 0.5,
        replicas=max(len(rows), 1),
        candidates=max(watch.candidate_expected or 1, 1),
        past_looks=min(value.shape[-1], 90),
        look_s=watch.step_s,
        design=watch.design,
    )
