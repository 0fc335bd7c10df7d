"""Placebo deploys on a live past: the times between real deploys, each judged as if something had been deployed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from analysis.calibrate import Calibration, calibrate, pool
from analysis.result import Design
from watchdog.judging import observation
from watchdog.past.deploys import PastDeploy, Versions
from watchdog.past.service import PastService, Progress


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which nothing was deployed, and the version that served; "" where no label tells."""

    begin: float
    end: float
    version: str


def stretches(
    service: PastService, deploys: Sequence[PastDeploy], versions: Versions | None, *, since: float, until: float
) -> list[Stretch]:
    """The times between deploys, each without the watch that follows a deploy."""
    times = sorted(deploy.at for deploy in deploys if since < deploy.at < until)
    begins = [since, *(at + service.plan.watch_s for at in times)]
    found = []
    for begin, (_, end) in zip(begins, pairwise([since, *times, until]), strict=True):
        version = "" if versions is None else versions.most(begin, end)
        if end > begin and version is not None:
            found.append(Stretch(begin, end, version))
    return found


def calibrate_past(
    service: PastService,
    found: Sequence[Stretch],
    *,
    every: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Calibration | None:
    """Judge placebo deploys on these times, pooled; None where they are too short for any.

    every: only every so many looks plays a deploy; as many as a watch has, unless said, so that none overlap.
    """
    plan = service.plan
    settings = plan.judge
    pieces = []
    for number, stretch in enumerate(found, 1):
        n = int((stretch.end - stretch.begin) // plan.step_s)
        watch = service.watch(at=stretch.end, version="placebo", previous=stretch.version or None)
        watch = replace(watch, plan=replace(watch.plan, control_labels={}))
        looks = service.looks([(watch, range(-n, 0))])[watch.id]
        past = observation(watch, looks)
        one = calibrate(
            past,
            settings,
            baseline_looks=max(1, plan.baseline_looks),
            design=Design.CONCURRENT if plan.design is Design.CONCURRENT else Design.BEFORE_AFTER,
            every=every or settings.planned_looks,
        )
        pieces.append((f"{stretch.begin:.0f}", one))
        progress(number, len(found))
    return pool(pieces) if pieces else None
