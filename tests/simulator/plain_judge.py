"""A cheap stand-in for the judge, for runs that are about crashes: pure, causal, and coarse.

It calls a candidate bad whose errors are far beyond twice the baseline's, absent after three positive looks, and never
anything worse than INCONCLUSIVE where samples are missing. Every tenth seed is judged by the real one.
"""

import math
from collections.abc import Sequence

import numpy as np

from analysis.decode import Decoded, decode
from analysis.prepare import Observation
from analysis.result import Arm, JudgeSettings, Reason, SourceStatus, Verdict, VerdictKind

ABSENT_LOOKS = 3
SIGMA = 5.0


def plain_judge(observations: Sequence[Observation], settings: Sequence[JudgeSettings]) -> list[Verdict]:
    """From the stored looks, as a replay has them."""
    return plain_judge_decoded([decode(seen) for seen in observations], settings)


def plain_judge_decoded(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[Verdict]:
    """From arrays, as the daemon has them."""
    return [_judged(seen, how) for seen, how in zip(watches, settings, strict=True)]


def _judged(seen: Decoded, settings: JudgeSettings) -> Verdict:
    if not seen.looks:
        return _verdict(seen, settings, VerdictKind.INCONCLUSIVE, Reason.NO_DATA, None)
    counted = 0
    sums = [0.0, 0.0, 0.0, 0.0]  # bad and total of baseline and candidate
    gone = 0
    columns = _columns(seen)
    for look, facts in enumerate(seen.facts):
        if facts.status is not SourceStatus.OK:
            continue
        gone = gone + 1 if facts.candidate_down and facts.baseline_up else 0
        if gone >= ABSENT_LOOKS:
            return _verdict(seen, settings, VerdictKind.DEGRADED, Reason.CANDIDATE_ABSENT, look)
        column = columns[look]
        if column is not None:
            counted += 1
            sums = [so_far + new for so_far, new in zip(sums, column, strict=True)]
        if _is_worse(sums):
            return _verdict(seen, settings, VerdictKind.DEGRADED, Reason.METRICS, look)
    if seen.facts[-1].status is SourceStatus.DOWN:
        return _verdict(seen, settings, VerdictKind.INCONCLUSIVE, Reason.SOURCE_DOWN, None)
    if counted < settings.min_looks:
        return _verdict(seen, settings, VerdictKind.INCONCLUSIVE, Reason.NO_DATA, None)
    return _verdict(seen, settings, VerdictKind.HEALTHY, None, None)


def _columns(seen: Decoded) -> list[list[float] | None]:
    """Bad and total of baseline and candidate at each look; None where the candidate was not seen."""
    metric = seen.metrics[0]
    candidate = metric.panels.get(Arm.CANDIDATE)
    if candidate is None:
        return [None] * seen.looks
    sums = np.zeros((4, seen.looks))
    for arm, panel in metric.panels.items():
        at = 2 if arm is Arm.CANDIDATE else 0
        sums[at] += np.nansum(panel.value[..., -seen.looks :], axis=(0, 1, 2))
        sums[at + 1] += np.nansum(panel.total[..., -seen.looks :], axis=(0, 1))
    absent = np.asarray(np.isnan(candidate.value[..., -seen.looks :]).all(axis=(0, 1, 2)))
    return [None if absent[look] else sums[:, look].tolist() for look in range(seen.looks)]


def _is_worse(sums: Sequence[float]) -> bool:
    bad, total, candidate_bad, candidate_total = sums
    if total <= 0 or candidate_total <= 0:
        return False
    tolerated = 2.0 * candidate_total * bad / total
    return candidate_bad > tolerated + SIGMA * math.sqrt(tolerated + 1.0)


def _verdict(
    seen: Decoded, settings: JudgeSettings, kind: VerdictKind, reason: Reason | None, alarm: int | None
) -> Verdict:
    threshold = -math.log(settings.budget)
    return Verdict(
        kind=kind,
        reason=reason,
        metric=seen.metrics[0].spec.name if kind is VerdictKind.DEGRADED else None,
        look=seen.looks - 1,
        alarm_look=alarm,
        log_evidence=threshold + 1.0 if alarm is not None else 0.0,
        log_threshold=threshold,
        sentence=f"{kind.value} {reason.value if reason is not None else ''}".strip(),
    )
