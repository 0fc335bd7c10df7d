"""What `check` makes of a service's record, probes, sinks, clocks and wrong names: each finding with its remedy."""

import json
import math
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs

import pytest

from analysis.prepare import Cells
from analysis.result import Kind, MetricSpec
from tests.daemon.test_discovery import Pages, page, target
from tests.fakes import FakeSource, counts
from tests.receivers import Answer, Received, receiver
from watchdog.app import load_config, parts_of
from watchdog.cli.check_days import day_findings
from watchdog.cli.check_ends import probe_findings, sink_findings
from watchdog.cli.check_ratios import ratio_findings
from watchdog.cli.check_services import migration_findings, mode_findings
from watchdog.cli.check_sources import Seen, _clock_findings, _remedy, _rhythm_findings, _shown, source_findings
from watchdog.cli.findings import Finding
from watchdog.config import Config
from watchdog.model import LabelKind, Metric, State
from watchdog.ports import LookRequest, Tally
from watchdog.selector import Selector
from watchdog.sources.prometheus_catalogue import PrometheusCatalogue

CONFIG = """
[sources.prometheus]
kind = "prometheus"
url = "{url}"
[hooks.back]
kind = "command"
argv = ["true"]
probe_argv = ["sh", "-c", "exit $CODE"]
pass_env = ["CODE"]
[services.shop]
mode = "{mode}"
strategy = "{strategy}"
source = "prometheus"
rollback_hook = "back"
selector = { job = "mine" }
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'http_requests_total{code=~"5.."}'
total = "http_requests_total"
"""


def configured(folder: Path, *, more: str = "", **told: str) -> Config:
    text = CONFIG
    for key, value in {"url": "http://127.0.0.1:1", "mode": "auto", "strategy": "canary", **told}.items():
        text = text.replace(f"{{{key}}}", value)
    (folder / "config.toml").write_text(text + more)
    return load_config(folder / "config.toml", {})


def tally(count: int, label: LabelKind | None = None) -> Tally:
    return Tally(
        service="shop",
        mode="observe",
        day=1,
        state=State.PASSED,
        verdict="HEALTHY",
        label=label,
        budget=0.01,
        count=count,
    )


@pytest.mark.parametrize(
    ("rows", "more", "strategy", "level", "supported"),
    [
        ([], "", "canary", "warning", "notify"),
        ([tally(5)], "", "canary", "warning", "approve"),
        ([tally(20)], "", "canary", "ok", "auto"),
        ([tally(40), tally(1, LabelKind.FALSE_ALARM)], "", "canary", "warning", "notify"),
        ([tally(40)], "", "direct", "warning", "approve"),
        ([], "[judge]\nplacebo_rate = 0.009\n", "direct", "ok", "auto"),
        ([], "[judge]\nplacebo_rate = 0.03\n", "direct", "warning", "notify"),
    ],
)
def test_a_mode_must_be_earned(
    tmp_path: Path, rows: Sequence[Tally], more: str, strategy: str, level: str, supported: str
) -> None:
    """By deploys judged without a false alarm, or by a measured placebo rate within the budget."""
    config = configured(tmp_path, more=more, strategy=strategy)
    (found,) = mode_findings(config, frozenset({"shop"}), rows)
    assert (found.level, f"the evidence supports {supported} (" in found.message) == (level, True), found
    assert bool(found.remedy) == (level == "warning")


def test_what_brings_no_samples_has_earned_nothing(tmp_path: Path) -> None:
    """However good its record was."""
    (found,) = mode_findings(configured(tmp_path), frozenset(), [tally(100)])
    assert (found.level, found.remedy) == ("warning", "every metric must have samples")


@pytest.mark.parametrize(
    ("code", "level", "said"),
    [("0", "ok", "says applied"), ("3", "ok", "says not_applied"), ("1", "warning", "cannot tell whether v1 is live")],
)
def test_the_probe_is_asked_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, level: str, said: str
) -> None:
    """About going back to the version that is live, from one that never was."""
    monkeypatch.setenv("CODE", code)
    config = configured(tmp_path)
    (found,) = probe_findings(config, parts_of(config), {"shop": "v1"})
    assert (found.level, found.about) == (level, "hooks.back")
    assert said in found.message


