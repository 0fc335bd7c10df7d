"""Tells: takes queued messages from the ledger to their sinks, at least once, whatever the sinks do."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from watchdog.errors import LedgerCorruptError, LedgerError, SinkError
from watchdog.picture import Easel
from watchdog.ports import Clock, Delivery, Failpoint, Ledger, OutboxRow, Sink

DELAYS_S = (5.0, 30.0, 120.0, 300.0)  # after the first, second, … failure; the last one from then on
GIVE_UP_AFTER_S = 72 * 3600.0
HOLD_S = 30.0  # a message that a replica took and never settled is anybody's again after this
UNNAMED_AFTER_S = 600.0  # a message whose sink nobody knows is given up after this
REST_S = 30.0  # longest rest of a whole sink after the failure of one message, unless it asked for more

_log = logging.getLogger(__name__)


def _no_report(sink: str, outcome: str) -> None:
    """Nobody counts."""


@dataclass(slots=True)
class _Line:
    """One sink's line: at most one message is in flight."""

    row: OutboxRow | None = None
    delivery: Delivery | None = None
    sending: "Future[Mapping[str, str]] | None" = None
    rests_until: float = 0.0


class Outbox:
    """Delivers due messages. Sinks work side by side; a slow or dead one holds up nobody but itself.

    Only `drain` touches the ledger, in its caller's thread; the pool only sends.
    """

    def __init__(
        self,
        ledger: Ledger,
        sinks: Mapping[str, Sink],
        clock: Clock,
        *,
        patience_s: float = 0.5,
        report: Callable[[str, str], None] = _no_report,
        easel: Easel | None = None,
        pool: Executor | None = None,
        failpoint: Failpoint = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._clock = clock
        self._patience_s = patience_s
        self._report = report
        self._easel = easel
        self._failpoint = failpoint
        self._lines = {name: _Line() for name in sinks}
        self._unrecorded: dict[int, Mapping[str, str]] = {}  # sent, but the ledger could not be told yet
        self._pool = pool or _pool_for(sinks)
        self._one_at_a_time = threading.Lock()

    def drain(self, limit: int = 100) -> int:
        """Send what is due; the number delivered. Never raises.

        1. settle what was still in flight when the last drain ended;
        2. give every free sink its oldest due message;
        3. as soon as one is done, settle it and go on with 2; when nothing moved for `patience_s`, leave the slow
           ones in flight.
        """
        with self._one_at_a_time:
            try:
                return self._drain(limit)
            except Exception:  # noqa: BLE001 (whatever it was, the next drain tries again)
                _log.exception("outbox: the ledger could not be used; messages wait")
                return 0

    def exchange(self, sinks: Mapping[str, Sink], easel: Easel | None) -> None:
        """Send by other sinks from now on; what is in flight is settled as it ends."""
        with self._one_at_a_time:
            former, self._pool = self._pool, _pool_for(sinks)
            former.shutdown(wait=False)
            if self._easel is not None:
                self._easel.close()
            self._sinks, self._easel = sinks, easel
            in_flight = {name: line for name, line in self._lines.items() if line.sending is not None}
            self._lines = {name: _Line() for name in sinks} | in_flight

    def close(self) -> None:
        """Let go of the pool. What is in flight ends by its own deadline and may be sent again after a restart."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._easel is not None:
            self._easel.close()

    def _drain(self, limit: int) -> int:
        self._record_sent()
        delivered = self._settle_finished()
        while delivered < limit and (sending := self._start(limit)):
            done, _ = wait(sending, timeout=self._patience_s, return_when=FIRST_COMPLETED)
            if not done:
                break
            delivered += self._settle_finished()
        return delivered

    def _start(self, limit: int) -> list["Future[Mapping[str, str]]"]:
        """Give every free sink its oldest due message; all that is in flight."""
        for name, row in self._next_rows(limit).items():
            try:
                delivery = self._delivery(row)
            except LedgerCorruptError as error:
                self._failed(row, SinkError(error.message, permanent=True))
                continue
            if delivery is None:
                self._failed(row, SinkError("its watch is not on record", permanent=True))
            elif self._is_ours(row):
                line = self._lines[name]
                line.row, line.delivery = row, delivery
                self._failpoint("message-before-send")
                line.sending = self._pool.submit(self._sinks[name].send, delivery)
        return [line.sending for line in self._lines.values() if line.sending is not None]

    def _next_rows(self, page: int) -> dict[str, OutboxRow]:
        """The oldest due message of every free sink; the backlog of those that rest is not even read."""
        now = self._clock.now()
        lines = ((name, self._lines[name]) for name in self._sinks)
        free = {name for name, line in lines if line.sending is None and line.rests_until <= now}
        on_its_way = {line.row.id for line in self._lines.values() if line.row is not None}
        found: dict[str, OutboxRow] = {}
        while len(found) < len(free):
            rows = self._ledger.due_messages(now=now, limit=page, without=self._sinks.keys() - free)
            for row in rows:
                if row.sink in free and row.id not in self._unrecorded:
                    found.setdefault(row.sink, row)
                elif row.sink not in self._sinks and row.id not in on_its_way:
                    # a reload may be on its way, or reach another replica first: for some minutes it waits for its sink
                    is_gone = now - row.created_at >= UNNAMED_AFTER_S
                    self._failed(row, SinkError(f"no sink is named {row.sink} any more", permanent=is_gone))
            if len(rows) < page:
                break
            page *= 4
        return found

    def _is_ours(self, row: OutboxRow) -> bool:
        """Take a message before it is sent. A ledger that cannot be written must not silence anybody: twice is better
        than never."""
        try:
            return self._ledger.claim_message(row.id, now=self._clock.now(), hold_s=HOLD_S)
        except LedgerError:
            return True

    def _delivery(self, row: OutboxRow) -> Delivery | None:
        watch = self._ledger.watch(row.message.watch_id)
        if watch is None:
            return None
        thread = self._ledger.thread(row.message.watch_id, row.sink)
        return Delivery(message=row.message, deploy=watch.deploy, state=watch.state, thread=thread)

    def _settle_finished(self) -> int:
        """Record what has ended; the number delivered."""
        delivered = 0
        for name, line in self._lines.items():
            if line.sending is None or line.row is None or not line.sending.done():
                continue
            row, ended = line.row, line.sending
            line.row, line.sending = None, None
            error = ended.exception()
            if error is None:
                self._failpoint("message-sent")
                self._unrecorded[row.id] = ended.result()
                delivered += 1
                self._report(name, "delivered")
                if self._easel is not None and line.delivery is not None and name in self._sinks:
                    self._easel.put(self._sinks[name], replace(line.delivery, thread=ended.result()))
            else:
                self._failed(row, error)
        self._record_sent()
        return delivered

    def _record_sent(self) -> None:
        """Tell the ledger. Where it cannot be told, the rows are remembered here, so that they are not sent again."""
        for row_id, remember in list(self._unrecorded.items()):
            try:
                self._ledger.delivered(row_id, at=self._clock.now(), remember=remember)
                self._failpoint("message-recorded")
                del self._unrecorded[row_id]
            except Exception:  # noqa: BLE001 (a ledger that cannot write must not silence the sinks)
                _log.exception("outbox: message %s was sent, but that could not be recorded yet", row_id)

    def _failed(self, row: OutboxRow, error: BaseException) -> None:
        now = self._clock.now()
        next_at: float | None = now + _delay(row, error)
        if _is_permanent(error) or now - row.created_at >= GIVE_UP_AFTER_S:
            next_at = None
            _log.error("message %s of %s to %s is given up: %s", row.message.key, row.message.watch_id, row.sink, error)
        else:
            _log.warning("message %s of %s to %s failed: %s", row.message.key, row.message.watch_id, row.sink, error)
            self._rest(row.sink, _rest_s(row, error))  # its other messages would fare no better now
        self._report(row.sink, "given_up" if next_at is None else "retry")
        try:
            self._ledger.failed(row.id, at=now, error=f"{type(error).__name__}: {error}", next_at=next_at)
        except Exception:  # noqa: BLE001 (as above; without a rest it would be tried again at once)
            _log.exception("outbox: the failure of message %s could not be recorded", row.id)
            self._rest(row.sink, REST_S)

    def _rest(self, sink: str, seconds: float) -> None:
        if sink in self._lines:
            self._lines[sink].rests_until = self._clock.now() + seconds


def _pool_for(sinks: Mapping[str, Sink]) -> Executor:
    return ThreadPoolExecutor(max_workers=max(1, len(sinks)), thread_name_prefix="outbox")


def _is_permanent(error: BaseException) -> bool:
    return isinstance(error, SinkError) and error.permanent


def _asked(error: BaseException) -> float | None:
    return error.retry_after_s if isinstance(error, SinkError) else None


def _delay(row: OutboxRow, error: BaseException) -> float:
    return max(DELAYS_S[min(row.attempts, len(DELAYS_S) - 1)], _asked(error) or 0.0)


def _rest_s(row: OutboxRow, error: BaseException) -> float:
    asked = _asked(error)
    return min(_delay(row, error), REST_S) if asked is None else asked
