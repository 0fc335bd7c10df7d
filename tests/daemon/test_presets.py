"""Presets against pages that their programs printed, and how a service uses them."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from watchdog.app import load_config
from watchdog.config import Config
from watchdog.config.metrics import ROLES, MetricConfig
from watchdog.errors import ConfigError
from watchdog.presets import Preset, names, preset
from watchdog.selector import Selector, parse_selector
from watchdog.sources.page import parse

SAMPLES = Path(__file__).parents[1] / "presets"
OF_OTHERS = {  # presets whose series stand on pages of others, and templates with what init would fill in
    "process": ("go-promhttp", "node-express", "python-fastapi"),
    "process-cpu": ("go-promhttp", "node-express", "python-fastapi"),
    "business": ("by-convention",),
    "otel-http-native": ("otel-http",),  # a page cannot show native histograms; `make e2e-current` has real ones
    "otel-rpc-native": ("otel-rpc",),
}
FILLED = {
    "by-convention": {
        "requests": "shop_requests_total",
        "status": "code",
        "failed": "5..",
        "duration": "shop_request_duration_seconds",
    },
    "business": {"events": "shop_orders_total", "exposure": "shop_requests_total"},
}
CASES = [(name, sample) for name in names() for sample in OF_OTHERS.get(name, (name,))]
COUNTED = {"bad", "total", "events", "exposure"}
ALONE = re.compile(r"([a-z_]+)(?:\{([^}]*)\})?")  # series within an expression


def page(sample: str) -> str:
    return (SAMPLES / f"{sample}.txt").read_text()


def tables(name: str) -> list[MetricConfig]:
    found = preset(name)
    return [MetricConfig.model_validate(dict(table)) for table in found.filled(FILLED.get(name, {}))]


def types(text: str) -> dict[str, str]:
    """The type of every sample name on a page, by its TYPE lines."""
    declared = dict(re.findall(r"^# TYPE (\S+) (\S+)", text, re.M))
    found = {}
    for name, _ in parse(text):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        found[name] = declared.get(name) or declared.get(base, "unknown")
    return found


def series_of(text: str, selector: Selector) -> list[dict[str, str]]:
    return [dict(labels) for name, labels in parse(text) if name == selector.name and selector.matches(dict(labels))]


def expected_selectors(metric: MetricConfig) -> list[tuple[str, Selector]]:
    """Each series a metric asks for with its role; expressions are taken apart."""
    if metric.promql is None:
        return [(key, parse_selector(getattr(metric, key))) for key in ROLES[metric.kind]]
    plain = re.sub(r"\[[^\]]*\]|\b(?:by|on) \([^)]*\)", "", metric.promql).replace("$arm", "")
    words = [(name, inner) for name, inner in ALONE.findall(plain) if "_" in name or name == "up"]
    return [("level", parse_selector(f"{name}{{{inner}}}" if inner else name)) for name, inner in words]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_every_selector_finds_its_series(name: str, sample: str) -> None:
    """On a page of the program: the series are there, with the labels that are used; counters are counters."""
    text = page(sample)
    kinds = types(text)
    for metric in tables(name):
        found = expected_selectors(metric)
        assert found
        for role, selector in found:
            wanted = selector.with_suffix("_bucket") if role == "histogram" else selector
            if metric.native and role != "histogram":  # what the classic one calls its count
                wanted = selector.with_suffix("_count")
            series = series_of(text, wanted)
            assert series, f"{name}: {metric.name}: nothing matches {wanted.render()}"
            if role == "histogram":
                assert kinds[wanted.name] == "histogram"
                assert {"+Inf", *[one["le"] for one in series]} == {one["le"] for one in series}
            elif role in COUNTED:
                assert kinds[wanted.name] in {"counter", "histogram"}
                assert wanted.name.endswith("_count") == (kinds[wanted.name] == "histogram")
            elif role == "gauge":
                assert kinds[wanted.name] == "gauge"


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_the_fingerprint_is_on_the_page(name: str, sample: str) -> None:
    """A preset is recognised by names and labels that the program prints."""
    text = page(sample)
    for mark in preset(name).fingerprint:
        on_page = f"{mark.name}_count" if name.endswith("-native") else mark.name
        found = [dict(labels) for series, labels in parse(text) if series == on_page]
        assert found
        assert any(mark.labels <= one.keys() for one in found), f"{mark.name} lacks {mark.labels}"


def test_no_fingerprint_matches_the_page_of_another_program() -> None:
    """Names that several programs use are told apart by their labels."""
    wrong = []
    for name in names():
        marks = preset(name).fingerprint
        for sample in sorted(path.stem for path in SAMPLES.glob("*.txt")):
            labels: dict[str, list[set[str]]] = {}
            for series, own in parse(page(sample)):
                labels.setdefault(series, []).append({key for key, _ in own})
            hit = marks and all(any(m.labels <= one for one in labels.get(m.name, [])) for m in marks)
            if hit and (name, sample) not in CASES:
                wrong.append((name, sample))
    assert wrong == []


@pytest.mark.parametrize("sample", sorted(path.stem for path in SAMPLES.glob("*.txt")))
def test_a_sample_says_where_it_comes_from(sample: str) -> None:
    """Its first line names the program and version that printed it, or what it follows; it is a page to Prometheus."""
    first = page(sample).splitlines()[0]
    assert re.match(r"# (printed by .*\d|printed by this project|follows )", first)
    assert list(text_string_to_metric_families(page(sample)))


@pytest.mark.parametrize("name", names())
def test_a_preset_says_where_the_version_is(name: str) -> None:
    """Its own label, or that the target's is meant; a join over other series names theirs."""
    found = preset(name)
    assert found.version_label or "version" in found.note or name == "business"
    for table in found.metrics:
        if " on (" in str(table.get("promql", "")):
            assert re.search(r"(kube_pod_labels|up)\{\$arm\}", table["promql"])


