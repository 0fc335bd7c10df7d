"""Collect: what has closed since the last look, asked of one source after another."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.result import Reason, SourceStatus
from watchdog.answers import down, worst
from watchdog.incidents import without_incidents
from watchdog.intervals import is_turn_of_the_past, kept, requests_for
from watchdog.memory import Memory
from watchdog.model import ActionKind, ActionState, State, StoredLook, Watch
from watchdog.ports import Clock, Ledger, LookAnswer, LookRequest, Source
from watchdog.source_order import SourceOrder
from watchdog.telemetry import Telemetry
from watchdog.traffic_share import asked_during

_log = logging.getLogger(__name__)

BASELINE_PATIENCE = 4  # the time before the deploy is many intervals at once, and asked for seldom


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collecting:
    """Asks the sources of a round. `each` runs one watch's step, and keeps what breaks it from the others."""

    ledger: Ledger
    memory: Memory
    sources: Mapping[str, Source]
    order: SourceOrder
    clock: Clock
    telemetry: Telemetry
    each: Callable[[Watch, Callable[[], list[LookRequest]]], list[LookRequest] | None]
    deadline_s: float

    def of(
        self, watches: Sequence[Watch], now: float
    ) -> Iterator[tuple[Sequence[Watch], Mapping[str, list[StoredLook]]]]:
        """The watches of each source with the newly closed intervals of each, oldest first.

        A source is asked once for all of its watches, and only when the one before it has been dealt with. Those of a
        source for which no time is left get nothing: their intervals are read in the next round.
        """
        began = self.clock.monotonic()
        for name in self.order.of({watch.plan.source for watch in watches}):
            mine = [watch for watch in watches if watch.plan.source == name]
            left_s = self.order.left_s(self.clock.monotonic() - began)
            yield mine, self._fetched(name, mine, now, most_s=left_s)

    def ask(self, name: str, requests: Sequence[LookRequest], *, most_s: float) -> list[LookAnswer]:
        """Ask a source. A source that breaks its promise never to raise is a source that is down."""
        source = self.sources.get(name)
        if source is None:
            return down(requests, f"the source {name!r} is no longer configured")
        has_past = any(request.interval < 0 for request in requests)
        patience = BASELINE_PATIENCE if has_past and self.order.is_worth_patience(name) else 1
        try:
            return source.fetch(requests, deadline_s=min(self.deadline_s * patience, most_s))
        except Exception as error:  # noqa: BLE001 (a bug in one adapter must not stop the other watches)
            _log.exception("source %s raised", name)
            return down(requests, f"the source {name!r} broke: {type(error).__name__}")

    def _fetched(
        self, name: str, watches: Sequence[Watch], now: float, *, most_s: float
    ) -> dict[str, list[StoredLook]]:
        fetched: dict[str, list[StoredLook]] = {watch.id: [] for watch in watches}
        wanted = [self.each(watch, partial(self._requests, watch, now)) or [] for watch in watches]
        requests = [request for of_one in wanted for request in of_one]
        if not requests:
            return fetched
        promoting = self._promoting() if any(watch.plan.steps for watch in watches) else frozenset()
        if most_s <= 0:
            self.order.left_out(name)
            return fetched
        started = self.clock.monotonic()
        answers = self.ask(name, requests, most_s=most_s)
        took_s = self.clock.monotonic() - started
        self.order.took(name, took_s, deadline_s=self.deadline_s)
        self.telemetry.source(worst(answers), took_s)
        by_id = {watch.id: watch for watch in watches}
        for request, answer in zip(requests, answers, strict=True):
            watch_id, interval = request.watch_id, request.interval
            share = asked_during(by_id[watch_id], interval, promoting=watch_id in promoting)
            facts = replace(answer.facts, share=share, known_from=_known_from(by_id[watch_id], interval))
            look = StoredLook(interval=interval, facts=facts, cells=answer.cells, queries=answer.queries)
            fetched[watch_id].append(look)
        return {watch_id: kept(looks) for watch_id, looks in fetched.items()}

    def _requests(self, watch: Watch, now: float) -> list[LookRequest]:
        return without_incidents(self.ledger, watch, requests_for(watch, now, partial(self._wants_past, watch)))

    def _promoting(self) -> frozenset[str]:
        """Watches whose candidate is being given another share of the traffic right now."""
        running = self.ledger.actions(states=frozenset({ActionState.RUNNING}))
        return frozenset(action.watch_id for action in running if action.kind is ActionKind.PROMOTE)

    def _wants_past(self, watch: Watch, wanted: Sequence[int]) -> bool:
        """The time before the deploy is asked for with the first look, and until it is there: of a source that was
        down with every look, of one that answers without it ever more seldom."""
        if watch.state is not State.WATCHING:
            return False
        if watch.looks == 0:
            return True
        has_past = self.memory.has_past(watch)
        if has_past or not (any(map(is_turn_of_the_past, wanted)) or self._was_down(watch)):
            return False
        return has_past is False or not any(look.interval < 0 for look in self.ledger.looks(watch.id))

    def _was_down(self, watch: Watch) -> bool:
        """Whether nothing answered at the last look; the same reason is given where something did in part."""
        if watch.reason != Reason.SOURCE_DOWN.value:
            return False
        last = self.ledger.last_look(watch.id)
        return last is not None and last.facts.status is SourceStatus.DOWN


def _known_from(watch: Watch, interval: int) -> int | None:
    """The look from which on the judge knows of an interval, where that is not from its own or the first one."""
    return watch.looks if interval < 0 < watch.looks else None
