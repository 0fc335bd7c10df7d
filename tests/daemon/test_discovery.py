"""What `init` makes of names: presets against pages of their programs, services, versions, and what nearly matched."""

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.receivers import Answer, receiver
from watchdog.app import load_config
from watchdog.catalogue import LabelSet
from watchdog.cli import command_line
from watchdog.discovered import Discovery
from watchdog.discovery import discover, nearest_services
from watchdog.errors import SourceError
from watchdog.first_config import first_config, look_s, toml
from watchdog.presets import names, preset
from watchdog.selector import Selector
from watchdog.sources.page import parse

SAMPLES = Path(__file__).parents[1] / "presets"
NAMELESS = {"kubernetes", "traefik"}  # no label of theirs is a service
JOINED = {"process", "process-cpu"}  # no service by themselves


class Pages:
    """A catalogue of pages as a Prometheus would store them: with job and instance."""

    def __init__(self, *pages: tuple[str, Mapping[str, str]], times: Sequence[float] = ()) -> None:
        self.times = list(times)
        self.series: list[tuple[str, dict[str, str]]] = []
        for text, target in pages:
            self.series += [(name, {**dict(labels), **target}) for name, labels in parse(text)]

    def names(self) -> list[str]:
        return sorted({name for name, _ in self.series})

    def labels(self, selector: Selector) -> list[str]:
        return sorted({label for labels in self._of(selector) for label in labels})

    def label_sets(self, selector: Selector, by: Sequence[str]) -> list[LabelSet]:
        found = Counter(tuple(labels.get(name, "") for name in by) for labels in self._of(selector))
        return [LabelSet(dict(zip(by, values, strict=True)), n) for values, n in found.most_common()]

    def sampled_at(self, selector: Selector) -> list[float]:
        return self.times

    def clock_ahead_s(self) -> float | None:
        return None

    def _of(self, selector: Selector) -> list[dict[str, str]]:
        return [labels for name, labels in self.series if name == selector.name and selector.matches(labels)]


def page(sample: str) -> str:
    return (SAMPLES / f"{sample}.txt").read_text()


def stored(sample: str) -> str:
    """A page as Prometheus stores it: exponential histograms, which no page shows, under their plain names."""
    if not sample.endswith("-native"):
        return page(sample)
    lines = page(sample.removesuffix("-native")).splitlines()
    counts = (line.replace("_seconds_count", "_seconds") for line in lines if "_seconds_count" in line)
    return "".join(f"{line}\n" for line in counts)


def target(**labels: str) -> dict[str, str]:
    return {"job": "mine", "instance": "10.0.0.1:80", **labels}


def written(found: Discovery, folder: Path) -> Path:
    text = first_config({"url": "http://127.0.0.1:9090"}, found.services, environment="production", written_for="it")
    (folder / "config.toml").write_text(text)
    return folder / "config.toml"


@pytest.mark.parametrize("name", [name for name in names() if not preset(name).is_template])
def test_every_preset_is_found_on_the_page_of_its_program(name: str, tmp_path: Path) -> None:
    """And what is written for it is a configuration that uses it, or says why it tells no service."""
    sample = "go-promhttp" if name in JOINED else name
    found = discover(Pages((stored(sample), target(version="v1"))))
    matching = [one for one in found.services if name in [pack.preset.name for pack in one.packs]]
    if name in NAMELESS:
        assert name in found.nameless or matching == []
        return
    if name == "process-cpu":
        assert [one.besides for one in found.services] == [("process-cpu",)]
        return
    assert matching
    config = load_config(written(found, tmp_path), {})
    service = config.services[matching[0].name]
    assert set(preset(name).metrics[0].values()) & {metric.spec.name for metric in service.metrics}
    own, marks = preset(name).version_label, {mark.name for mark in preset(name).fingerprint}
    carried = any(own in dict(labels) for series, labels in parse(stored(sample)) if series in marks)
    assert service.version_label == (own if carried else "version")  # the target's
    assert service.mode == "observe"


def test_versions_without_a_label_are_compared_with_the_time_before(tmp_path: Path) -> None:
    """And the file says how to do better, with the labels that there are."""
    found = discover(Pages((page("go-promhttp"), target())))
    service = load_config(written(found, tmp_path), {}).services["mine"]
    assert service.strategy == "direct"
    assert "# No label of its series tells versions apart" in (tmp_path / "config.toml").read_text()


