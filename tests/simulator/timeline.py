"""Simulated time: tasks take turns on one thread, and time jumps to the next one that wants to go on."""

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol

from greenlet import getcurrent, greenlet

START = 1_700_000_000.0


class ProcessDied(BaseException):
    """The process that ran this is gone: nothing of it may go on, not even its `finally` blocks reach anybody."""


class Owner(Protocol):
    """Whose tasks they are: they end with it, and stand still while it does."""

    alive: bool
    frozen_until: float
    looks_up_s: float  # how often it is seen whether it was let go before that


class Task:
    """One line of execution; `job` runs until it sleeps."""

    def __init__(self, job: Callable[[], None], owner: Owner | None, hub: greenlet) -> None:
        self.owner = owner
        self.over = False
        self.fiber = greenlet(self._run, parent=hub)  # where it goes when it ends
        self._job = job

    @property
    def dead(self) -> bool:
        return self.over or (self.owner is not None and not self.owner.alive)

    def _run(self) -> None:
        try:
            self._job()
        except ProcessDied:
            pass
        finally:
            self.over = True


class Timeline:
    """A heap of (time, number, task): equal times go on in the order in which they were asked for."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Task]] = []
        self._current: Task | None = None
        self._hub = getcurrent()

    def spawn(self, job: Callable[[], None], owner: Owner | None = None, *, after_s: float = 0.0) -> Task:
        task = Task(job, owner, self._hub)
        self._wake(task, self.now + after_s)
        return task

    def sleep(self, seconds: float) -> None:
        """Let others go on; called from inside a task."""
        task = self._current
        if task is None:
            raise RuntimeError("only a task can sleep")
        self._wake(task, self.now + max(0.0, seconds))
        self._hub.switch()

    def run(self, *, until: float, over: Callable[[], bool]) -> None:
        """Go on until `over` says so (asked whenever time moves), or `until` is reached, or nothing is left to do."""
        while self._waiting and not (self._waiting[0][0] > self.now and over()):
            at, _, task = heapq.heappop(self._waiting)
            if at > until:
                self.now = until
                return
            if task.dead:
                self._bury(task)
                continue
            self.now = max(self.now, at)
            if task.owner is not None and task.owner.frozen_until > self.now:
                self._wake(task, min(task.owner.frozen_until, self.now + task.owner.looks_up_s))
                continue
            self._switch_to(task)

    def close(self) -> None:
        """End what is still waiting."""
        while self._waiting:
            self._bury(heapq.heappop(self._waiting)[2])

    @property
    def current(self) -> Task | None:
        return self._current

    def _wake(self, task: Task, at: float) -> None:
        heapq.heappush(self._waiting, (at, next(self._numbers), task))

    def _switch_to(self, task: Task) -> None:
        self._current = task
        try:
            task.fiber.switch()
        finally:
            self._current = None

    def _bury(self, task: Task) -> None:
        """Unwind a task whose process is gone; its ports are dead, so nothing it still tries has any effect."""
        if task.owner is not None:
            task.owner.alive = False
        self._current = task
        try:
            if task.fiber:  # it has begun, and not ended
                task.fiber.throw(ProcessDied)
        finally:
            self._current = None
            task.over = True
