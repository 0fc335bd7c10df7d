"""How good verdicts were, by what analysts said of them afterwards. Pure.

A deploy is healthy where its label says so: `false_alarm`, or `right` on one that was not called DEGRADED; and where it
was called HEALTHY and has no label, as long as nobody objects. One that ended inconclusive (without traffic, say) and
has no label is neither, and is told beside the others: nobody judged it. It was worse where its label says so:
`missed`, or `right` on one that was called DEGRADED. An alarm without a label is neither; what it could do to the rate
is told beside it (`at_most`). `unclear` counts nowhere.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from analysis.evaluate import exact_interval
from watchdog.model import FINAL, LabelKind, State
from watchdog.ports import Tally

_CALLED_BAD, _CALLED_GOOD = "DEGRADED", "HEALTHY"
JUDGED = frozenset({_CALLED_BAD, _CALLED_GOOD})  # the verdicts that say something of a deploy
_MOVED = frozenset({State.ROLLED_BACK, State.NOT_RECOVERED, State.FAILED, State.UNKNOWN})
_DAY_S = 86400
PERIODS = ("month", "week")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `of`, with the exact 95 % interval."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.hits, self.of)

    def as_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "hits": self.hits, "of": self.of}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The verdicts of some deploys, counted."""

    judged: int  # deploys that are over and were called HEALTHY or DEGRADED
    inconclusive: int  # that are over, and about which nobody can tell
    alarms: int  # called DEGRADED
    labelled: int
    true_alarms: int
    false_alarms: int
    false_rollbacks: int  # of the false alarms, those that moved traffic
    missed: int
    healthy: int  # false alarms included
    unlabelled_alarms: int
    unlabelled_rollbacks: int
    promised: float  # false alarms that the budgets of the healthy deploys allow, as a number of deploys

    @property
    def precision(self) -> Share:
        """Of the alarms that were labelled, those that were right."""
        return Share(hits=self.true_alarms, of=self.true_alarms + self.false_alarms)

    @property
    def recall(self) -> Share:
        """Of the deploys known to be worse, those that were called so."""
        return Share(hits=self.true_alarms, of=self.true_alarms + self.missed)

    @property
    def false_alarm_rate(self) -> Share:
        """Of the healthy deploys, those that were called DEGRADED; this is what the budget promises."""
        return Share(hits=self.false_alarms, of=self.healthy)

    @property
    def false_rollback_rate(self) -> Share:
        """Of the healthy deploys, those that were rolled back."""
        return Share(hits=self.false_rollbacks, of=self.healthy)

    @property
    def at_most(self) -> float | None:
        """The false-alarm rate if every alarm without a label was false."""
        return self._worst.value

    @property
    def _worst(self) -> Share:
        return Share(hits=self.false_alarms + self.unlabelled_alarms, of=self.healthy + self.unlabelled_alarms)

    @property
    def budget(self) -> float | None:
        """The mean budget of the healthy deploys."""
        return self.promised / self.healthy if self.healthy else None

    @property
    def standing(self) -> str:
        """`kept` or `broken` beyond doubt, else `open`: too few deploys to tell, or too many alarms without a label.

        An alarm without a label is held against `kept` as if it was false, and not held against it for `broken`.
        """
        if self.budget is None:
            return "open"
        if self.false_alarm_rate.interval[0] > self.budget:
            return "broken"
        return "kept" if self._worst.interval[1] <= self.budget else "open"

    def as_json(self) -> dict[str, Any]:
        counted = (
            "judged",
            "inconclusive",
            "alarms",
            "labelled",
            "true_alarms",
            "false_alarms",
            "false_rollbacks",
            "missed",
            "healthy",
        )
        shares = ("precision", "recall", "false_alarm_rate", "false_rollback_rate")
        return {
            **{name: getattr(self, name) for name in (*counted, "unlabelled_alarms", "unlabelled_rollbacks")},
            **{name: getattr(self, name).as_json() for name in shares},
            "false_alarm_rate_at_most": self.at_most,
            "budget": self.budget,
            "standing": self.standing,
        }


def quality(tallies: Iterable[Tally]) -> Quality:
    """Count the deploys that are over; one that was never judged says nothing of verdicts."""
    found: defaultdict[str, int] = defaultdict(int)
    promised = 0.0
    for tally in tallies:
        if tally.verdict is None or (tally.state not in FINAL and tally.label is None):
            continue
        alarm = tally.verdict == _CALLED_BAD
        for name in _counts_as(tally, alarm=alarm):
            found[name] += tally.count
        if _is_healthy(tally, alarm=alarm):
            promised += tally.budget * tally.count
    names = [name for name in Quality.__dataclass_fields__ if name != "promised"]
    return Quality(promised=promised, **{name: found[name] for name in names})


def _is_healthy(tally: Tally, *, alarm: bool) -> bool:
    if tally.label is None:
        return tally.verdict == _CALLED_GOOD
    if tally.label is LabelKind.RIGHT:
        return not alarm
    return tally.label is LabelKind.FALSE_ALARM


def _counts_as(tally: Tally, *, alarm: bool) -> list[str]:
    moved = tally.state in _MOVED
    names = ["judged" if tally.verdict in JUDGED else "inconclusive", *(["alarms"] if alarm else [])]
    if tally.label is not None:
        names.append("labelled")
    elif alarm:
        names += ["unlabelled_alarms", *(["unlabelled_rollbacks"] if moved else [])]
    if tally.label is LabelKind.RIGHT and alarm:
        names.append("true_alarms")
    if tally.label is LabelKind.FALSE_ALARM:
        names += ["false_alarms", *(["false_rollbacks"] if moved else [])]
    if tally.label is LabelKind.MISSED:
        names.append("missed")
    return [*names, *(["healthy"] if _is_healthy(tally, alarm=alarm) else [])]


def report(tallies: Iterable[Tally], *, by: str = "month") -> dict[str, Any]:
    """Everything as JSON values: all together, by service, and over time (calendar months or ISO weeks, UTC)."""
    known = list(tallies)
    return {
        "all": quality(known).as_json(),
        "services": [{"service": name, **q.as_json()} for name, q in _split(known, lambda t: t.service).items()],
        "periods": [{"period": start, **q.as_json()} for start, q in over_time(known, by=by).items()],
        "by": by,
    }


def over_time(tallies: Iterable[Tally], *, by: str = "month") -> Mapping[str, Quality]:
    """By the first day of each period as an ISO date, oldest first; periods without deploys are absent."""
    if by not in PERIODS:
        raise ValueError(f"{by!r} is no period; expected one of {', '.join(PERIODS)}")
    return _split(tallies, lambda tally: period_start(tally.day, by=by).isoformat())


def period_start(day: int, *, by: str) -> date:
    """The first day of the month or ISO week that a Unix day lies in."""
    at = datetime.fromtimestamp(day * _DAY_S, tz=UTC).date()
    return at.replace(day=1) if by == "month" else at - timedelta(days=at.weekday())


def _split(tallies: Iterable[Tally], key: Callable[[Tally], str]) -> Mapping[str, Quality]:
    groups: defaultdict[str, list[Tally]] = defaultdict(list)
    for tally in tallies:
        groups[key(tally)].append(tally)
    return {name: quality(groups[name]) for name in sorted(groups)}