def test_a_canary_behind_ingress_nginx_is_not_looked_for_under_its_service(tmp_path: Path) -> None:
    """It counts under the primary's; with the label that the preset's note makes of `canary` it is a version."""
    plain = discover(Pages((page("ingress-nginx"), target())))
    assert load_config(written(plain, tmp_path), {}).services["shop"].strategy == "direct"
    tracks = {'{canary="",': '{track="stable",', '{canary="default-shop-canary-80",': '{track="canary",canary="x",'}
    text = page("ingress-nginx")
    for before, after in tracks.items():
        text = text.replace(before, after)
    (shop,) = discover(Pages((text, target()))).services
    assert (shop.version_label, sorted(shop.versions)) == ("track", ["canary", "stable"])


def test_resources_that_do_not_say_the_version_are_left_out_and_told(tmp_path: Path) -> None:
    """Where the program gives the version to its own metrics and the target has none: `check` is content at once."""
    bare = "".join(f"{line}\n" for line in page("go-promhttp").splitlines() if line.startswith("process_"))
    found = discover(Pages((page("by-convention"), target()), (bare, target())))
    (mine,) = found.services
    assert (mine.version_label, mine.unversioned) == ("version", ("process",))
    service = load_config(written(found, tmp_path), {}).services["mine"]
    assert "process memory" not in {metric.spec.name for metric in service.metrics}
    assert "cannot be told apart: process." in (tmp_path / "config.toml").read_text().replace("\n# ", " ")


def test_counters_of_what_sells_are_taken_per_request() -> None:
    """Where they carry the service's labels and its versions; a counter of another job is none of its business."""
    shop = page("by-convention")
    orders = "# TYPE other_orders_total counter\nother_orders_total 3\n"
    found = discover(Pages((shop, target(version="v2")), (orders, {"job": "else", "instance": "x"})))
    (service,) = found.services
    assert [pack.preset.name for pack in service.packs] == ["by-convention", "business"]
    (business,) = (table for pack in service.packs for table in pack.tables if pack.preset.name == "business")
    assert (business["events"], business["exposure"]) == ("shop_orders_total", "shop_requests_total")


@pytest.mark.parametrize(
    ("name", "sells"),
    [
        ("shop_orders_total", True),
        ("shop_orders_placed_total", True),
        ("shop_payments_succeeded_total", True),
        ("shop_signups_total", True),
        ("shop_payments_failed_total", False),
        ("shop_orders_cancelled_total", False),
        ("shop_checkouts_abandoned_total", False),
        ("shop_signups_rejected_total", False),
        ("shop_failed_payments_total", False),
        ("shop_orders_retries_total", False),
        ("shop_order_errors_orders_total", False),
        ("shop_payments_whatever_total", False),
    ],
)
def test_fewer_failures_are_never_taken_for_worse(name: str, sells: bool) -> None:
    """Only what is good or neutral by its name is written as "fewer is worse"; the rest is left to people."""
    counter = f"# TYPE {name} counter\n{name} 3\n"
    shop = "".join(f"{line}\n" for line in page("by-convention").splitlines() if "orders" not in line)
    (service,) = discover(Pages((shop + counter, target(version="v2")))).services
    assert ("business" in [pack.preset.name for pack in service.packs]) == sells


def test_what_nearly_matches_is_told_with_the_nearest_names() -> None:
    """The name that is missing, and those that look like it; what is not there at all is not told."""
    text = page("otel-http").replace("http_server_request_duration_seconds", "http_server_requests_duration_seconds")
    found = discover(Pages((text, target())))
    assert found.services == ()
    near = {one.preset: one for one in found.near}
    assert near["otel-http"].missing == "http_server_request_duration_seconds_bucket"
    assert "http_server_requests_duration_seconds_bucket" in near["otel-http"].nearest
    assert "istio" not in near


def test_a_label_that_lacks_is_told() -> None:
    """The series are there, and not what they are told apart by."""
    text = "# TYPE http_requests_total counter\nhttp_requests_total 1\n"
    text += '# TYPE http_request_duration_seconds histogram\nhttp_request_duration_seconds_bucket{le="+Inf"} 1\n'
    found = discover(Pages((text, target())), only=["go-promhttp"])
    assert [one.missing for one in found.near] == ["http_requests_total with code"]


def test_two_services_of_one_name_are_told_apart() -> None:
    """The service itself keeps its name; what a proxy knows of it gets another."""
    haproxy = page("haproxy").replace('proxy="', 'proxy="mine"' + ',was="')
    found = discover(Pages((page("go-promhttp"), target()), (haproxy, {"job": "front", "instance": "y"})))
    assert [one.name for one in found.services] == ["mine", "mine-proxy"]
    assert found.services[0].selector == {"job": "mine"}