@pytest.mark.parametrize("name", names())
def test_a_preset_says_what_it_is(name: str) -> None:
    """A description, a source to follow, and names of metrics that are told apart; a template explains its places."""
    found = preset(name)
    assert found.description
    assert found.follows
    assert len({table["name"] for table in found.metrics}) == len(found.metrics)
    places = set(re.findall(r"<([a-z]+)>", found.tables))
    assert places == set(found.parameters)
    assert bool(found.fingerprint) != found.is_template


# --- in a configuration -----------------------------------------------------------------------------------

HEAD = (
    '[sources.prometheus]\nkind = "prometheus"\nurl = "http://127.0.0.1:9090"\n[services.shop]\nsource = "prometheus"\n'
)


def loaded(folder: Path, text: str) -> Config:
    (folder / "config.toml").write_text(HEAD + text)
    return load_config(folder / "config.toml", {})


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [str(problem).removeprefix(f"{folder}/config.toml:") for problem in caught.value.problems]


def usable() -> list[Preset]:
    return [preset(name) for name in names() if not preset(name).is_template]


@pytest.mark.parametrize("found", usable(), ids=lambda found: found.name)
def test_a_service_may_use_each_preset_alone(found: Preset, tmp_path: Path) -> None:
    """Its metrics become the service's own, and its version label, unless the service says otherwise."""
    service = loaded(tmp_path, f'presets = ["{found.name}"]\n').services["shop"]
    assert [metric.spec.name for metric in service.metrics] == [table["name"] for table in found.metrics]
    assert service.version_label == (found.version_label or "version")
    said = loaded(tmp_path, f'presets = ["{found.name}"]\nversion_label = "release"\n').services["shop"]
    assert said.version_label == "release"


def test_a_table_of_the_service_replaces_its_namesake(tmp_path: Path) -> None:
    """Own tables come first, and win."""
    own = '[[services.shop.metrics]]\nname = "latency"\nkind = "latency"\nhistogram = "mine"\n'
    service = loaded(tmp_path, f'presets = ["go-promhttp", "process"]\n{own}').services["shop"]
    told = {metric.spec.name: metric for metric in service.metrics}
    assert list(told) == ["latency", "errors", "process memory", "open files"]
    assert told["latency"].series["histogram"].name == "mine"


def test_an_unknown_preset_is_told_with_the_known_ones(tmp_path: Path) -> None:
    """With its line, and which it was meant to be; nothing else is made of it."""
    (told,) = mistakes(tmp_path, 'presets = ["otel-htp"]\n')
    assert told.startswith("6: services.shop.presets.0: 'otel-htp' is not known; expected one of celery, envoy, ")
    assert told.endswith("did you mean 'otel-http'?")


def test_a_template_is_not_a_preset(tmp_path: Path) -> None:
    """It has places to fill in, so its tables are copied."""
    (told,) = mistakes(tmp_path, 'presets = ["business"]\n')
    assert "is a template; copy its tables from `deploy-watchdog presets business`" in told


def test_two_presets_may_not_bring_the_same_metric(tmp_path: Path) -> None:
    """The same errors counted twice would be two pieces of evidence."""
    told = mistakes(tmp_path, 'presets = ["go-promhttp", "linkerd"]\n')
    assert any("'go-promhttp' and 'linkerd' both bring 'errors'; leave one out" in one for one in told)
    own = "".join(
        f'[[services.shop.metrics]]\nname = "{name}"\nkind = "gauge"\ngauge = "g"\n' for name in ("errors", "latency")
    )
    assert len(loaded(tmp_path, f'presets = ["go-promhttp", "linkerd"]\n{own}').services["shop"].metrics) == 2


def test_presets_that_disagree_about_the_version_label_are_told(tmp_path: Path) -> None:
    """A service has one version label for all its metrics."""
    told = mistakes(tmp_path, 'presets = ["istio", "kubernetes-pod-labels"]\n')
    assert any("different labels (istio has 'destination_version', kubernetes-pod-labels has" in one for one in told)
    text = 'presets = ["istio", "kubernetes-pod-labels"]\nversion_label = "version"\n'
    assert loaded(tmp_path, text).services["shop"].version_label == "version"


@pytest.mark.parametrize("text", ["presets = 3\n", "presets = [3]\n", 'presets = ["process", "process"]\n'])
def test_presets_that_are_no_list_of_names_are_told(text: str, tmp_path: Path) -> None:
    """As every other mistake of the file, with its place."""
    assert all(": services.shop.presets" in one or ".metrics" in one for one in mistakes(tmp_path, text))
