"""What `check` says of a ratio that can never see an error: its condition wants what its label never says."""

from collections.abc import Iterator

from analysis.result import Kind
from watchdog.catalogue import Catalogue
from watchdog.cli.findings import Finding
from watchdog.config import ServiceConfig
from watchdog.customs import may_come
from watchdog.errors import SourceError
from watchdog.model import Metric
from watchdog.selector import Matcher

_SHOWN = 6  # values that are named


def ratio_findings(
    about: str, metric: Metric, service: ServiceConfig, catalogue: Catalogue | None
) -> Iterator[Finding]:
    """Warn where nothing matched `bad` within the last hour and its label's values are of another kind altogether.

    A healthy service has no 5xx and is not warned: its label says 200, and one day may say 503.
    """
    if metric.spec.kind is not Kind.RATIO or catalogue is None:
        return
    bad, total = metric.series["bad"], metric.series["total"]
    mine = [Matcher(label, "=", value) for label, value in sorted(service.selector.items())]
    wanted = [one for one in bad.matchers if one.op in ("=", "=~") and one not in total.matchers]
    if bad.name != total.name or not wanted:
        return  # another counter may begin with its first error
    try:
        if catalogue.labels(bad.with_matchers(*mine)):
            return
        for one in wanted:
            sets = catalogue.label_sets(total.with_matchers(*mine), (one.label,))
            values = [found.labels[one.label] for found in sets if found.labels[one.label]]
            if values and not may_come(lambda value, one=one: one.matches({one.label: value}), values):  # type: ignore[misc]
                yield _never(about, one, total.name, values)
    except SourceError:
        return  # that it cannot be asked is told elsewhere


def _never(about: str, one: Matcher, name: str, values: list[str]) -> Finding:
    there = ", ".join(sorted(values)[:_SHOWN])
    said = f"it wants {one.render()} as errors, and {one.label} of {name} is {there}: no error would ever be seen"
    return Finding("warning", about, said, f"name in `bad` the values of {one.label} that are failures")