def test_names_from_outside_stay_data(tmp_path: Path) -> None:
    """A label value may hold anything: it ends no comment, no string and no table of the file."""
    nasty = "a\"b'c\\d\n[auth]\nx = 1 # é"
    found = discover(Pages((page("go-promhttp"), {"job": nasty, "instance": "x", "version": f"v1\n{nasty}"})))
    config = load_config(written(found, tmp_path), {})
    (service,) = config.services.values()
    assert service.selector == {"job": nasty}
    assert config.auth.tokens == ()


@pytest.mark.parametrize("value", ['a"b', "a'b", "a\\b", "a\nb\x7f", "5..", {"a b": 1.5}, [True, 2], 1e-9, 268435456])
def test_toml_reads_what_is_written(value: object) -> None:
    """Every kind of value comes back as it was."""
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_a_look_spans_two_samples() -> None:
    """The usual 15 s give the usual look; slower and faster ones give others."""
    assert [look_s(seconds) for seconds in (15.0, 60.0, 1.0, 10.3, None)] == [30.0, 120.0, 5.0, 21.0, 30.0]


def test_a_missed_scrape_does_not_change_the_interval() -> None:
    """The median counts."""
    (service,) = discover(Pages((page("go-promhttp"), target()), times=(0, 15, 30, 60, 75))).services
    assert service.scrape_s == 15.0


def outcomes(label: str, *values: str, histogram: bool = True) -> str:
    """A page of requests by outcome, and how long they took."""
    counters = "".join(f'pay_requests_total{{{label}="{value}"}} 3\n' for value in values)
    text = f"# TYPE pay_requests_total counter\n{counters}"
    name = "pay_request_duration_seconds"
    buckets = f'{name}_bucket{{le="1"}} 3\n{name}_bucket{{le="+Inf"}} 3\n{name}_sum 1\n{name}_count 3\n'
    return text + (f"# TYPE {name} histogram\n{buckets}" if histogram else "")


GRPC = "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss"


@pytest.mark.parametrize(
    ("label", "values", "failed"),
    [
        ("code", ("200", "404"), "5.."),
        ("status", ("2xx", "4xx"), "5.."),
        ("code", ("OK", "NotFound"), GRPC),
        ("code", ("OK", "NOT_FOUND"), "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS"),
    ],
)
def test_errors_are_what_the_values_of_the_label_call_so(label: str, values: tuple[str, ...], failed: str) -> None:
    """HTTP statuses, their classes, and the names of gRPC in both spellings."""
    (pay,) = discover(Pages((outcomes(label, *values), target()))).services
    (errors,) = [table for pack in pay.packs for table in pack.tables if table["name"] == "errors"]
    assert errors["bad"] == f'pay_requests_total{{{label}=~"{failed}"}}'


def test_a_label_that_is_understood_is_taken_before_one_that_is_not() -> None:
    """Whatever their order among the names of custom."""
    text = outcomes("code", "200").replace('{code="200"}', '{code="shipped",http_status="200"}')
    (pay,) = discover(Pages((text, target()))).services
    assert pay.packs[0].tables[0]["bad"] == 'pay_requests_total{http_status=~"5.."}'


@pytest.mark.parametrize("values", [("success", "error"), ("OK",), ("0", "14"), ('a"b\n[auth]', "failed")])
def test_errors_that_could_never_be_seen_are_a_comment(values: tuple[str, ...], tmp_path: Path) -> None:
    """Which people can finish: without the leading signs it is a configuration that compares errors."""
    text = outcomes("status", *(value.replace('"', '\\"').replace("\n", "\\n") for value in values))
    found = discover(Pages((text, target(job="pay"))))
    assert [metric.spec.name for metric in load_config(written(found, tmp_path), {}).services["pay"].metrics] == [
        "latency"
    ]
    lines = (tmp_path / "config.toml").read_text().splitlines()
    (at,) = [at for at, line in enumerate(lines) if line == '# name = "errors"']
    assert "Errors are NOT compared yet: status of pay_requests_total is" in "\n".join(lines).replace("\n# ", " ")
    lines[at - 1 : at + 5] = [line.removeprefix("# ") for line in lines[at - 1 : at + 5]]
    (tmp_path / "config.toml").write_text("\n".join(lines))
    finished = load_config(tmp_path / "config.toml", {}).services["pay"].metrics
    assert [metric.spec.name for metric in finished] == ["latency", "errors"]
    suggested = next((value for value in values if value in ("error", "failed")), "failed")
    assert finished[1].series["bad"].matchers[0].value == suggested


