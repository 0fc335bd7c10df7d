"""What the daemon says about itself: metrics by Prometheus' rules, JSON logs and spans by OpenTelemetry's names."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import servers
from tests.receivers import Answer, receiver
from tests.samples import a_watch
from tests.spans import in_memory
from watchdog import __version__
from watchdog.app import build, load_config
from watchdog.cli.logs import JsonLines
from watchdog.errors import ConfigError
from watchdog.model import State
from watchdog.telemetry import Telemetry
from watchdog.tracing import NO_SPANS, of_watch

ROOT = Path(__file__).parents[2]
CONFIG = """
[daemon]
ledger = "{ledger}"
traces = "otlp"
"""


def used() -> Telemetry:
    """Every metric with a value."""
    told = Telemetry()
    told.tick(0.1, 0.2)
    told.verdict("HEALTHY")
    told.action("back", "applied")
    told.source("DOWN", 1.0)
    told.watches({"WATCHING": 1})
    told.paused(paused=True)
    told.delivery("log", "delivered")
    told.webhook(201)
    told.intake("github", 201)
    return told


# --- metrics --------------------------------------------------------------------------------------------------


def test_metrics_follow_prometheus_naming_rules() -> None:
    """promtool finds nothing to say about /metrics."""
    checked = subprocess.run(
        [servers.program("promtool"), "check", "metrics"], input=used().render(), capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_promtool_would_find_a_bad_name() -> None:
    """The check above can fail."""
    bad = b"# HELP x_ms A time.\n# TYPE x_ms counter\nx_ms 1\n"
    checked = subprocess.run(
        [servers.program("promtool"), "check", "metrics"], input=bad, capture_output=True, timeout=60, check=False
    )
    assert checked.returncode != 0


def test_every_metric_has_our_prefix_and_help() -> None:
    """And nothing but ours is in the registry."""
    for family in used().registry.collect():
        assert family.name.startswith("deploy_watchdog_")
        assert family.documentation.endswith(".")


def test_the_documentation_lists_every_metric() -> None:
    """docs/telemetry.md names what there is, and nothing else."""
    ours = {family.name + ("_total" if family.type == "counter" else "") for family in used().registry.collect()}
    told = set(re.findall(r"`(deploy_watchdog_[a-z_]+)`", (ROOT / "docs" / "telemetry.md").read_text()))
    assert told - {"deploy_watchdog_"} == ours


# --- logs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose lines are JSON."""
    text, logger = io.StringIO(), logging.getLogger("watchdog.test_own_telemetry")
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger, text
    logger.removeHandler(handler)


def test_a_line_about_a_deploy_says_which(logged: tuple[logging.Logger, io.StringIO]) -> None:
    """Names of OpenTelemetry's log data model, resource and deployment attributes."""
    logger, text = logged
    logger.info("all is %s", "well", extra={"attributes": of_watch(a_watch())})
    line = json.loads(text.getvalue())
    assert (line["severity_text"], line["severity_number"], line["body"]) == ("INFO", 9, "all is well")
    assert (line["service.name"], line["service.version"]) == ("deploy-watchdog", __version__)
    assert (line["deployment.id"], line["deployment.name"]) == ("d1", "shop v2")
    assert line["deployment.environment.name"] == "production"
    assert "deployment.status" not in line


def test_an_exception_is_told_by_its_attributes(logged: tuple[logging.Logger, io.StringIO]) -> None:
    """Type, message and stack; still one line."""
    logger, text = logged
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        logger.exception("it broke")
    assert text.getvalue().count("\n") == 1
    line = json.loads(text.getvalue())
    assert (line["exception.type"], line["exception.message"]) == ("ValueError", "no\nsuch thing")
    assert "Traceback" in line["exception.stacktrace"]


@pytest.mark.parametrize(
    ("state", "status"), [(State.PASSED, "succeeded"), (State.ROLLED_BACK, "failed"), (State.INCONCLUSIVE, None)]
)
def test_the_status_of_a_deployment_is_told_once_it_has_one(state: State, status: str | None) -> None:
    """OpenTelemetry knows succeeded and failed; what nobody can tell is neither."""
    assert of_watch(replace(a_watch(), state=state)).get("deployment.status") == status


def test_names_are_those_of_the_semantic_conventions() -> None:
    """Spelled as the published package spells them."""
    incubating = pytest.importorskip("opentelemetry.semconv._incubating.attributes.deployment_attributes")
    published = {value for name, value in vars(incubating).items() if name.isupper()}
    ours = {name for name in of_watch(replace(a_watch(), state=State.PASSED)) if name.startswith("deployment.")}
    assert ours <= published


# --- spans ----------------------------------------------------------------------------------------------------


