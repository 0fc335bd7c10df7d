"""Which deploys there were: from the ledger, from a table of times and versions, or as versions that began to serve."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from analysis.result import Arm, Kind, MetricSpec
from watchdog.errors import WatchdogError
from watchdog.model import Metric, Strategy
from watchdog.past.service import PastService, recorded_watches
from watchdog.ports import ArmWindow, LookAnswer, LookRequest

COARSE_S = 300.0  # a version is looked for in steps of this
_GONE_S = 6 * 3600.0  # one that was silent for so long and serves again was deployed again
_ROW_LIMIT = 10_000
_SEEN = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDeploy:
    """A deploy that was: what a watch of it would have been told."""

    at: float
    version: str
    previous_version: str | None
    found_in: str  # ledger, file or source
    id: str = ""
    strategy: Strategy | None = None
    share: float | None = None
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Versions:
    """How much each version served: requests (or, without any counter, 1) by interval counted from `start`."""

    start: float
    step_s: float
    intervals: int
    served: Mapping[str, Mapping[int, float]]

    def most(self, begin: float, end: float, *, but: str = "") -> str | None:
        """The version that served most in between, other than one; None where nobody did."""
        first, last = ((moment - self.start) / self.step_s for moment in (begin, end))
        sums = {
            version: math.fsum(n for at, n in served.items() if first <= at + 1e-9 and at + 1 <= last + 1e-9)
            for version, served in self.served.items()
            if version != but
        }
        best = max(sums, key=lambda version: sums[version], default=None)
        return best if best is not None and sums[best] > 0 else None


def from_ledger(service: PastService, *, since: float) -> list[PastDeploy]:
    """The deploys that are on record (LedgerError)."""
    return [
        PastDeploy(
            at=watch.live_at,
            version=watch.deploy.version,
            previous_version=watch.deploy.previous_version,
            found_in="ledger",
            id=watch.id,
            strategy=watch.deploy.strategy,
            share=watch.deploy.share,
            instances=watch.deploy.instances,
        )
        for watch in recorded_watches(service, since=since)
    ]


def from_source(service: PastService, *, since: float, until: float) -> tuple[list[PastDeploy], Versions]:
    """The versions that began to serve while another one did, and how much each served."""
    intervals = max(0, math.floor((until - since) / COARSE_S))
    versions = _versions(service, since, COARSE_S, range(intervals))
    coarse = list(_begun(versions))
    if not coarse:
        return [], versions
    step_s = service.plan.step_s
    requests: list[LookRequest] = []
    for at, _, _ in coarse:  # to the look in which it began; traffic of the first moments may be in the one before
        begin = since + (at - 1) * COARSE_S
        requests += [_request(service, begin, step_s, i) for i in range(math.ceil(2 * COARSE_S / step_s))]
    answers = iter(service.fetch(requests))
    found = []
    for at, version, previous in coarse:
        begin = since + (at - 1) * COARSE_S
        fine = [_served(next(answers)) for _ in range(math.ceil(2 * COARSE_S / step_s))]
        first = next((i for i, served in enumerate(fine) if served.get(version, 0.0) > 0), None)
        when = since + at * COARSE_S if first is None else begin + first * step_s
        found.append(PastDeploy(at=when, version=version, previous_version=previous, found_in="source"))
    return found, versions


def _versions(service: PastService, since: float, step_s: float, intervals: range) -> Versions:
    answers = service.fetch([_request(service, since, step_s, i) for i in intervals])
    served: dict[str, dict[int, float]] = defaultdict(dict)
    for at, answer in zip(intervals, answers, strict=True):
        for version, n in _served(answer).items():
            served[version][at] = n
    return Versions(since, step_s, len(intervals), served)


def _request(service: PastService, since: float, step_s: float, interval: int) -> LookRequest:
    start = since + interval * step_s
    arm = ArmWindow(arm=Arm.BASELINE.value, start=start, end=start + step_s, labels=dict(service.plan.selector_labels))
    metric = _serving(service)
    return LookRequest(
        watch_id="versions", service=service.name, interval=-1, arms=(arm,), metrics=(metric,), max_replicas=1
    )


def _serving(service: PastService) -> Metric:
    """What shows that a version serves: its requests, else that its gauge is there."""
    by = (service.plan.version_label,)
    for metric in service.plan.metrics:
        roles = metric.series
        counter = roles.get("total") or roles.get("exposure")
        if counter is None and "histogram" in roles:
            counter = roles["histogram"].with_suffix("_count")
        if counter is not None:
            spec = MetricSpec(name=_SEEN, kind=Kind.RATE)
            return Metric(spec=spec, series={"events": counter, "exposure": counter}, by=by)
    for metric in service.plan.metrics:
        if "level" in metric.series:
            return Metric(spec=MetricSpec(name=_SEEN, kind=Kind.GAUGE), series=dict(metric.series), by=by)
    raise WatchdogError(
        f"no metric of {service.name} but expressions: its versions cannot be seen in the source; "
        "give the deploys by --deploys FILE",
        permanent=True,
    )


def _served(answer: LookAnswer) -> dict[str, float]:
    cells = answer.cells.get(_SEEN)
    found: dict[str, float] = defaultdict(float)
    if cells is not None:
        for version, total in zip(cells.stratum, cells.total, strict=True):
            found[version] += 1.0 if math.isnan(total) else total
    return {version: n for version, n in found.items() if version and n > 0}


def _begun(versions: Versions) -> Iterator[tuple[int, str, str]]:
    """Interval, version and the version before it, in order."""
    gone = _GONE_S / versions.step_s
    found = []
    for version, served in versions.served.items():
        last: int | None = None
        for at in sorted(served):
            if last is None or at - last > gone:
                begin = versions.start + at * versions.step_s
                previous = versions.most(begin - 3600.0, begin, but=version)
                if previous is not None:
                    found.append((at, version, previous))
            last = at
    yield from sorted(found)


# --- from a table -----------------------------------------------------------------------------------------


def read_deploys(path: Path, service: str) -> list[PastDeploy]:
    """Deploys from a CSV with the columns time and version, perhaps previous_version, share and service.

    time: Unix seconds, or as ISO 8601 (UTC where it names no zone). Lines about other services are left out
    (WatchdogError, naming the line).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))[:_ROW_LIMIT]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WatchdogError(f"{path} cannot be read: {error}", permanent=True) from None
    if rows and not {"time", "version"} <= rows[0].keys():
        raise WatchdogError(f"{path}: expected a first line such as time,version,previous_version", permanent=True)
    mine = [(line, row) for line, row in enumerate(rows, 2) if row.get("service") in (None, "", service)]
    return sorted((_row(path, line, row) for line, row in mine), key=lambda deploy: deploy.at)


