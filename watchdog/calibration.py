"""Placebo deploys on the pasts of recorded deploys: how often the judge would have rolled back for nothing.

Each case's past is judged by itself in a worker process, which is handed its samples and settings and nothing else.
"""

import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from analysis.calibrate import Calibration, calibrate, pool
from analysis.result import Design, JudgeSettings
from watchdog.app import recorded_cases, recorded_descriptions
from watchdog.backtest import Blind, settings_of
from watchdog.errors import WatchdogError

DESIGNS = (Design.BEFORE_AFTER, Design.CONCURRENT)
_WAITING = 2  # pasts per worker that are read ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How pasts are cut into placebos. Looks shorter than look_s are put together."""

    baseline_looks: int
    every: int = 1
    look_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One recorded past, judged. group: pasts of one group are no independent evidence."""

    id: str
    service: str
    group: str
    found: tuple[Calibration, ...]


def calibrate_cases(
    folder: Path,
    given: Mapping[str, Any],
    cut: Cut,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Past]:
    """Judge placebo deploys on every case's past, in the order of reading.

    Parameters
    ----------
    folder
        A case folder: cases.json and its Parquet files.
    given
        Judge settings for all cases; they go before a case's own, which go before the shipped ones.
    workers
        Processes; 1 judges in this one.
    progress
        Told how many pasts are judged, of how many.

    Raises
    ------
    WatchdogError
        The folder is no case folder, or a setting is none.
    """
    total = len(recorded_descriptions(folder))
    found: dict[int, Past] = {}
    for number, past in _each(_tasks(folder, given), cut, workers):
        found[number] = past
        progress(len(found), total)
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    id: str
    service: str
    group: str
    case: Blind
    settings: JudgeSettings

    def past(self, found: tuple[Calibration, ...]) -> Past:
        return Past(id=self.id, service=self.service, group=self.group, found=found)


def _tasks(folder: Path, given: Mapping[str, Any]) -> Iterator[_Task]:
    for number, case in enumerate(recorded_cases(folder)):
        settings = settings_of(case.id, case.meta.get("settings") or {}, given)
        told = [str(case.meta[key]) for key in ("dataset", "entity") if case.meta.get(key)]
        yield _Task(
            number,
            case.id,
            " ".join(told) or "cases",
            str(case.meta.get("group") or case.id),
            case.unlabelled(),
            settings,
        )


def placebo_rates(case: Blind, settings: JudgeSettings, cut: Cut) -> tuple[Calibration, ...]:
    """Before/after on every past, and one replica against the others where there are several."""
    steps = max(1, math.ceil(cut.look_s / case.step_s - 1e-9))
    past = case.observation(steps=steps)
    found = [
        calibrate(past, settings, baseline_looks=cut.baseline_looks, design=design, every=cut.every)
        for design in DESIGNS
    ]
    return tuple(one for one in found if one.service.placebos or one.design is Design.BEFORE_AFTER)


def _each(tasks: Iterator[_Task], cut: Cut, workers: int) -> Iterator[tuple[int, Past]]:
    """Judge the tasks as they come, a few ahead of the workers; cases are read one file at a time."""
    if workers <= 1:
        yield from ((task.number, task.past(placebo_rates(task.case, task.settings, cut))) for task in tasks)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    running: dict[Future[tuple[Calibration, ...]], _Task] = {}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_ctrl_c_to_the_parent) as pool_of_workers:
        try:
            for task in tasks:
                running[pool_of_workers.submit(placebo_rates, task.case, task.settings, cut)] = task
                if len(running) >= workers * _WAITING:
                    yield from _finished(running)
            while running:
                yield from _finished(running)
        except BrokenProcessPool:
            raise WatchdogError("a worker process was killed, perhaps for its memory; try --workers 1") from None
        except BaseException:
            pool_of_workers.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _finished(running: dict[Future[tuple[Calibration, ...]], _Task]) -> Iterator[tuple[int, Past]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        task = running.pop(future)
        error = future.exception()
        if error is not None:
            error.add_note(f"while judging the past of case {task.id!r}")
            raise error
        yield task.number, task.past(future.result())


def by_service(pasts: Sequence[Past]) -> list[tuple[str, Calibration]]:
    """The pasts pooled for every service and design, and, where there are several services, for all of them."""
    pooled = []
    services = list(dict.fromkeys(past.service for past in pasts))
    for name in [*services, "all"] if len(services) > 1 else services:
        for design in DESIGNS:
            found = [
                (past.group, one)
                for past in pasts
                if name in ("all", past.service)
                for one in past.found
                if one.design is design
            ]
            pooled += [
                (name, pool([(group, one) for group, one in found if one.budget == budget]))
                for budget in dict.fromkeys(one.budget for _, one in found)
            ]
    return pooled
