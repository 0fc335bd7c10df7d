"""One tick job and few housekeeping jobs on APScheduler 3.11; the state of what is due lives in the ledger."""

import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock

from apscheduler.schedulers.background import BackgroundScheduler

from watchdog.beating import Beats
from watchdog.errors import LedgerError
from watchdog.outbox import Outbox
from watchdog.picture import Easel
from watchdog.pipeline import Pipeline
from watchdog.ports import Clock, Sink
from watchdog.telemetry import Telemetry

_log = logging.getLogger(__name__)

OUTBOX_S = 0.5
ACT_S = 0.5  # apart from the tick: a source that hangs must not keep a rollback waiting
UNKNOWN_S = 15.0
ALIVE_S = 30.0  # whose last tick ended longer ago gives no sign of life


class Workers:
    """A bounded pool for actions: a key that is already running is not started twice."""

    def __init__(self, size: int = 8, *, pool: Executor | None = None) -> None:
        self._pool = pool or ThreadPoolExecutor(max_workers=size, thread_name_prefix="action")
        self._lock = Lock()
        self._running: set[str] = set()

    def submit(self, job: Callable[[], None], key: str) -> None:
        with self._lock:
            if key in self._running:
                return
            self._running.add(key)
        self._pool.submit(self._run, job, key)

    def _run(self, job: Callable[[], None], key: str) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001 (the action stays as recorded and is taken up again by the next tick)
            _log.exception("action %s broke off", key)
        finally:
            with self._lock:
                self._running.discard(key)

    def stop(self) -> None:
        """Wait for what is running; what has not begun stays recorded for the next daemon."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Scheduler:
    """Drives the pipeline and the outbox. A tick that fails is logged and the next one comes."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        outbox: Outbox,
        workers: Workers,
        clock: Clock,
        telemetry: Telemetry,
        tick_s: float,
        sinks: Mapping[str, Sink] | None = None,
        jobs: BackgroundScheduler | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._outbox = outbox
        self._workers = workers
        self._clock = clock
        self._telemetry = telemetry
        self._tick_s = tick_s
        self._hearts = _hearts(sinks or {})
        self._silent: set[str] = set()  # those whose last sign nobody took
        self._round = Lock()  # held while a round uses the sources
        self._finished_at: float | None = None
        self._due_at: float | None = None
        self._ledger_ok = True
        # A round that is skipped because the last one still runs shows as tick lag; a warning each time is noise.
        logging.getLogger("apscheduler.executors.default").setLevel(logging.ERROR)
        logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
        self._jobs = jobs or BackgroundScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def start(self) -> None:
        """Settle what a former daemon left behind, then begin to tick."""
        self._pipeline.adopt_orphans()
        # rounds begin with the second: looks that end in the same one are claimed, and asked for, together
        first = datetime.fromtimestamp(math.ceil(self._clock.now()), UTC)
        self._jobs.add_job(
            self._tick, "interval", seconds=self._tick_s, start_date=first, id="tick", replace_existing=True
        )
        self._jobs.add_job(self._act, "interval", seconds=ACT_S, id="act", replace_existing=True)
        self._jobs.add_job(self._drain, "interval", seconds=OUTBOX_S, id="outbox", replace_existing=True)
        self._jobs.add_job(self._ask_unknown, "interval", seconds=UNKNOWN_S, id="unknown", replace_existing=True)
        self._let_beat()
        self._finished_at = self._clock.monotonic()
        self._jobs.start()

    def exchange(self, pipeline: Pipeline, *, sinks: Mapping[str, Sink], easel: Easel | None, tick_s: float) -> None:
        """From the next round on by another configuration. Returns when nothing uses the former sources any more; the
        hooks that run end as they began."""
        with self._round:
            self._pipeline = pipeline
        self._outbox.exchange(sinks, easel)
        for name in self._hearts:
            self._jobs.remove_job(f"beat:{name}")
        self._hearts = _hearts(sinks)
        self._let_beat()
        if tick_s != self._tick_s:
            self._tick_s = tick_s
            self._jobs.reschedule_job("tick", trigger="interval", seconds=tick_s)

    def stop(self) -> None:
        """Stop claiming, then wait for the hooks that are running."""
        if self._jobs.running:
            self._jobs.shutdown(wait=True)
        self._workers.stop()
        self._drain()
        self._outbox.close()

    def tick_age_s(self) -> float | None:
        """Seconds since the last finished tick; None before the start."""
        return None if self._finished_at is None else self._clock.monotonic() - self._finished_at

    def ledger_ok(self) -> bool:
        """Whether the last tick could use the ledger."""
        return self._ledger_ok

    def _tick(self) -> None:
        began = self._clock.monotonic()
        lag_s = max(0.0, began - self._due_at) if self._due_at is not None else 0.0
        self._due_at = began + self._tick_s
        try:
            with self._round:
                self._pipeline.tick()
        except LedgerError as error:
            self._ledger_ok = False
            _log.error("the ledger cannot be used: %s", error)
            return
        except Exception:  # noqa: BLE001 (a daemon that stops ticking is worse than one that logs and goes on)
            _log.exception("tick failed; the next one follows in %.1f s", self._tick_s)
            return
        self._ledger_ok = True
        self._finished_at = self._clock.monotonic()
        self._telemetry.tick(lag_s, self._finished_at - began)

    def _let_beat(self) -> None:
        for name, heart in self._hearts.items():
            self._jobs.add_job(
                self.beat, "interval", args=[name], seconds=heart.every_s, id=f"beat:{name}", replace_existing=True
            )

    def beat(self, name: str) -> bool:
        """Give a sign of life, where there is life in it: ticks end, and the ledger can be used."""
        age_s, heart = self.tick_age_s(), self._hearts.get(name)
        if heart is None or age_s is None or age_s > max(ALIVE_S, 5 * self._tick_s) or not self._ledger_ok:
            return False
        try:
            heart.beat({"program": "deploy-watchdog", "tick_age_s": round(age_s, 1)})
        except Exception as error:  # noqa: BLE001 (whoever listens notices the silence)
            if name not in self._silent:
                _log.warning("nobody took the sign of life for %s: %s", name, error)
            self._silent.add(name)
            self._telemetry.delivery(name, "retry")
            return False
        if name in self._silent:
            _log.info("the sign of life for %s is taken again", name)
        self._silent.discard(name)
        self._telemetry.delivery(name, "delivered")
        return True

    def _act(self) -> None:
        try:
            self._pipeline.act()
        except Exception:  # noqa: BLE001 (the actions stay recorded; the next round takes them up)
            _log.exception("actions could not be started")

    def _ask_unknown(self) -> None:
        self._pipeline.ask_unknown()

    def _drain(self) -> None:
        try:
            self._outbox.drain()
        except Exception:  # noqa: BLE001 (messages wait in the ledger)
            _log.exception("outbox failed; it goes on with the next round")


def _hearts(sinks: Mapping[str, Sink]) -> dict[str, Beats]:
    return {name: sink for name, sink in sinks.items() if isinstance(sink, Beats)}
