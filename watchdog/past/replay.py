"""Real past deploys, judged as they would have been: look by look, to the first alarm, knowing nothing later."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from analysis.hindsight import watch as judge_afterwards
from analysis.result import Reason, Verdict, VerdictKind
from watchdog.earlier_days import usual_course
from watchdog.judging import observation
from watchdog.model import StoredLook, Watch
from watchdog.past.deploys import PastDeploy
from watchdog.past.service import PastService, Progress
from watchdog.strategies import STRATEGIES

_AT_ONCE = 10  # deploys fetched together


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What would have been said of one past deploy, and done in mode auto."""

    deploy: PastDeploy
    would: str  # roll back, hold, pass, or nothing
    verdict: str
    reason: str | None
    metric: str | None
    alarm_at_s: float | None  # seconds from the deploy to the end of the look that alarmed
    looks: int
    sentence: str


def replay(
    service: PastService, deploys: Sequence[PastDeploy], *, until: float, progress: Progress = lambda done, total: None
) -> list[Replayed]:
    """Judge these deploys, in their order. A watch ends where the next deploy begins."""
    ends = [*(later.at for _, later in pairwise(deploys)), until]
    found: list[Replayed] = []
    for begin in range(0, len(deploys), _AT_ONCE):
        some = list(zip(deploys, ends, strict=True))[begin : begin + _AT_ONCE]
        watches = [_watch(service, deploy) for deploy, _ in some]
        asked = [
            (watch, _intervals(watch, end)) for watch, (_, end) in zip(watches, some, strict=True) if watch is not None
        ]
        looks = service.looks(asked)
        for watch, (deploy, end) in zip(watches, some, strict=True):
            if watch is None:
                found.append(_not_judged(deploy, "the version before it is not known"))
            elif not _intervals(watch, end):
                found.append(_not_judged(deploy, "its first look has not closed yet"))
            else:
                verdict = judge_afterwards(observation(watch, looks[watch.id]), watch.plan.judge)
                found.append(_said(deploy, watch, verdict, _usual(service, watch, verdict, looks[watch.id])))
            progress(len(found), len(deploys))
    return found


def _watch(service: PastService, deploy: PastDeploy) -> Watch | None:
    needs = STRATEGIES[deploy.strategy or service.strategy].needs_previous_version
    if needs and deploy.previous_version is None:
        return None
    return service.watch(
        at=deploy.at,
        version=deploy.version,
        previous=deploy.previous_version,
        strategy=deploy.strategy,
        share=deploy.share,
        instances=deploy.instances,
        deploy_id=deploy.id,
    )


def _intervals(watch: Watch, end: float) -> list[int]:
    """What a watch would have asked for: its planned looks while nothing newer went live, and the time before."""
    plan = watch.plan
    closed = min(plan.judge.planned_looks, math.floor((end - plan.settle_s - watch.live_at) / plan.step_s))
    return [*range(-plan.baseline_looks, 0), *range(closed)] if closed > 0 else []


def _not_judged(deploy: PastDeploy, why: str) -> Replayed:
    return Replayed(
        deploy=deploy,
        would="nothing",
        verdict=VerdictKind.INCONCLUSIVE.value,
        reason=Reason.NO_DATA.value,
        metric=None,
        alarm_at_s=None,
        looks=0,
        sentence=f"not judged: {why}",
    )


def _usual(service: PastService, watch: Watch, verdict: Verdict, looks: Sequence[StoredLook]) -> str:
    """What the days before the deploy say of an alarm, as it would have been asked then."""
    then = replace(watch, looks=verdict.look + 1)
    return usual_course(then, verdict, lambda: [one for one in looks if one.interval <= verdict.look], service.fetch)


def _said(deploy: PastDeploy, watch: Watch, verdict: Verdict, usual: str) -> Replayed:
    alarm = verdict.alarm_look
    return Replayed(
        deploy=deploy,
        would="hold" if usual else _would(verdict),
        verdict=verdict.kind.value,
        reason=None if verdict.reason is None else verdict.reason.value,
        metric=verdict.metric,
        alarm_at_s=None if alarm is None else (alarm + 1) * watch.plan.step_s,
        looks=verdict.look + 1,
        sentence=f"{verdict.sentence}; {usual}" if usual else verdict.sentence,
    )


def _would(verdict: Verdict) -> str:
    if verdict.kind is VerdictKind.DEGRADED:
        return "roll back"
    if verdict.kind is VerdictKind.HEALTHY:
        return "pass"
    held = verdict.reason in (Reason.SHARED_CAUSE, Reason.NO_COUNTERPART)
    return "hold" if verdict.alarm_look is not None or held else "nothing"