def _row(path: Path, line: int, row: Mapping[str, str | None]) -> PastDeploy:
    version = (row.get("version") or "").strip()
    if not version:
        raise WatchdogError(f"{path}:{line}: version is missing", permanent=True)
    share = (row.get("share") or "").strip()
    try:
        told = float(share) if share else None
    except ValueError:
        told = math.nan
    if told is not None and not 0 < told <= 1:
        raise WatchdogError(f"{path}:{line}: share: {share!r} is no share; expected more than 0 and at most 1")
    return PastDeploy(
        at=_time(path, line, (row.get("time") or "").strip()),
        version=version,
        previous_version=(row.get("previous_version") or "").strip() or None,
        found_in="file",
        share=told,
    )


def _time(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        expected = "expected Unix seconds, or for example 2024-05-01T12:00:00Z"
        raise WatchdogError(f"{path}:{line}: time: {text!r} is no time; {expected}", permanent=True) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def completed(deploys: Sequence[PastDeploy], versions: Versions | None) -> list[PastDeploy]:
    """The deploys with the version that each replaced: as told, else what served before, else the one told before."""
    found: list[PastDeploy] = []
    for deploy in deploys:
        previous = deploy.previous_version
        if previous is None and versions is not None:
            previous = versions.most(deploy.at - 3600.0, deploy.at, but=deploy.version)
        if previous is None and found and found[-1].version != deploy.version:
            previous = found[-1].version
        found.append(replace(deploy, previous_version=previous))
    return found
