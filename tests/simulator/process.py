"""One daemon process: its clocks, its threads, and the gates at which it may be delayed, frozen or killed."""

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from tests.simulator.faults import Fault, Faults
from tests.simulator.timeline import ProcessDied, Task, Timeline

IN_TRANSACTION = frozenset({"ledger-record-before-commit", "ledger-change-before-commit", "ledger-claim-before-commit"})
HOOK_STARTS = "hook-before-start"
ROUND_S = 1.0  # no job comes round sooner: half as many turns to simulate
CRASH_AT_POINT = 0.02
CRASH_AT_CALL = 0.002
DELAY_AT_POINT = 0.1
DELAY_AT_WRITE = 0.05
FREEZE_AT_POINT = 0.01
CRASH_IN_HOOK = 0.05
LONG_ENOUGH = {  # a pause here ends just when others have taken over: when a claim is given up, when a lease is over
    "hook-returned": (18.0, 24.0),
    "outcome-before-commit": (18.0, 24.0),
    "tick-before-commit": (14.5, 18.0),
}
LONG_FREEZE = 0.1


class Process:
    """A process is a crash boundary: what it holds in memory ends with it, what it committed stays."""

    def __init__(
        self, name: str, machine: str, timeline: Timeline, faults: Faults, trace: Callable[[str], None]
    ) -> None:
        self.name, self.machine = name, machine
        self.alive = True
        self.frozen_until = 0.0
        self.looks_up_s = math.inf
        self.skew_s = 0.0
        self.longest_pause_before_hook_s = 0.0  # a pause there is what only a fencing hook survives
        self.hook_checked_at: dict[Task | None, float] = {}
        self.quiet = False  # no faults, from here on
        self.doomed = False  # killed soon after a hook has begun
        self.passes: Callable[[str], None] = lambda point: None  # others may lie in wait at a point
        self._timeline, self._faults, self._trace = timeline, faults, trace
        self._began = timeline.now
        self._ids = 0

    # --- clock -------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._timeline.now + self.skew_s

    def monotonic(self) -> float:
        return self._timeline.now - self._began

    def sleep(self, seconds: float) -> None:
        self.check_alive()
        self._timeline.sleep(seconds)
        self.check_alive()

    def new_id(self) -> str:
        self._ids += 1
        return f"{self.name}-{self._ids}"

    # --- life --------------------------------------------------------------------------------------------

    def spawn(self, job: Callable[[], None], *, after_s: float = 0.0) -> Task:
        return self._timeline.spawn(job, self, after_s=after_s)

    def check_alive(self) -> None:
        if not self.alive:
            raise ProcessDied

    def note(self, what: str) -> None:
        self._trace(f"{self.name} {what}")

    def die(self) -> None:
        """SIGKILL: from here on nothing of this process reaches anybody."""
        self._trace(f"{self.name} dies")
        self.alive = False
        raise ProcessDied

    def end(self) -> None:
        """SIGKILL by somebody else."""
        self._trace(f"{self.name} is killed")
        self.alive = False

    def failpoint(self, name: str) -> None:
        """A named place in the daemon's code."""
        self.check_alive()
        self._trace(f"{self.name} at {name}")
        if name == HOOK_STARTS:
            self.hook_checked_at[self._timeline.current] = self._timeline.now
        if self.quiet:
            return
        if self._faults.crashes_left > 0 and self._faults.strikes(Fault.CRASH, CRASH_AT_POINT):
            self._faults.crashes_left -= 1
            self.die()
        if name in IN_TRANSACTION:
            return  # nobody else can go on meanwhile
        self.passes(name)
        if name in LONG_ENOUGH and self._faults.strikes(Fault.FREEZE, LONG_FREEZE):
            least, most = LONG_ENOUGH[name]
            self.freeze(least + (most - least) * self._faults.random.random())
            return
        if name == HOOK_STARTS:
            self._pause_before_hook()
            return
        self.linger()

    def call(self, what: str) -> None:
        """An unnamed place: just before or after something outside was asked."""
        self.check_alive()
        self._trace(f"{self.name} {what}")
        if self.quiet:
            return
        if self._faults.crashes_left > 0 and self._faults.strikes(Fault.CRASH, CRASH_AT_CALL):
            self._faults.crashes_left -= 1
            self.die()

    def go_through_hook(self, seconds: float) -> None:
        """Wait for a hook. SIGKILL may come in the middle of it."""
        if self.doomed:
            self.sleep(0.3)
            self.die()
        if not self.quiet and self._faults.crashes_left > 0 and self._faults.strikes(Fault.CRASH, CRASH_IN_HOOK):
            self._faults.crashes_left -= 1
            self.sleep(seconds * self._faults.random.random())
            self.die()
        self.sleep(seconds)

    def linger_before_write(self) -> None:
        """Between what was read and what is written, others may have changed it."""
        self.check_alive()
        if not self.quiet and self._faults.strikes(Fault.DELAY, DELAY_AT_WRITE):
            self.sleep(self._faults.random.choice((0.0, 0.05, 0.5)))

    def linger(self) -> None:
        """Others may overtake here; or the whole process stands still."""
        if self._faults.strikes(Fault.DELAY, DELAY_AT_POINT):
            self.sleep(self._faults.random.choice((0.0, 0.05, 0.5, 2.0)))
        elif self._faults.strikes(Fault.FREEZE, FREEZE_AT_POINT):
            self.freeze(self._faults.random.choice((1.0, 6.0, 16.0, 40.0)))

    def _pause_before_hook(self) -> None:
        if self._faults.strikes(Fault.FREEZE, 0.05):
            self.freeze(self._faults.random.random() * self.longest_pause_before_hook_s)

    def freeze(self, seconds: float) -> None:
        self._trace(f"{self.name} freezes for {seconds:.1f} s")
        self.frozen_until = self._timeline.now + seconds
        self.sleep(0.0)


