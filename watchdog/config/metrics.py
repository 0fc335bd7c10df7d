"""The shorthand of one [[services.X.metrics]] table, and the metric it stands for."""

from collections.abc import Container
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from analysis.result import Direction, Kind, MetricSpec
from watchdog.config.section import Flag, Mistake, Number, Section
from watchdog.model import Metric
from watchdog.selector import Selector, is_label_name, parse_selector

ROLES: dict[Kind, dict[str, str]] = {  # kind → key of the table → role of the series
    Kind.RATIO: {"bad": "bad", "total": "total"},
    Kind.RATE: {"events": "events", "exposure": "exposure"},
    Kind.LABELS: {"bad": "bad", "total": "total"},
    Kind.LATENCY: {"histogram": "histogram"},
    Kind.GAUGE: {"gauge": "level"},
    Kind.TREND: {"gauge": "level"},
}
_SERIES_KEYS = ("bad", "total", "events", "exposure", "histogram", "gauge", "promql")
_WORSE: dict[Kind, Direction] = {  # more errors and slower is worse; fewer orders is worse
    Kind.RATIO: Direction.UP_IS_BAD,
    Kind.RATE: Direction.DOWN_IS_BAD,
    Kind.LABELS: Direction.UP_IS_BAD,
    Kind.LATENCY: Direction.UP_IS_BAD,
    Kind.GAUGE: Direction.UP_IS_BAD,
    Kind.TREND: Direction.UP_IS_BAD,
}


def _label(text: str) -> str:
    if not all(map(is_label_name, text.split("."))):
        raise ValueError(f"{text!r} is not a label name; expected letters, digits, _ and ., such as service.version")
    return text


def _series(text: str) -> str:
    _parsed(text)
    return text


def _parsed(text: str) -> Selector:
    try:
        return parse_selector(text)
    except (OverflowError, RecursionError):
        raise ValueError("its regular expression is too large to be used") from None


def _histogram(text: str) -> str:
    name = _parsed(text).name
    for suffix in ("_bucket", "_count", "_sum"):
        if name.endswith(suffix):
            raise ValueError(f"{name!r} is one series of a histogram; expected its base name {name[: -len(suffix)]!r}")
    return text


def _promql(text: str) -> str:
    if "$arm" not in text:
        raise ValueError("expected $arm where the labels of old or new version belong, such as avg(queue_depth{$arm})")
    return text


Label = Annotated[str, AfterValidator(_label)]
Series = Annotated[str, AfterValidator(_series)]
Histogram = Annotated[str, AfterValidator(_histogram)]
PromQL = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_promql)]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/ -]{0,63}$")]