def test_without_configuration_opentelemetry_is_not_loaded(tmp_path: Path) -> None:
    """Off is the default, and costs nothing."""
    program = (
        "import sys; from pathlib import Path; from watchdog.app import build, load_config\n"
        f"app = build(load_config(Path({str(tmp_path / 'config.toml')!r}), {{}}), env={{}})\n"
        "print([name for name in ('opentelemetry.sdk', 'watchdog.otel') if name in sys.modules])"
    )
    (tmp_path / "config.toml").write_text(f'[daemon]\nledger = "{tmp_path}/w.db"\n')
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wanted_without_the_extra_is_a_mistake_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at the start, before anything is opened."""
    monkeypatch.setitem(sys.modules, "watchdog.otel", None)
    (tmp_path / "config.toml").write_text(CONFIG.format(ledger=tmp_path / "w.db"))
    with pytest.raises(ConfigError, match=r"deploy-watchdog\[otel\]"):
        build(load_config(tmp_path / "config.toml", {}), env={})
    assert not (tmp_path / "w.db").exists()


def test_no_spans_are_no_spans() -> None:
    """The stand-in takes everything."""
    with NO_SPANS.span("look", "d1", {}, since=1.0) as span:
        span.set({"a": 1})
    NO_SPANS.close()


def test_the_clock_is_the_daemons() -> None:
    """A span begins and ends by the port, not by the machine."""
    exporter, spans, clock = in_memory()
    with spans.span("look", "d1", {"a": "b"}, since=clock.now() - 2):
        clock.advance(1)
    (drawn,) = exporter.get_finished_spans()
    assert drawn.start_time is not None
    assert drawn.end_time is not None
    assert (drawn.end_time - drawn.start_time) / 1e9 == pytest.approx(3, abs=1e-3)
    assert dict(drawn.attributes or {}) == {"a": "b"}
    assert drawn.resource.attributes["service.name"] == "deploy-watchdog"


def test_all_of_a_deploy_is_one_trace() -> None:
    """Over threads, restarts and replicas; of another deploy it is another one."""
    traces = set()
    for _ in range(2):
        exporter, spans, _clock = in_memory()
        with spans.span("look", "d1", {}), spans.span("decision", "d1", {}):
            pass
        with spans.span("hook", "d2", {}):
            pass
        decision, look, hook = exporter.get_finished_spans()
        assert decision.parent is not None
        assert decision.parent.span_id == look.context.span_id
        assert decision.context.trace_id == look.context.trace_id != hook.context.trace_id
        traces.add((look.context.trace_id, hook.context.trace_id))
    assert len(traces) == 1


def test_what_breaks_inside_is_noted_and_goes_on() -> None:
    """The span carries the exception; the exception is not swallowed."""
    exporter, spans, _ = in_memory()
    with pytest.raises(ValueError, match="broke"), spans.span("hook", "d1", {}):
        raise ValueError("it broke")
    (drawn,) = exporter.get_finished_spans()
    assert not drawn.status.is_ok
    assert drawn.events[0].name == "exception"


def test_a_log_line_inside_a_span_names_it(logged: tuple[logging.Logger, io.StringIO]) -> None:
    """trace_id and span_id as OpenTelemetry writes them."""
    exporter, spans, _ = in_memory()
    logger, text = logged
    with spans.span("look", "d1", {}):
        logger.info("inside")
    (drawn,) = exporter.get_finished_spans()
    line = json.loads(text.getvalue())
    assert line["trace_id"] == f"{drawn.context.trace_id:032x}"
    assert line["span_id"] == f"{drawn.context.span_id:016x}"


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """By OTLP over HTTP, where OpenTelemetry's own variable says; what is drawn last arrives before the end."""
    protocol = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    from watchdog.clock import SystemClock
    from watchdog.otel import otlp_spans

    with receiver() as collector:
        collector.otherwise = lambda request: Answer(200, b"")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        spans = otlp_spans(SystemClock(), "host:1")
        with spans.span("look", "d1", {"deployment.id": "d1"}):
            pass
        spans.close()
    (told,) = collector.received
    assert told.path == "/v1/traces"
    sent = protocol.ExportTraceServiceRequest.FromString(told.body).resource_spans[0]
    assert [span.name for span in sent.scope_spans[0].spans] == ["look"]
    about = {attribute.key: attribute.value.string_value for attribute in sent.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("deploy-watchdog", "host:1")


def test_a_collector_that_is_down_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are dropped; the daemon stops within seconds."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is missing")
    from watchdog.clock import SystemClock
    from watchdog.otel import otlp_spans

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{servers.free_port()}")
    clock = SystemClock()
    spans = otlp_spans(clock, "test")
    begun = clock.monotonic()
    for _ in range(100):
        with spans.span("look", "d1", {}):
            pass
    drawn_s = clock.monotonic() - begun
    spans.close()
    assert drawn_s < 2
    assert clock.monotonic() - begun < 8