class Threads(Executor):
    """Stands in for a thread pool: every job is a task of the process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._running = 0
        self._news = False
        self._closed = False

    def submit(self, job: Callable[..., Any], /, *args: Any, **named: Any) -> "Future[Any]":
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self._running += 1

        def run() -> None:
            try:
                result = job(*args, **named)
            except Exception as error:  # noqa: BLE001 (handed to whoever asks for the result)
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                self._running -= 1
                self._news = True

        future.set_running_or_notify_cancel()
        self._process.spawn(run)
        return future

    def take_news(self) -> bool:
        """Whether anything has ended since this was asked last."""
        news, self._news = self._news, False
        return news

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        while wait and self._running:
            self._process.sleep(0.1)


class Jobs:
    """Stands in for the background scheduler: each job is a loop of its own. `wanted` says whether a round of it could
    do anything at all; a round that could only find nothing is left out, for the sake of speed."""

    def __init__(self, process: Process, wanted: Callable[[str], bool]) -> None:
        self.running = False
        self._process, self._wanted = process, wanted
        self._jobs: list[tuple[Callable[[], object], float, str]] = []

    def add_job(self, job: Callable[[], object], trigger: str, *, seconds: float, id: str, **_: object) -> None:  # noqa: A002
        if trigger != "interval":
            raise ValueError(f"only intervals are simulated, not {trigger}")
        self._jobs.append((job, seconds, id))

    def start(self) -> None:
        self.running = True
        for job, seconds, name in self._jobs:
            self._process.spawn(lambda job=job, s=seconds, n=name: self._loop(job, s, n), after_s=seconds)  # type: ignore[misc]

    def shutdown(self, wait: bool = True) -> None:
        self.running = False

    def _loop(self, job: Callable[[], object], seconds: float, name: str) -> None:
        while self.running:
            if self._wanted(name):
                self._round(job, name)
            self._process.sleep(max(seconds, ROUND_S))

    def _round(self, job: Callable[[], object], name: str) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 (as the real one does: the next round comes)
            self._process.note(f"job {name} raised {type(error).__name__}: {error}")
