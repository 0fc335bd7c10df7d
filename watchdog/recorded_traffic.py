"""The traffic, levels and noise of a recorded deploy's old version, for `sensitivity`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.decode import COUNTS, Arrays, Decoded, Floats, decode
from analysis.dispersion import over_time
from analysis.result import Arm, Design, Kind
from analysis.sensitivity import Traffic
from watchdog.app import recorded_cases
from watchdog.errors import WatchdogError

LEAST_LEVELS = 12  # values from which a level's noise is taken


def traffic_of_case(folder: Path, wanted: str | None) -> list[Traffic]:
    """What a case's metrics look like before its deploy; those that tell too little are left out (WatchdogError).

    wanted: the case's id; the first case without it. The candidate's own values are not looked at.
    """
    case = next((case for case in recorded_cases(folder) if wanted in (None, case.id)), None)
    if case is None:
        raise WatchdogError(f"{folder} has no case {wanted!r}" if wanted else f"{folder} has no case")
    watch = decode(case.observation())
    found = [traffic for metric in watch.metrics if (traffic := _traffic(watch, metric)) is not None]
    if not found:
        raise WatchdogError(f"case {case.id!r} tells of no metric what its traffic and level were")
    return found


def _traffic(watch: Decoded, metric: Arrays) -> Traffic | None:
    """The old version's figures: before the deploy, else beside the candidate."""
    if metric.spec.kind is Kind.TREND:
        return None
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
            if made is not None:
                return made
    return None


def _is_counted(metric: Arrays) -> bool:
    return metric.spec.kind in COUNTS or metric.spec.kind is Kind.LATENCY


def _counted(watch: Decoded, metric: Arrays, value: Floats, total: Floats, part: float) -> Traffic | None:
    if metric.spec.kind is Kind.LATENCY:
        return None  # a recorded histogram has many bounds; give one bound's share by hand
    events = np.nan_to_num(value[:, :, 0]).sum(axis=(0, 1))
    exposure = np.nan_to_num(total).sum(axis=(0, 1))
    n, e = float(exposure.sum()), float(events.sum())
    if n <= 0 or not e > 0 or (metric.spec.kind is Kind.RATIO and e >= n):
        return None
    factor, _, _ = over_time(events, exposure)
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


def _level(watch: Decoded, metric: Arrays, value: Floats) -> Traffic | None:
    rows: Sequence[Floats] = [row[~np.isnan(row)] for row in value[:, 0, 0]]
    rows = [row for row in rows if len(row) >= LEAST_LEVELS]
    if not rows:
        return None
    level = float(np.mean([row.mean() for row in rows]))
    sd = float(np.sqrt(np.mean([row.var() for row in rows])))
    if level <= 0 or sd <= 0:
        return None
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
