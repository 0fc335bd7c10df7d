"""What the page of a service shows: its deploys, how they went, how good verdicts were, what would allow more."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from watchdog.model import FINAL, LabelKind, Mode, State
from watchdog.ports import Clock, Ledger, Tally
from watchdog.quality import Quality, Share, over_time, period_start, quality
from watchdog.web.auth import Caller
from watchdog.web.charts import bars
from watchdog.web.errors import ApiError
from watchdog.web.reading import Reading, Sought
from watchdog.web.views import watch_summary

LAST_DAYS = 180
_DEPLOYS_SHOWN = 20
_MONTHS_SHOWN = 6
_WEEK_S = 7 * 86400
_FAILED = frozenset({State.ROLLED_BACK, State.NOT_RECOVERED, State.FAILED, State.UNKNOWN})
_UNCOUNTED = frozenset({State.SUPERSEDED, State.CANCELLED, State.SMOKE_FAILED})  # never had the whole of their watch


def service_model(name: str, caller: Caller, reading: Reading, ledger: Ledger, clock: Clock) -> dict[str, Any]:
    """The page of one service; 404 alike for one without deploys and one the caller may not see."""
    recent, _ = reading.page(caller, Sought(service=name), limit=_DEPLOYS_SHOWN)
    if not recent or not caller.serves(name):
        raise ApiError(404, "There is no deploy of such a service.")
    since = clock.now() - LAST_DAYS * 86400
    tallies = ledger.tallies(service=name, since=since)
    labels = ledger.labels([watch.id for watch in recent])
    restored = ledger.times_to_restore(name, since=since)
    verdicts = quality(tallies)
    return {
        "service": name,
        "days": LAST_DAYS,
        "mode": recent[0].mode.value,
        "deploys": [
            watch_summary(w) | {"label": said.kind.value if (said := labels.get(w.id)) else None} for w in recent
        ],
        "count": sum(t.count for t in tallies),
        "per_week": sum(t.count for t in tallies) / max(1.0, _weeks(tallies, clock.now())),
        "failures": failures(tallies),
        "restore_median": median(restored) if restored else None,
        "restores": len(restored),
        "quality": verdicts,
        "periods": _months(tallies),
        "graduation": graduation(recent[0].mode, tallies),
        "chart": _chart(tallies),
    }


def _months(tallies: Sequence[Tally]) -> list[tuple[str, Quality]]:
    """The last months in which anything was watched to its end, newest first."""
    judged = [(start[:7], q) for start, q in over_time(tallies).items() if q.judged or q.inconclusive]
    return judged[: -_MONTHS_SHOWN - 1 : -1]


def failures(tallies: Sequence[Tally]) -> Share:
    """Change failures: deploys that were rolled back for a reason, should have been, or could not be.

    A false alarm is no failure of the change; a deploy that was replaced or cancelled counts nowhere.
    """
    counted = [t for t in tallies if t.state in FINAL and t.state not in _UNCOUNTED]
    failed = [t for t in counted if is_failure(t)]
    return Share(hits=sum(t.count for t in failed), of=sum(t.count for t in counted))


def is_failure(tally: Tally) -> bool:
    """Whether the change itself failed, as far as anybody knows."""
    if tally.label is LabelKind.FALSE_ALARM:
        return False
    return tally.label is LabelKind.MISSED or tally.state in _FAILED


def graduation(mode: Mode, tallies: Sequence[Tally]) -> dict[str, Any]:
    """The evidence for giving the watchdog more freedom with a service.

    With no false alarm among n healthy deploys the rate is below the budget, with 95 % confidence two-sided, from
    n = ln(0.025) / ln(1 - budget) on (exact binomial): 368 deploys for 1 %. Each false alarm makes it more.
    What was kept is a reason to go on to the next mode, what was broken is one to go back.
    """
    order = list(Mode)
    place = order.index(mode)
    seen = quality(tallies)
    budget = seen.budget
    needed = math.ceil(math.log(0.025) / math.log1p(-budget)) if budget is not None and 0 < budget < 1 else None
    return {
        "next": order[place + 1].value if place + 1 < len(order) else None,
        "previous": order[place - 1].value if place > 0 else None,
        "needed": needed,
        "standing": seen.standing,
        "unlabelled": seen.unlabelled_alarms,
    }


def _weeks(tallies: Sequence[Tally], now: float) -> float:
    return (now - min((t.day for t in tallies), default=0) * 86400) / _WEEK_S if tallies else 1.0


def _chart(tallies: Sequence[Tally]) -> Any:
    """Deploys a month, from below: those that passed, those that failed, and those that did neither."""
    months: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tally in tallies:
        if tally.state not in FINAL:
            continue
        place = 1 if is_failure(tally) else 0 if tally.state is State.PASSED else 2
        months[period_start(tally.day, by="month").isoformat()[:7]][place] += tally.count
    columns = [
        (month, [(float(n), look) for n, look in zip(counts, ("good-bar", "bad-bar", "other-bar"), strict=True)])
        for month, counts in sorted(months.items())
    ]
    says = "; ".join(f"{month}: {c[0]} passed, {c[1]} failed, {c[2]} other" for month, c in sorted(months.items()))
    return bars(title="Deploys by month", says=says, columns=columns)