class MetricConfig(Section):
    """One metric: what kind it is, where its series are, how much worse is too much."""

    name: MetricName = Field(description="what it is called in every sentence")
    kind: Kind = Field(description="ratio, rate, latency, labels, gauge or trend; chooses the test")
    bad: Series | None = Field(None, description="ratio and labels: counter of bad events")
    total: Series | None = Field(None, description="ratio and labels: counter of all events")
    events: Series | None = Field(None, description="rate: counter of events, such as orders")
    exposure: Series | None = Field(None, description="rate: counter of what they are counted per, such as requests")
    histogram: Histogram | None = Field(None, description="latency: base name of the histogram, without _bucket")
    gauge: Series | None = Field(None, description="gauge and trend: a level per instance")
    promql: PromQL | None = Field(None, description="gauge and trend: any expression, $arm for the arm's labels")
    by: tuple[Label, ...] = Field((), description="labels that split the counts, so a changed mix is no regression")
    direction: Direction | None = Field(None, description="up_is_bad, down_is_bad or either; default by kind")
    unit: str = Field("", max_length=20, description="unit for the sentences, such as s or MB")
    margin: Number | None = Field(None, gt=0, le=10, description="overrides [judge] margin for this metric")
    margin_tell: Number | None = Field(None, gt=0, le=10, description="overrides [judge] margin_tell for this metric")
    floor: Number | None = Field(None, ge=0, description="absolute worsening always tolerated, in the metric's unit")
    weight: Number = Field(1.0, gt=0, le=1000, description="share of the budget, relative to the other metrics")
    critical: Flag = Field(False, description="four times the share of the budget")
    limit: Number | None = Field(None, description="trend: where it ends, such as the memory limit, for the sentence")
    slo_le: Number | None = Field(None, gt=0, description="latency: a bucket bound that matters by itself")
    slower_by: Number | None = Field(None, gt=0, le=10, description="latency: tolerated slowness in time, 0.2 = 20 %")
    native: Flag = Field(
        False,
        description="its series are native (exponential) histograms, which have no _bucket and no _count of their own",
    )
    configured_share: Flag = Field(False, description="count per asked traffic share instead of counted exposure")

    @classmethod
    def fillers(cls, *, only: Container[str | int]) -> dict[str, Any]:
        """A series that is written wrongly is not missing."""
        series = {key: "missing" for key in _SERIES_KEYS if key in only}
        return super().fillers(only=only) | series | ({"promql": "$arm"} if "promql" in only else {})

    def mistakes(self) -> list[Mistake]:
        found = [*self._series_mistakes()]
        if self.limit is not None and self.kind is not Kind.TREND:
            found.append(Mistake(("limit",), f"belongs to kind 'trend'; this metric is {self.kind.value!r}"))
        if self.kind is Kind.LABELS and len(self.by) != 1:
            found.append(
                Mistake(("by",), "kind 'labels' needs the one label whose new values count, as in by = [\"code\"]")
            )
        if self.kind is Kind.LABELS and self.direction not in (None, Direction.UP_IS_BAD):
            found.append(Mistake(("direction",), "a new label value can only be bad; leave it out"))
        if self.native and self.kind not in (Kind.RATIO, Kind.RATE, Kind.LATENCY):
            found.append(Mistake(("native",), f"belongs to kinds latency, ratio and rate, not to {self.kind.value!r}"))
        if self.slo_le is not None and self.kind is not Kind.LATENCY:
            found.append(Mistake(("slo_le",), f"belongs to kind 'latency'; this metric is {self.kind.value!r}"))
        if self.slower_by is not None:
            found += self._slower_by_mistakes()
        if self.margin is not None and self.margin_tell is not None and self.margin_tell > self.margin:
            found.append(Mistake(("margin_tell",), f"expected at most margin = {self.margin:g}"))
        return found

    def _slower_by_mistakes(self) -> list[Mistake]:
        if self.kind is not Kind.LATENCY:
            return [Mistake(("slower_by",), f"belongs to kind 'latency'; this metric is {self.kind.value!r}")]
        found = []
        if self.margin is not None:
            found.append(Mistake(("slower_by",), "takes the place of margin; give one of the two"))
        if self.direction not in (None, Direction.UP_IS_BAD):
            found.append(Mistake(("direction",), "expected 'up_is_bad' beside slower_by: only slower can be worse"))
        return found

    def _series_mistakes(self) -> list[Mistake]:
        wanted = ROLES[self.kind]
        if self.promql is not None and "gauge" in wanted and self.gauge is None:
            wanted = {"promql": ""}
        given = {key for key in _SERIES_KEYS if getattr(self, key) is not None}
        needs = " and ".join(wanted)
        missing = [
            Mistake((k,), f"is missing; kind {self.kind.value!r} needs {needs}") for k in wanted if k not in given
        ]
        extra = [
            Mistake((k,), f"does not belong to kind {self.kind.value!r}, which needs {needs}")
            for k in _SERIES_KEYS
            if k in given and k not in wanted
        ]
        return missing + extra

    def metric(self) -> Metric:
        """Return the metric as the sources and the judge take it."""
        keys = ROLES[self.kind]
        series = {role: text for key, role in keys.items() if (text := getattr(self, key)) is not None}
        return Metric(
            spec=MetricSpec(
                name=self.name,
                kind=self.kind,
                direction=self.direction or _WORSE[self.kind],
                unit=self.unit,
                margin=self.margin,
                margin_tell=self.margin_tell,
                floor=self.floor,
                weight=self.weight,
                critical=self.critical,
                slo_le=self.slo_le,
                slower_by=self.slower_by,
                limit=self.limit,
                configured_share=self.configured_share,
            ),
            series={role: parse_selector(text) for role, text in series.items()},
            promql=self.promql,
            by=self.by,
            native=self.native,
        )
