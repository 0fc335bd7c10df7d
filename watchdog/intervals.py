"""Which intervals of a watch are looked at, and when the next one is due. Pure."""

from collections.abc import Callable, Sequence

from analysis.result import SourceStatus
from watchdog.model import Mode, State, StoredLook, Strategy, Watch
from watchdog.ports import LookRequest
from watchdog.strategies import rules_of
from watchdog.strategies.rolling import frozen, is_alone
from watchdog.strategies.window import closes_at

MAX_LOOKS_PER_TICK = 60  # after a long stop the backlog is caught up in pieces
IDLE_S = {State.UNKNOWN: 60.0}  # states that wait for somebody else need no busy looking


def next_due(watch: Watch, now: float) -> float:
    """When this watch wants the next tick."""
    next_look = closes_at(watch, watch.looks)
    if watch.state is State.HELD:
        expires = watch.hold_until if watch.hold_until is not None else now + watch.plan.hold_s
        return min(expires, next_look) if watch.is_judged and _wants(watch, watch.looks) else expires
    if watch.is_judged or watch.state is State.VERIFYING:
        return next_look
    return now + IDLE_S.get(watch.state, 5.0)


def requests_for(watch: Watch, now: float, wants_past: Callable[[Sequence[int]], bool]) -> list[LookRequest]:
    """The closed intervals nobody has fetched yet, and where these want them those before the deploy."""
    wanted = list(range(watch.looks, min(_closed(watch, now), watch.looks + MAX_LOOKS_PER_TICK)))
    wanted = [interval for interval in wanted if _wants(watch, interval)]
    if wanted and wants_past(wanted):
        wanted = [*range(-watch.plan.baseline_looks, 0), *wanted]
    rules = rules_of(watch)
    return [
        LookRequest(
            watch_id=watch.id,
            service=watch.deploy.service,
            interval=interval,
            arms=rules.arms(watch, interval),
            metrics=watch.plan.metrics,
        )
        for interval in wanted
    ]


def is_behind(watch: Watch, now: float) -> bool:
    """Whether intervals have closed that are wanted and were not read yet: what they show is not known, and can be."""
    is_open = not watch.is_over or watch.deploy.train is not None or watch.next_share is not None
    return is_open and _closed(watch, now) > watch.looks


def _closed(watch: Watch, now: float) -> int:
    """How many intervals have closed by now."""
    last = int((now - watch.plan.settle_s - watch.live_at) // watch.plan.step_s)
    return last - 1 if last > watch.looks and closes_at(watch, last - 1) > now else last


def _wants(watch: Watch, interval: int) -> bool:
    """Whether an interval is looked at: those of the plan, and further ones while others are waited for.

    A release train ends when all of it is through, a step waits for its approval, a rollback for its proof. And a
    watch that its last look did not end goes on: a step is on its way, or the share that it brought must be seen.
    """
    planned = watch.plan.judge.planned_looks
    waits = watch.deploy.train is not None or (watch.mode is Mode.APPROVE and watch.next_share is not None)
    goes_on = watch.state is State.WATCHING and watch.looks >= planned
    return watch.state is State.VERIFYING or waits or goes_on or interval < planned


def with_frozen(
    watch: Watch, fresh: list[StoredLook], stored: Callable[[str], Sequence[StoredLook]]
) -> list[StoredLook]:
    """Fresh looks as they are judged and stored: of a roll-out that is done, the old version's past is beside them.

    stored: the looks of a watch so far; asked for only then.
    """
    rolls = watch.deploy.strategy is Strategy.ROLLING and not watch.plan.bakes
    return frozen(stored(watch.id), fresh) if rolls and any(map(is_alone, fresh)) else fresh


def is_turn_of_the_past(interval: int) -> bool:
    """Whether the time before the deploy is asked for with this look where it is not there yet: ever more seldom, for
    it is the heaviest question, and some sources can never answer it.

    >>> [interval for interval in range(40) if is_turn_of_the_past(interval)]
    [0, 1, 2, 4, 8, 16, 32]
    """
    return interval & (interval - 1) == 0


def kept(looks: list[StoredLook]) -> list[StoredLook]:
    """Everything from the deploy on, gaps included; of the time before only what was really and wholly there.

    A closed interval never changes, so what is kept here of the time before is never asked for again.
    """
    return [look for look in looks if look.interval >= 0 or (look.cells and look.facts.status is SourceStatus.OK)]


def in_order(looks: Sequence[StoredLook]) -> list[StoredLook]:
    """As the ledger gives them: the time before the deploy is the first of all, with whichever look it came."""
    return sorted(looks, key=lambda look: look.interval)
