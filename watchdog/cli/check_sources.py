"""What `check` says of sources: that they answer, what they bring of every version, how often, and by which clock."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from analysis.prepare import Cells
from analysis.result import Arm, Kind, SourceStatus
from analysis.sentence import quantity
from watchdog.app import Parts
from watchdog.catalogue import Catalogue, HasCatalogue
from watchdog.cli.check_days import day_findings
from watchdog.cli.check_ratios import ratio_findings
from watchdog.cli.findings import Finding
from watchdog.config import Config, ServiceConfig
from watchdog.discovery import usual_interval
from watchdog.errors import SourceError, WatchdogError
from watchdog.model import Metric, Strategy
from watchdog.ports import ArmWindow, Clock, LookAnswer, LookRequest, Source
from watchdog.selector import Matcher, Selector

_LONGEST_WARM_UP_S = 5.0  # a source that scrapes by itself needs two of its rounds first
_ROUNDS = 3
_CLOCK_TOLD_S, _CLOCK_WRONG_S = 2.0, 30.0
_SHOWN = 4  # versions that are shown of a metric
_NEAR = 3
_ALONE = (Strategy.DIRECT, Strategy.BLUE_GREEN)  # compare with the time before: no version label is needed


@dataclass(slots=True)
class Seen:
    """What the sources showed, for the findings after them."""

    versions: dict[str, str] = field(default_factory=dict)  # service → the version with most traffic
    whole: set[str] = field(default_factory=set)  # services whose every metric has samples


def source_findings(config: Config, parts: Parts, seen: Seen) -> Iterator[Finding]:
    """Ask every source once for what its services need, old and new version apart."""
    for name, source in parts.sources.items():
        services = {key: service for key, service in config.services.items() if service.source == name}
        try:
            source.start()
            yield from _asked(name, source, services, config, parts.clock, seen)
        except WatchdogError as error:
            yield Finding("problem", f"sources.{name}", error.message, "correct its options")
        finally:
            source.close()


def _asked(
    name: str,
    source: Source,
    services: Mapping[str, ServiceConfig],
    config: Config,
    clock: Clock,
    seen: Seen,
) -> Iterator[Finding]:
    if not services:
        yield Finding("warning", f"sources.{name}", "no service uses it", "name it as a service's source, or remove it")
        return
    answers = _fetched(source, services, config, clock)
    if not all(_is_whole(answer, service) for answer, service in zip(answers, services.values(), strict=True)):
        longest_s = max(_step_s(service, source) for service in services.values())
        clock.sleep(min(_LONGEST_WARM_UP_S, _ROUNDS * longest_s))  # who reads pages has no past yet
        answers = _fetched(source, services, config, clock)
    catalogue = source.catalogue if isinstance(source, HasCatalogue) else None
    if catalogue is not None and not all(answer.facts.status is SourceStatus.DOWN for answer in answers):
        yield from _clock_findings(f"sources.{name}", catalogue)
    for key, answer in zip(services, answers, strict=True):
        look_s = _step_s(services[key], source)
        yield from _told(f"sources.{name}", key, services[key], answer, look_s, catalogue, seen)
        if answer.facts.status is SourceStatus.OK:
            deadline_s = config.daemon.fetch_deadline_s
            yield from day_findings(key, services[key], source, now=clock.now(), deadline_s=deadline_s)


def _fetched(source: Source, services: Mapping[str, ServiceConfig], config: Config, clock: Clock) -> list[LookAnswer]:
    requests = [_request(key, service, source, clock.now()) for key, service in services.items()]
    return source.fetch(requests, deadline_s=config.daemon.fetch_deadline_s)


def _is_whole(answer: LookAnswer, service: ServiceConfig) -> bool:
    has_samples = (name in answer.cells and answer.cells[name].value for name in _names(service))
    return answer.facts.status is SourceStatus.OK and all(has_samples)


def _names(service: ServiceConfig) -> list[str]:
    return [metric.spec.name for metric in service.metrics]


def _step_s(service: ServiceConfig, source: Source) -> float:
    return service.look_s or source.default_step_s


def _request(key: str, service: ServiceConfig, source: Source, now: float) -> LookRequest:
    """The last closed interval of the whole service, its versions told apart as strata."""
    end = now - (service.settle_s if service.settle_s >= 0 else source.default_settle_s)
    arm = ArmWindow(
        arm=Arm.BASELINE.value, start=end - _step_s(service, source), end=end, labels=dict(service.selector)
    )
    metrics = tuple(_by_version(metric, service.version_label) for metric in service.metrics)
    return LookRequest(watch_id=f"check:{key}", service=key, interval=0, arms=(arm,), metrics=metrics)


def _by_version(metric: Metric, label: str) -> Metric:
    return metric if metric.promql is not None or metric.spec.kind is Kind.LABELS else replace(metric, by=(label,))


def _told(
    source: str,
    key: str,
    service: ServiceConfig,
    answer: LookAnswer,
    look_s: float,
    catalogue: Catalogue | None,
    seen: Seen,
) -> Iterator[Finding]:
    if answer.facts.status is SourceStatus.DOWN:
        remedy = "see that its address is right and that it can be reached from here"
        yield Finding("problem", source, f"does not answer: {answer.facts.detail or 'no reason given'}", remedy)
        return
    if answer.facts.status is SourceStatus.PARTIAL:
        yield Finding("warning", source, f"answers in part only: {answer.facts.detail}", "look into its own log")
    for metric in service.metrics:
        cells = answer.cells.get(metric.spec.name)
        about = f"services.{key}.metrics.{metric.spec.name}"
        if cells is None or not cells.value:
            yield Finding("warning", about, "no samples in the last interval", _remedy(metric, service, catalogue))
        else:
            yield Finding("ok", about, _shown(metric, cells, look_s))
            yield from ratio_findings(about, metric, service, catalogue)
    yield from _silence_findings(source, key, service, answer, catalogue)
    if _is_whole(answer, service):
        seen.whole.add(key)
    yield from _version_findings(key, service, answer, catalogue, seen)
    if catalogue is not None:
        yield from _rhythm_findings(f"services.{key}.look_s", service, look_s, catalogue)


def _silence_findings(
    source: str, key: str, service: ServiceConfig, answer: LookAnswer, catalogue: Catalogue | None
) -> Iterator[Finding]:
    """Say that no metric at all brings samples, where the source shows no sign of the service either."""
    if answer.facts.status is not SourceStatus.OK or not service.metrics:
        return
    if any(cells.value for cells in answer.cells.values()) or _heard_of(service, catalogue):
        return
    said = f"not one brings samples, and {source} knows no series of them: every deploy would end as inconclusive"
    remedy = "correct the selector and the names; where it is not deployed yet, check again once it has traffic"
    yield Finding("problem", f"services.{key}.metrics", said, remedy)


def _heard_of(service: ServiceConfig, catalogue: Catalogue | None) -> bool:
    """Some series of the service was there lately: it is only asleep. Also where the names cannot be asked for."""
    if catalogue is None:
        return False
    conditions = [Matcher(name, "=", value) for name, value in sorted(service.selector.items())]
    series = [selector for metric in service.metrics for selector in _series(metric)]
    try:
        return any(catalogue.labels(selector.with_matchers(*conditions)) for selector in series)
    except SourceError:
        return True


# --- what was found ---------------------------------------------------------------------------------------


def _shown(metric: Metric, cells: Cells, look_s: float) -> str:
    """One metric in the last interval: each version's instances, requests and level."""
    parts = [_version_shown(metric, rows, look_s, name) for name, rows in _by_stratum(metric, cells)[:_SHOWN]]
    samples = "1 sample" if len(cells.value) == 1 else f"{len(cells.value)} samples"
    return f"{samples} in the last {look_s:g} s" + "".join(f"; {part}" for part in parts if part)


