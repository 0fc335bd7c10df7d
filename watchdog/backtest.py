"""Judges recorded deploys as the daemon would have: after every look, knowing nothing later and no truth.

Each case is judged by itself in a worker process, which is handed its samples and settings and nothing else. The truth
is read afterwards, by `trials`, when every verdict is fixed.
"""

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from analysis.evaluate import Trial
from analysis.hindsight import watch
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Verdict, VerdictKind
from watchdog.app import recorded_cases, recorded_descriptions
from watchdog.errors import WatchdogError

_WAITING = 4  # cases per worker that are read ahead
_SETTINGS = TypeAdapter(JudgeSettings)
_KINDS = {"AA": False, "fault": True, "implant": True}


class Blind(Protocol):
    """A case without its name and truth."""

    @property
    def step_s(self) -> float: ...

    def observation(self, looks: int | None = None, *, steps: int = 1) -> Observation: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the judge said of one case. `alarm_at_s`: seconds from the deploy to the end of the look that alarmed."""

    id: str
    verdict: str
    reason: str | None
    alarm_at_s: float | None
    metric: str | None
    sentence: str


def backtest(
    folder: Path,
    given: Mapping[str, Any],
    *,
    look_s: float = 0.0,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Judged]:
    """Judge every case of a folder, in the order of reading.

    Parameters
    ----------
    folder
        A case folder: cases.json and its Parquet files.
    given
        Judge settings for all cases; they go before a case's own `settings`, which go before the shipped ones.
    look_s
        The shortest look: recorded steps are put together until one is at least this long; 0 looks after every step.
        It is a setting, so a case's length cannot choose it.
    workers
        Processes; 1 judges in this one.
    progress
        Told how many cases are judged, of how many.

    Raises
    ------
    WatchdogError
        The folder is no case folder, or a setting is none.
    """
    total = len(recorded_descriptions(folder))
    found: dict[int, Judged] = {}
    for number, judged in _each(_tasks(folder, given, look_s), workers):
        found[number] = judged
        progress(len(found), total)
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    id: str
    case: Blind
    settings: JudgeSettings
    look_s: float


def _tasks(folder: Path, given: Mapping[str, Any], look_s: float) -> Iterator[_Task]:
    for number, case in enumerate(recorded_cases(folder)):
        settings = settings_of(case.id, case.meta.get("settings") or {}, given)
        yield _Task(number, case.id, case.unlabelled(), settings, look_s)


def settings_of(case: str, own: Any, given: Mapping[str, Any]) -> JudgeSettings:
    """The shipped settings, changed by the case's own, changed by those given (WatchdogError)."""
    known = {field.name for field in fields(JudgeSettings)}
    if not isinstance(own, Mapping):
        raise WatchdogError(f"case {case!r}: its settings are no table of judge settings")
    unknown = sorted({*own, *given} - known)
    if unknown:
        raise WatchdogError(f"case {case!r}: {unknown[0]!r} is no judge setting; known are {', '.join(sorted(known))}")
    try:
        settings = _SETTINGS.validate_python({**own, **given})
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise WatchdogError(f"case {case!r}: settings: {where}: {wrong['msg']}") from None
    if not 0 < settings.budget < 1 or settings.planned_looks < 1:
        raise WatchdogError(f"case {case!r}: settings: budget must lie between 0 and 1, planned_looks be at least 1")
    return settings


def _each(tasks: Iterable[_Task], workers: int) -> Iterator[tuple[int, Judged]]:
    """Judge the tasks as they come, a few ahead of the workers; cases are read one file at a time."""
    if workers <= 1:
        yield from (
            (task.number, _named(task.id, *judge_blind(task.case, task.settings, task.look_s))) for task in tasks
        )
        return
    running: dict[Future[tuple[Verdict, float]], _Task] = {}
    with ProcessPoolExecutor(workers, mp_context=_processes(), initializer=_leave_ctrl_c_to_the_parent) as pool:
        try:
            for task in tasks:
                running[pool.submit(judge_blind, task.case, task.settings, task.look_s)] = task
                if len(running) >= workers * _WAITING:
                    yield from _finished(running)
            while running:
                yield from _finished(running)
        except BrokenProcessPool:
            raise WatchdogError("a worker process was killed, perhaps for its memory; try --workers 1") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _processes() -> ForkServerContext:
    """Clean processes that import the judge once for all of them."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _finished(running: dict[Future[tuple[Verdict, float]], _Task]) -> Iterator[tuple[int, Judged]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        task = running.pop(future)
        error = future.exception()
        if error is not None:
            error.add_note(f"while judging case {task.id!r}")
            raise error
        yield task.number, _named(task.id, *future.result())


def judge_blind(case: Blind, settings: JudgeSettings, look_s: float = 0.0) -> tuple[Verdict, float]:
    """Watch one case to its first alarm or its end; the verdict of that look, and the length of a look in seconds."""
    steps = max(1, math.ceil(look_s / case.step_s - 1e-9))
    observation = case.observation(steps=steps)
    return watch(observation, settings), observation.step_s


def _named(case: str, verdict: Verdict, look_s: float) -> Judged:
    return Judged(
        id=case,
        verdict=verdict.kind.value,
        reason=verdict.reason.value if verdict.reason is not None else None,
        alarm_at_s=(verdict.alarm_look + 1) * look_s if verdict.alarm_look is not None else None,
        metric=verdict.metric,
        sentence=verdict.sentence,
    )


def trials(folder: Path, judged: Iterable[Judged]) -> list[Trial]:
    """The verdicts beside the truth of cases.json, which is read only now; cases without a known truth are left out."""
    truth = recorded_descriptions(folder)
    return [_trial(truth[said.id], said) for said in judged if truth.get(said.id, {}).get("kind") in _KINDS]


def _trial(meta: Mapping[str, Any], said: Judged) -> Trial:
    how = [str(meta["strategy"])]
    if meta.get("sticky") is not None:  # real traffic is split by client or by request: not one figure
        how.append("by client" if meta["sticky"] else "by request")
    return Trial(
        group=f"{meta.get('dataset') or 'cases'} ({', '.join(how)})",
        fault=_KINDS[meta["kind"]],
        alarm_at_s=said.alarm_at_s,
        acted=said.verdict == VerdictKind.DEGRADED,
        step_s=float(meta["step_seconds"]),
        onset_s=float(meta.get("onset_s") or 0.0),
    )
