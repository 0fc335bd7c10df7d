"""What every source kind in the table must do. A new entry without a case here fails."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from analysis.prepare import Cells
from analysis.result import Arm, Kind, MetricSpec, SourceStatus
from tests.receivers import Answer, Receiver, receiver
from watchdog.clock import SystemClock
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookRequest, Source
from watchdog.selector import parse_selector
from watchdog.sources import SOURCES

# kind → options of a source that works; `{url}` is a server, `{folder}` a case folder
WORKS: dict[str, dict[str, Any]] = {
    "prometheus": {"url": "{url}"},
    "scrape": {"targets": [{"url": "{url}", "labels": {"version": "v1"}}], "interval_s": 0.05, "timeout_s": 0.3},
    "recorded": {"folder": "{folder}", "case": "c"},
}
ASKS_NOBODY = {"recorded"}
Build = Callable[[str], Source]
METRICS = (
    Metric(
        spec=MetricSpec(name="errors", kind=Kind.RATIO),
        series={"bad": parse_selector('x_total{code="500"}'), "total": parse_selector("x_total")},
        by=("route",),
    ),
    Metric(
        spec=MetricSpec(name="orders", kind=Kind.RATE),
        series={"events": parse_selector("o_total"), "exposure": parse_selector("x_total")},
    ),
    Metric(spec=MetricSpec(name="latency", kind=Kind.LATENCY), series={"histogram": parse_selector("h")}),
    Metric(spec=MetricSpec(name="memory", kind=Kind.GAUGE), series={"level": parse_selector("m")}),
    Metric(spec=MetricSpec(name="leak", kind=Kind.TREND), series={"level": parse_selector("m")}),
    Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql="avg(l{$arm})"),
)


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as server:
        server.otherwise = lambda _: Answer(status=500)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    case = {"id": "c", "strategy": "concurrent", "step_seconds": 10, "metrics": [{"name": "errors", "kind": "count"}]}
    row = {"case": "c", "metric": 0, "arm": "candidate", "replica": 0, "t": 0, "value": 1, "total": 2}
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    pd.DataFrame([row]).to_parquet(tmp_path / "c.parquet")
    return tmp_path


@pytest.fixture
def build(server: Receiver, folder: Path) -> Iterator[Build]:
    """Construct a source exactly as the composition root does."""
    built: list[Source] = []

    def construct(kind: str) -> Source:
        text = json.dumps(WORKS[kind]).replace("{url}", server.url).replace("{folder}", str(folder))
        options = SOURCES[kind].Options.model_validate(json.loads(text))
        # the Protocol says nothing about construction; the composition root does it by these names
        source: Source = SOURCES[kind](name="it", options=options, clock=SystemClock(), env={})
        built.append(source)
        return source

    yield construct
    for source in built:
        source.close()


def looks(*intervals: int) -> list[LookRequest]:
    return [
        LookRequest(
            watch_id=f"w{i}",
            service="shop",
            interval=i,
            arms=tuple(
                ArmWindow(arm=arm, start=1000.0 + 10 * i, end=1010.0 + 10 * i, labels={"version": version})
                for arm, version in ((Arm.BASELINE, "v1"), (Arm.CANDIDATE, '"} or vector(1)'))
            ),
            metrics=METRICS,
        )
        for i in intervals
    ]


def test_every_kind_has_a_case_here() -> None:
    """The table and this file name the same kinds, and each knows its own."""
    assert set(WORKS) == set(SOURCES)
    assert all(source.kind == kind for kind, source in SOURCES.items())


@pytest.mark.parametrize("kind", SOURCES)
def test_options_are_described_frozen_and_closed(kind: str) -> None:
    """Every key has a sentence; unknown keys are refused; nothing changes afterwards."""
    options = SOURCES[kind].Options
    assert all(field.description for field in options.model_fields.values())
    assert options.model_config.get("frozen") is True
    with pytest.raises(ValidationError, match="Extra inputs"):
        options.model_validate({**WORKS[kind], "surprise": 1})


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_has_a_rhythm(kind: str) -> None:
    """A step and a settle delay for watches that name none."""
    assert SOURCES[kind].default_step_s > 0
    assert SOURCES[kind].default_settle_s >= 0


@pytest.mark.parametrize("kind", SOURCES)
def test_start_and_close_may_be_called_again(build: Build, kind: str) -> None:
    """In any order a daemon can come to."""
    source = build(kind)
    source.close()
    source.start()
    source.start()
    source.close()
    source.close()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(
    "fault",
    [
        Answer(status=500),
        Answer(body=b"<html>log in</html>\n"),
        Answer(cut=True),
        Answer(hang=True),
        Answer(body=b"[" * 50_000 + b"\n"),
    ],
    ids=["error", "html", "cut", "hang", "deep"],
)
def test_a_fault_outside_is_an_answer_with_a_status(build: Build, server: Receiver, kind: str, fault: Answer) -> None:
    """One answer per look, never an exception, never a cell made of nothing; and a sentence that says why."""
    server.otherwise = lambda _: fault
    source = build(kind)
    source.start()
    answers = source.fetch(looks(0, 1, -1), deadline_s=0.4)
    assert len(answers) == 3
    if kind in ASKS_NOBODY:
        return
    for answer in answers:
        assert not answer.cells
        assert answer.facts.status in SourceStatus
        assert answer.facts.detail


@pytest.mark.parametrize("kind", SOURCES)
def test_nothing_asked_is_nothing_answered(build: Build, kind: str) -> None:
    """An empty batch is fine."""
    source = build(kind)
    source.start()
    assert source.fetch([], deadline_s=0.2) == []


@pytest.mark.parametrize("kind", SOURCES)
def test_every_column_is_as_long_as_the_others(build: Build, kind: str) -> None:
    """Cells are columns, and each kind that needs no server has some here."""
    source = build(kind)
    source.start()
    [answer] = source.fetch(looks(0), deadline_s=0.4)
    for cells in answer.cells.values():
        assert len({len(getattr(cells, column)) for column in Cells.__slots__}) == 1
    assert bool(answer.cells) == (kind in ASKS_NOBODY)