_Row = tuple[str, float, float, float]  # replica, le, value, total


def _by_stratum(metric: Metric, cells: Cells) -> list[tuple[str, list[_Row]]]:
    """The rows of every version, those with most requests first."""
    found: dict[str, list[_Row]] = defaultdict(list)
    if metric.promql is not None or metric.spec.kind is Kind.LABELS:
        return []
    for stratum, *row in zip(cells.stratum, cells.replica, cells.le, cells.value, cells.total, strict=True):
        found[stratum].append(tuple(row))  # type: ignore[arg-type]
    return sorted(found.items(), key=lambda item: -_exposed(item[1]))


def _exposed(rows: Sequence[_Row]) -> float:
    """Requests; a histogram's rows repeat theirs for every bound."""
    return math.fsum(total for _, le, _, total in rows if math.isfinite(total) and (math.isnan(le) or le == math.inf))


def _version_shown(metric: Metric, rows: Sequence[_Row], look_s: float, name: str) -> str:
    instances = len({replica for replica, *_ in rows})
    said = f"{name or 'without version label'}: {instances} instance{'' if instances == 1 else 's'}"
    kind, n = metric.spec.kind, _exposed(rows)
    if kind in (Kind.RATIO, Kind.RATE, Kind.LATENCY):
        said += f", {n * 60 / look_s:.4g} requests per minute"
    if kind is Kind.RATIO and n:
        said += f", {100 * math.fsum(value for _, _, value, _ in rows) / n:.2g} %"
    if kind is Kind.RATE and n:
        said += f", {math.fsum(value for _, _, value, _ in rows) / n:.3g} per request"
    if kind in (Kind.GAUGE, Kind.TREND):
        level = math.fsum(value for _, _, value, _ in rows) / len(rows)
        said += f", {quantity(level, metric.spec.unit)}" if math.isfinite(level) else ""
    return said