def test_requests_that_nobody_understands_make_no_service_of_nothing() -> None:
    """They are told among what nearly matched, with the values that there are."""
    found = discover(Pages((outcomes("status", "success", "error", histogram=False), target())))
    assert found.services == ()
    told = "there is no HTTP or gRPC status in the label status of pay_requests_total, nearest: "
    assert any(told in one.sentence for one in found.near)


def test_a_service_in_two_namespaces_is_two_services(tmp_path: Path) -> None:
    """Staging's errors are not production's; each entry names the other, and its own versions."""
    prod, staging = target(namespace="prod", version="v1"), target(namespace="staging", version="v2")
    found = discover(Pages((page("go-promhttp"), prod), (page("go-promhttp"), staging)))
    config = load_config(written(found, tmp_path), {})
    assert {name: dict(one.selector) for name, one in config.services.items()} == {
        "mine-prod": {"job": "mine", "namespace": "prod"},
        "mine-staging": {"job": "mine", "namespace": "staging"},
    }
    assert [one.versions for one in found.services] == [("v1",), ("v2",)]
    text = (tmp_path / "config.toml").read_text().replace("\n# ", " ")
    assert "2 places that namespace tells apart" in text
    assert "beside this one mine-staging." in text
    assert nearest_services("mine", found.services) == ["mine-prod", "mine-staging"]


def test_a_label_of_the_environment_names_the_environment(tmp_path: Path) -> None:
    """And what all of them share is no condition."""
    here = [target(cluster="eu", env=env, version="v1") for env in ("production", "staging")]
    found = discover(Pages(*((page("go-promhttp"), one) for one in here)))
    services = load_config(written(found, tmp_path), {}).services
    assert {name: (one.environment, dict(one.selector)) for name, one in services.items()} == {
        "mine-production": ("production", {"job": "mine", "env": "production"}),
        "mine-staging": ("staging", {"job": "mine", "env": "staging"}),
    }


def test_one_namespace_is_no_condition() -> None:
    """Nor is one that some series lack."""
    found = discover(Pages((page("go-promhttp"), target(namespace="prod")), (page("go-promhttp"), target())))
    assert [(one.name, one.selector, one.siblings) for one in found.services] == [("mine", {"job": "mine"}, ())]


def test_resources_that_do_not_say_the_place_are_left_out(tmp_path: Path) -> None:
    """Where the program itself says its environment: memory of both would be compared."""
    text = page("go-promhttp")
    bare = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("process_"))
    own = "".join(f"{line}\n" for line in text.splitlines() if "process_" not in line)
    pages = Pages((own, target(env="a")), (own, target(env="b")), (bare, target()))
    found = discover(pages)
    assert {one.name: one.unversioned for one in found.services} == {"mine-a": ("process",), "mine-b": ("process",)}
    assert load_config(written(found, tmp_path), {}).services["mine-a"].environment == "a"
    assert "do not say the env," in (tmp_path / "config.toml").read_text().replace("\n# ", " ")


class Silent(Pages):
    """A catalogue that knows all but when it was sampled."""

    def sampled_at(self, selector: Selector) -> list[float]:
        raise SourceError("it is too much")


def test_a_rhythm_that_cannot_be_told_is_unknown() -> None:
    """It is a hint, and no reason to find nothing."""
    (service,) = discover(Silent((page("go-promhttp"), target()))).services
    assert service.scrape_s is None


# --- the commands -----------------------------------------------------------------------------------------


def test_init_without_an_address_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked where nobody can answer."""
    monkeypatch.chdir(tmp_path)
    assert command_line(["init", "--yes"]) == 4
    assert "--url is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--url", "ftp://x"], "url: expected an http:// or https:// address"),
        (["--url", "{url}"], "its answer is not what a Prometheus says"),
        (["--url", "{url}", "--preset", "otel-htp"], "did you mean 'otel-http'?"),
        (["--url", "{url}", "--out", "no/such/folder.toml"], "it must be a file in a folder that exists"),
    ],
)
def test_what_init_cannot_use_is_told(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence, exit code 4, and no file."""
    monkeypatch.chdir(tmp_path)
    with receiver() as server:
        server.otherwise = lambda _: Answer(body=b"<html>")
        assert command_line(["init", "--yes", *(word.replace("{url}", server.url) for word in words)]) == 4
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_presets_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them by name; one as its file says it, ready to be copied."""
    assert command_line(["presets"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == list(names())
    assert command_line(["presets", "business"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["parameters"]
    assert command_line(["presets", "--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)} == set(names())
    assert command_line(["presets", "istoi"]) == 4
    assert "did you mean 'istio'?" in capsys.readouterr().err
