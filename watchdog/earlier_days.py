"""Whether an alarm beside the time before the deploy is the usual course of the day: the source is asked for the same
hours of earlier days, when there is an alarm and not before.

A brake and no part of the verdict, which stays a function of the stored looks. A source that does not answer, or keeps
too short a past, excuses nobody.
"""

from collections.abc import Callable, Sequence

from analysis.earlier_days import AHEAD, Day, Usual, usual
from analysis.result import Arm, Design, Reason, Verdict
from watchdog.judging import observation
from watchdog.model import StoredLook, Watch
from watchdog.ports import ArmWindow, LookAnswer, LookRequest
from watchdog.strategies.window import interval_bounds

DAY_S = 86_400.0
_ALARMS = frozenset({Reason.METRICS, Reason.UNCALIBRATED})

Ask = Callable[[Sequence[LookRequest]], Sequence[LookAnswer]]


def usual_course(watch: Watch, verdict: Verdict, looks: Callable[[], Sequence[StoredLook]], ask: Ask) -> str:
    """What earlier days say of an alarm, in words for people; empty where they do not explain it.

    looks: all of the watch; asked for only then. ask: the source of the watch.
    """
    if not _matters(watch, verdict) or verdict.metric is None:
        return ""
    requests = [_requests(watch, verdict.metric, day) for day in range(1, watch.plan.earlier_days + 1)]
    answers = iter(ask([request for day in requests for request in day]))
    days: list[Day] = [_day(verdict.metric, [(r.interval, next(answers)) for r in day]) for day in requests]
    found = usual(observation(watch, looks()), days, watch.plan.judge, metric=verdict.metric)
    return _words(found) if found is not None else ""


def _matters(watch: Watch, verdict: Verdict) -> bool:
    before_after = watch.plan.design is Design.BEFORE_AFTER and watch.plan.earlier_days > 0
    return before_after and verdict.alarm_look is not None and verdict.reason in _ALARMS


def _requests(watch: Watch, metric: str, day: int) -> list[LookRequest]:
    """One earlier day's whole service, by the intervals of the watch and a little further."""
    found = []
    for interval in range(-watch.plan.baseline_looks, watch.looks + AHEAD):
        start, end = (moment - day * DAY_S for moment in interval_bounds(watch, interval))
        window = ArmWindow(arm=Arm.CONTROL.value, start=start, end=end, labels=watch.plan.selector_labels)
        found.append(
            LookRequest(
                watch_id=watch.id,
                service=watch.deploy.service,
                interval=interval,
                arms=(window,),
                metrics=tuple(one for one in watch.plan.metrics if one.spec.name == metric),
            )
        )
    return found


def _day(metric: str, answers: Sequence[tuple[int, LookAnswer]]) -> Day:
    return {(metric, interval): answer.cells[metric] for interval, answer in answers if metric in answer.cells}


def _words(found: Usual) -> str:
    return (
        f"at these hours it got worse on {found.worse} of {found.known} earlier days too "
        f"({found.evidence.sentence}), and beside them it is not worse now: the usual course of the day"
    )