def _version_findings(
    key: str, service: ServiceConfig, answer: LookAnswer, catalogue: Catalogue | None, seen: Seen
) -> Iterator[Finding]:
    about, label = f"services.{key}.version_label", service.version_label
    traffic: dict[str, float] = defaultdict(float)
    without: list[str] = []
    for metric in service.metrics:
        strata = _by_stratum(metric, answer.cells.get(metric.spec.name, Cells()))
        for name, rows in strata:
            traffic[name] += _exposed(rows)
        without += [metric.spec.name] if [name for name, _ in strata] == [""] else []
    versions = sorted((name for name in traffic if name), key=lambda name: -traffic[name])
    if versions:
        seen.versions[key] = versions[0]
        yield Finding("ok", about, f"{label} has {', '.join(versions[:_SHOWN])}")
        if service.strategy not in _ALONE:
            yield from _unlabelled_findings(f"services.{key}.metrics", without, label)
    elif traffic and service.strategy not in _ALONE:
        has = _labels_there(service, catalogue)
        remedy = f'name the label that does{has}, or set strategy = "direct" to compare with the time before'
        yield Finding(
            "warning", about, f"no series carries the label {label!r}, so versions cannot be told apart", remedy
        )


def _unlabelled_findings(about: str, names: Sequence[str], label: str) -> Iterator[Finding]:
    for name in names:
        out = "take the metric, or the preset that brings it, out: it would be NO_DATA at every look"
        remedy = f"give its series the label {label!r}, or {out}"
        yield Finding(
            "warning", f"{about}.{name}", f"no series carries the label {label!r}: versions not compared", remedy
        )


def _labels_there(service: ServiceConfig, catalogue: Catalogue | None) -> str:
    first = _first_series(service)
    if catalogue is None or first is None:
        return ""
    try:
        labels = [name for name in catalogue.labels(first) if name not in {"le", "instance", "job"}]
    except SourceError:
        return ""
    return f" (there are {', '.join(labels)})" if labels else ""


def _first_series(service: ServiceConfig) -> Selector | None:
    conditions = [Matcher(name, "=", value) for name, value in sorted(service.selector.items())]
    for metric in service.metrics:
        for selector in _series(metric):
            return selector.with_matchers(*conditions)
    return None


def _series(metric: Metric) -> list[Selector]:
    """The selectors of a metric as the server has them, its exposure first: errors may never have happened."""
    found = [s.with_suffix("_bucket") if role == "histogram" else s for role, s in metric.series.items()]
    return found[::-1]


def _rhythm_findings(about: str, service: ServiceConfig, look_s: float, catalogue: Catalogue) -> Iterator[Finding]:
    """Say how often the series are sampled, against how often they are looked at."""
    first = _first_series(service)
    if first is None:
        return
    try:
        times = catalogue.sampled_at(first)
    except SourceError as error:
        yield Finding("warning", about, f"nobody can tell how often its series are sampled: {error.message}")
        return
    scrape_s = usual_interval(times)
    if scrape_s is None:
        return
    said = f"a look every {look_s:g} s over samples every {scrape_s:.3g} s"
    if look_s + 0.5 < 2 * scrape_s:
        least = math.ceil(2 * scrape_s)
        remedy = f"set look_s = {least}, or scrape more often"
        yield Finding("warning", about, f"{said}: many looks will see nothing new", remedy)
    else:
        yield Finding("ok", about, said)


def _clock_findings(about: str, catalogue: Catalogue) -> Iterator[Finding]:
    try:
        ahead_s = catalogue.clock_ahead_s()
    except SourceError:
        return  # that it cannot be asked is told elsewhere
    if ahead_s is None:
        return
    if abs(ahead_s) < _CLOCK_TOLD_S:
        yield Finding("ok", about, "its clock and ours agree")
        return
    level = "problem" if abs(ahead_s) >= _CLOCK_WRONG_S else "warning"
    side = "ahead of" if ahead_s > 0 else "behind"
    said = f"its clock is {abs(ahead_s):.0f} s {side} ours: intervals are asked for at the wrong time"
    yield Finding(level, about, said, "let NTP set both clocks")  # type: ignore[arg-type]


def _remedy(metric: Metric, service: ServiceConfig, catalogue: Catalogue | None) -> str:
    """Where to look: the nearest names there are, else the labels that were asked for."""
    where = ", ".join(f'{label}="{value}"' for label, value in service.selector.items())
    matched = f" with {where}" if where else ""
    usual = f"see that the series exist{matched}, and that there is traffic"
    if catalogue is None or metric.promql is not None:
        return usual
    try:
        known = catalogue.names()
        for selector in _series(metric):
            if selector.name not in known:
                near = get_close_matches(selector.name, known, n=_NEAR, cutoff=0.6)
                told = f"the nearest: {', '.join(near)}" if near else "nothing is named like it"
                return f"there is no {selector.name}; {told}"
        return _wrong_value(_series(metric), service, catalogue) or usual
    except SourceError:
        return usual


def _wrong_value(series: Sequence[Selector], service: ServiceConfig, catalogue: Catalogue) -> str:
    for label, value in service.selector.items():
        for selector in series:
            there = [one.labels[label] for one in catalogue.label_sets(Selector(selector.name), (label,))]
            if value not in there:
                near = get_close_matches(value, there, n=_NEAR, cutoff=0.4) or there[:_NEAR]
                told = f"it has {', '.join(near)}" if any(near) else "it has no such label"
                return f'{selector.name} has no {label}="{value}"; {told}'
    return ""