def test_a_sink_that_nobody_listens_at_is_told(tmp_path: Path) -> None:
    """By host and port; a path may be a secret."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = taken.getsockname()[1]
        sink = f'[sinks.team]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/hidden"\n'
        (found,) = sink_findings(configured(tmp_path, more=sink))
    assert (found.level, found.about) == ("warning", "sinks.team")
    assert f"127.0.0.1:{port} cannot be reached" in found.message
    assert "hidden" not in found.line()
    with receiver() as server:
        sink = f'[sinks.team]\nkind = "webhook"\nurl = "{server.url}/hidden"\n'
        (found,) = sink_findings(configured(tmp_path, more=sink))
        assert (found.level, server.received) == ("ok", [])


def test_migrations_are_said_to_be_held(tmp_path: Path) -> None:
    """Before somebody ships one."""
    (found,) = migration_findings(configured(tmp_path))
    assert "contract, irreversible, unknown is held for a human when it is worse, not rolled back" in found.message


class Skewed(Pages):
    """A catalogue whose server's clock is wrong."""

    def __init__(self, ahead_s: float | None) -> None:
        super().__init__((page("go-promhttp"), target()), times=(0.0, 15.0, 30.0))
        self.ahead_s = ahead_s

    def clock_ahead_s(self) -> float | None:
        return self.ahead_s


@pytest.mark.parametrize(("ahead_s", "levels"), [(0.4, ["ok"]), (-7.0, ["warning"]), (90.0, ["problem"]), (None, [])])
def test_clocks_that_disagree_are_told(ahead_s: float | None, levels: list[str]) -> None:
    """Intervals would be asked for at the wrong time."""
    assert [found.level for found in _clock_findings("sources.prometheus", Skewed(ahead_s))] == levels


def test_the_clock_is_read_from_the_answer(tmp_path: Path) -> None:
    """From HTTP's Date, which is cut to whole seconds: agreement is never taken for skew."""
    with receiver() as server:
        body = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'
        server.otherwise = lambda _: Answer(body=body)
        source = parts_of(configured(tmp_path, url=server.url)).sources["prometheus"]
        catalogue = source.catalogue  # type: ignore[attr-defined]
        assert isinstance(catalogue, PrometheusCatalogue)
        assert catalogue.clock_ahead_s() == 0.0
        source.close()


def test_of_many_buckets_one_series_is_asked_when_it_was_sampled(tmp_path: Path) -> None:
    """All of a busy instance's would be more than an answer may be."""
    target_labels = {"job": "mine", "instance": "a"}
    one = {**target_labels, "le": "+Inf", "route": "/a"}

    def answered(request: Received) -> Answer:
        query = request.query.get("query") or parse_qs(request.body.decode())["query"][0]
        counted = "count by" in query, "topk(1, count_over_time(" in query
        if any(counted):
            found = [{"metric": target_labels if counted[0] else one, "value": [1700000000, "40"]}]
            return vector("vector", found)
        series = 1 if 'route="/a"' in query and 'le="+Inf"' in query else 6000
        values = [[1700000000.123 + 15 * at, "123456"] for at in range(40)]
        return vector("matrix", series * [{"metric": one, "values": values}])

    with receiver() as server:
        server.otherwise = answered
        source = parts_of(configured(tmp_path, url=server.url)).sources["prometheus"]
        times = source.catalogue.sampled_at(Selector("http_request_duration_seconds_bucket"))  # type: ignore[attr-defined]
        source.close()
    assert (len(times), times[1] - times[0]) == (40, 15.0)


def vector(kind: str, result: object) -> Answer:
    return Answer(body=json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode())


def test_looks_that_are_quicker_than_samples_are_told(tmp_path: Path) -> None:
    """With the shortest look that sees something new every time."""
    service = configured(tmp_path).services["shop"]
    (quick,) = _rhythm_findings("services.shop.look_s", service, 20.0, Skewed(None))
    assert (quick.level, quick.remedy) == ("warning", "set look_s = 30, or scrape more often")
    (slow,) = _rhythm_findings("services.shop.look_s", service, 30.0, Skewed(None))
    assert slow.level == "ok"


