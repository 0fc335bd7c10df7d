"""Times before a deploy in which the place was known to be worse: what they show is no measure for a new version.

Where one goes back, mends, and deploys again, the time before the new version is the incident. Compared with that,
twenty times the usual errors were healthy.
"""

from collections.abc import Sequence

from analysis.result import Design
from watchdog.bad_target import was_found_worse
from watchdog.model import Watch
from watchdog.ports import Ledger, LookRequest
from watchdog.strategies.window import interval_bounds

_MANY = 20  # deploys of one place that are looked through, newest first
_STALE_S = 86_400.0  # what nobody ended for a day is how the place is
_FEWEST = 10  # intervals of a past that is worth having

Span = tuple[float, float]


def without_incidents(ledger: Ledger, watch: Watch, asked: Sequence[LookRequest]) -> list[LookRequest]:
    """What is asked of a watch, and of the time before its deploy no incident. Where next to nothing of that time would
    be left, all of it: an alarm of which nobody knows how it ended makes the next deploy not blind."""
    past = sum(one.interval < 0 for one in asked)
    spans = incidents(ledger, watch) if past else []
    rest = [one for one in asked if one.interval >= 0 or not _falls_into(watch, one.interval, spans)]
    return rest if sum(one.interval < 0 for one in rest) >= min(past, _FEWEST) else list(asked)


def incidents(ledger: Ledger, watch: Watch) -> list[Span]:
    """From when to when earlier deploys of the place were worse, as far as that lies in the time before this one.

    Only for a comparison of before and after: side by side, what hit another version is no part of the old one. A human
    who let a version stay said that it is no incident.
    """
    if watch.plan.design is not Design.BEFORE_AFTER:
        return []
    since = interval_bounds(watch, -watch.plan.baseline_looks)[0]
    deploy, until = watch.deploy, watch.live_at
    found = []
    for other in ledger.watches(service=deploy.service, environment=deploy.environment, limit=_MANY):
        if other.id == watch.id or other.awaits_switch or other.live_at >= watch.live_at:
            continue
        ended = until if other.recovered_at is None else min(until, other.recovered_at)
        if ended <= since:
            break
        known_at = other.degraded_at if other.degraded_at is not None else other.live_at
        is_old = watch.live_at - known_at > _STALE_S and other.recovered_at is None
        if not is_old and was_found_worse(ledger, other):
            found.append((_began(ledger, other), ended))
        until = until if other.plan.bakes else other.live_at
    return found


def _falls_into(watch: Watch, interval: int, spans: Sequence[Span]) -> bool:
    """Whether an interval has a part in one of some spans."""
    start, end = interval_bounds(watch, interval)
    return any(start < ended and began < end for began, ended in spans)


def _began(ledger: Ledger, other: Watch) -> float:
    """The look at which it most likely began; where nothing says that, its deploy."""
    last = next(iter(ledger.verdicts(other.id, last=1)), None)
    look = None if last is None else last.payload.get("since_look")
    return other.live_at if look is None else interval_bounds(other, look)[0]
