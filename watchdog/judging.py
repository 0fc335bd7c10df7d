"""Watches before the judge: their looks as arrays, remembered or read, and what becomes of those it cannot judge."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from analysis.decode import BadSamplesError, Decoded
from analysis.growing import Growing
from analysis.judge import judge, judge_decoded
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Reason, Verdict, VerdictKind
from watchdog.intervals import in_order
from watchdog.judge_pool import JudgePool
from watchdog.memory import Memory, Recollection
from watchdog.model import StoredLook, Watch
from watchdog.ports import Ledger
from watchdog.tally import Tally

_log = logging.getLogger(__name__)
T = TypeVar("T")

FEW = 4  # watches that are judged on the spot, whoever else could


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """All looks of one watch: as arrays, or where they cannot be, as they were stored."""

    tally: Tally
    arrays: Decoded | Observation
    recollection: Recollection | None = None

    @property
    def looks(self) -> int:
        return self.arrays.looks


Watched = tuple[Watch, Sequence[StoredLook], Seen]  # a watch, its new looks, and all of them as arrays


class Judged(NamedTuple):
    """Watches whose judging has begun; `verdicts` waits for it."""

    watches: Sequence[Watched]
    verdicts: Callable[[], list[Verdict]]


def a_step_ahead(some: Iterable[T]) -> Iterator[T]:
    """Each in its turn, when the one after it has begun.

    >>> list(a_step_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    before: list[T] = []
    for one in some:
        yield from before
        before = [one]
    yield from before


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Reads what the judge needs, and asks it. A watch that breaks it never stops the others."""

    ledger: Ledger
    memory: Memory
    pool: JudgePool | None = None

    def seen(self, watch: Watch, fresh: Sequence[StoredLook]) -> Seen:
        """All looks of a watch: remembered and grown by the new ones, or read from the ledger."""
        known = self.memory.recall(watch)
        if known is not None and known.add(fresh):
            return Seen(arrays=known.decoded(watch), tally=known.tally, recollection=known)
        history = in_order([*self.ledger.looks(watch.id), *fresh])
        tally = Tally.of(watch.plan, history)
        whole = observation(watch, history)
        try:
            grown = Recollection(Growing(whole, warm_up_looks=watch.plan.judge.warm_up_looks), tally)
        except BadSamplesError:
            return Seen(arrays=whole, tally=tally)  # the judge says what is wrong with them
        return Seen(arrays=grown.decoded(watch), tally=tally, recollection=grown)

    def begin(self, watches: Sequence[Watch], seen: Sequence[Seen]) -> Callable[[], list[Verdict]]:
        """One batch, which the judging processes begin with now; what is given back waits for the verdicts. If one
        watch breaks it, each is judged by itself, so that the others still are."""
        pairs = list(zip(watches, seen, strict=True))
        good = [(one.arrays, w.plan.judge) for w, one in pairs if isinstance(one.arrays, Decoded)]
        arrays, settings = [arrays for arrays, _ in good], [settings for _, settings in good]
        pool = self.pool if len(good) >= FEW else None
        begun = pool.begin(arrays, settings) if pool is not None else partial(judge_decoded, arrays, settings)

        def verdicts() -> list[Verdict]:
            try:
                said = iter(begun())
            except Exception:  # noqa: BLE001 (found out one by one)
                return [_alone(watch, one) for watch, one in pairs]
            return [next(said) if isinstance(one.arrays, Decoded) else _alone(watch, one) for watch, one in pairs]

        return verdicts


def observation(watch: Watch, looks: Sequence[StoredLook]) -> Observation:
    """What the judge may know of a watch: its stored looks, in the words of the core."""
    return Observation(
        design=watch.plan.design,
        step_s=watch.plan.step_s,
        metrics=tuple(metric.spec for metric in watch.plan.metrics),
        samples={(name, look.interval): cells for look in looks for name, cells in look.cells.items()},
        facts={look.interval: look.facts for look in looks},
        looks=max((look.interval for look in looks), default=-1) + 1,
        share=watch.share,
        candidate_expected=len(watch.deploy.instances.get("candidate", ())) or None,
    )


def _alone(watch: Watch, seen: Seen) -> Verdict:
    """A judge that breaks on a watch cannot tell, and says so."""
    settings = watch.plan.judge
    try:
        if isinstance(seen.arrays, Decoded):
            return judge_decoded([seen.arrays], [settings])[0]
        return judge([seen.arrays], [settings])[0]
    except Exception as error:  # noqa: BLE001 (whatever it was, the watch must be able to end)
        _log.exception("watch %s cannot be judged", watch.id)
        return _unjudgeable(seen.looks, settings, f"{type(error).__name__}: {error}")


def _unjudgeable(looks: int, settings: JudgeSettings, why: str) -> Verdict:
    """The verdict where the judge itself broke."""
    return Verdict(
        kind=VerdictKind.INCONCLUSIVE,
        reason=Reason.MISCONFIGURED,
        metric=None,
        look=looks - 1,
        alarm_look=None,
        log_evidence=0.0,
        log_threshold=-math.log(settings.budget),
        sentence=f"the samples cannot be judged ({why}): check the source and the metrics' queries",
    )