def test_wrong_names_are_told_with_the_nearest(tmp_path: Path) -> None:
    """Metrics by the names there are, label values by those that the label has."""
    pages = Pages((page("go-promhttp"), target()))
    (metric,) = configured(tmp_path).services["shop"].metrics
    other = configured(tmp_path, more="", strategy="canary")
    wrong = other.services["shop"].model_copy(update={"selector": {"job": "mien"}})
    assert 'http_requests_total has no job="mien"; it has mine' in _remedy(metric, wrong, pages)
    text = (tmp_path / "config.toml").read_text().replace("http_requests_total", "http_request_total")
    (tmp_path / "config.toml").write_text(text)
    service = load_config(tmp_path / "config.toml", {}).services["shop"]
    told = _remedy(service.metrics[0], service, pages)
    assert told.startswith("there is no http_request_total; the nearest: http_requests_total")


def test_versions_that_cannot_be_told_apart_are_a_warning(tmp_path: Path) -> None:
    """With the strategy that needs no label as the way out."""
    with receiver() as server:
        series = '{"metric": {"job": "mine", "instance": "a"}, "value": [1, "10"]}'
        body = '{"status": "success", "data": {"resultType": "vector", "result": [%s]}}' % series  # noqa: UP031
        server.otherwise = lambda _: Answer(body=body.encode())
        config = configured(tmp_path, url=server.url)
        found = list(source_findings(config, parts_of(config), Seen()))
    (told,) = [one for one in found if one.about == "services.shop.version_label"]
    assert isinstance(told, Finding)
    assert (told.level, "set strategy" in told.remedy) == ("warning", True)


@pytest.mark.parametrize(("known", "levels"), [(b'["job", "version"]', []), (b"[]", ["problem"])])
def test_a_service_that_was_there_lately_is_only_asleep(tmp_path: Path, known: bytes, levels: list[str]) -> None:
    """No traffic in the last interval is a warning of each metric; series that never were are a mistake."""
    nothing = b'{"resultType": "vector", "result": []}'
    with receiver() as server:
        server.otherwise = lambda asked: Answer(
            body=b'{"status": "success", "data": %s}' % (known if "labels" in asked.path else nothing)
        )
        config = configured(tmp_path, url=server.url)
        found = list(source_findings(config, parts_of(config), Seen()))
    assert [one.level for one in found if one.about == "services.shop.metrics"] == levels
    assert [one.level for one in found if one.about == "services.shop.metrics.errors"] == ["warning"]


def test_one_sample_is_not_some(tmp_path: Path) -> None:
    """What `check` says of a metric counts in words: 1 sample, 2 samples."""
    metric = configured(tmp_path).services["shop"].metrics[0]
    one = Cells(arm=("",), replica=("a",), stratum=("v1",), le=(math.nan,), value=(1.0,), total=(10.0,))
    assert _shown(metric, one, 5.0).startswith("1 sample in the last 5 s; v1: 1 instance, ")
    doubled = Cells(**{name: 2 * getattr(one, name) for name in Cells.__dataclass_fields__})
    assert _shown(metric, doubled, 5.0).startswith("2 samples in the last 5 s; v1: 1 instance, ")


@pytest.mark.parametrize(
    ("bad", "there", "warned"),
    [
        ('{code=~"5.."}', ("success", "error"), True),
        ('{code=~"5.."}', ("OK", "Internal"), True),
        ('{code=~"5.."}', ("2", "5"), True),
        ('{code="error"}', ("200", "503"), True),
        ('{code=~"Internal|Unavailable"}', ("success",), True),
        ('{code=~"5.."}', ("200", "404"), False),
        ('{code=~"5.."}', ("2xx",), False),
        ('{code=~"5..|error"}', ("success",), False),
        ('{code=~"Internal|Unavailable"}', ("OK",), False),
        ('{code="error"}', ("success",), False),
        ('{code="sold_out"}', ("sold",), False),
        ('{code!~"2.."}', ("200",), False),
        ('{code=~"5.."}', ("success", "503"), False),
        ('{code=~"5.."}', (), False),
    ],
)
def test_errors_that_can_never_be_seen_are_a_warning(
    tmp_path: Path, bad: str, there: tuple[str, ...], warned: bool
) -> None:
    """Where the label says another kind of thing than the condition wants; that there was no error yet is none."""
    config = configured(tmp_path)
    text = (tmp_path / "config.toml").read_text().replace('{code=~"5.."}', bad)
    (tmp_path / "config.toml").write_text(text)
    service = load_config(tmp_path / "config.toml", {}).services["shop"]
    lines = "".join(f'http_requests_total{{code="{value}"}} 3\n' for value in there) or "http_requests_total 3\n"
    pages = Pages((f"# TYPE http_requests_total counter\n{lines}", target()))
    found = list(ratio_findings("services.shop.metrics.errors", service.metrics[0], service, pages))
    assert [one.level for one in found] == ["warning"] * warned
    assert all("no error would ever be seen" in one.message and there[0] in one.message for one in found)
    assert list(ratio_findings("x", config.services["shop"].metrics[0], service, None)) == []


@pytest.mark.parametrize(
    ("unit", "level", "said"),
    [
        ("B", 50_040_000.0, "50 MB"),
        ("B", 2_147_483_648.0, "2.15 GB"),
        ("cores", 0.000015, "0.000015 cores"),
        ("", 3.0, "3"),
    ],
)
def test_levels_are_told_as_people_say_them(unit: str, level: float, said: str) -> None:
    """No exponents, and bytes by the million."""
    metric = Metric(spec=MetricSpec(name="m", kind=Kind.GAUGE, unit=unit), series={"level": Selector("m")})
    one = Cells(arm=("",), replica=("a",), stratum=("v1",), le=(math.nan,), value=(level,), total=(math.nan,))
    assert _shown(metric, one, 5.0) == f"1 sample in the last 5 s; v1: 1 instance, {said}"


def test_a_level_that_is_no_number_is_left_out() -> None:
    """Numbers that are not known are never printed as nan."""
    metric = Metric(spec=MetricSpec(name="m", kind=Kind.GAUGE, unit="B"), series={"level": Selector("m")})
    one = Cells(arm=("",), replica=("a",), stratum=("v1",), le=(math.nan,), value=(math.nan,), total=(math.nan,))
    assert _shown(metric, one, 5.0) == "1 sample in the last 5 s; v1: 1 instance"


class Keeps(FakeSource):
    """A source with a past of some days."""

    kind: ClassVar[str] = "prometheus"


def keeping(days: int) -> Keeps:
    def answer(request: LookRequest) -> dict[str, Cells]:
        return {"errors": counts([("control", "a", 1.0, 100.0)])} if -request.interval <= days else {}

    return Keeps(answer)


@pytest.mark.parametrize(
    ("strategy", "days", "more", "told"),
    [
        ("direct", 3, "", ("ok", "this hour of 3 of 3 earlier days")),
        ("blue_green", 2, "", ("ok", "this hour of 2 of 3 earlier days")),
        ("direct", 1, "", ("warning", "1 of 3 earlier days, too few")),
        ("canary", 3, "[services.shop.bake]\n", ("ok", "this hour of 3 of 3 earlier days")),
        ("canary", 3, "", None),
    ],
)
def test_a_past_too_short_for_earlier_days_is_told(
    tmp_path: Path, strategy: str, days: int, more: str, told: tuple[str, str] | None
) -> None:
    """Where a deploy is compared with the time before: else nobody asks for them."""
    service = configured(tmp_path, more=more, strategy=strategy).services["shop"]
    found = list(day_findings("shop", service, keeping(days), now=1.7e9, deadline_s=5.0))
    assert [(one.level, told is not None and told[1] in one.message) for one in found] == (
        [(told[0], True)] if told is not None else []
    )
    assert list(day_findings("shop", service, FakeSource(keeping(3).answer), now=1.7e9, deadline_s=5.0)) == []
