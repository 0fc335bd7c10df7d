"""What a sound config.toml becomes: typed values, metrics for sources and judge, judge settings per service."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from analysis.result import Direction, JudgeSettings, Kind
from watchdog.config import (
    AdapterConfig,
    AuthConfig,
    Config,
    DaemonConfig,
    MetricConfig,
    Scope,
    ServiceConfig,
    TokenConfig,
    config_digest,
    load,
)
from watchdog.model import Mode, Strategy
from watchdog.selector import parse_selector


class NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SERVICE = """
[sources.pages]
kind = "scrape"
[services.shop]
source = "pages"
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'requests_total{code=~"5.."}'
total = "requests_total"
"""


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(file, {"sources": {"scrape": NoOptions}, "hooks": {}, "sinks": {}}, {})


def metric(**keys: object) -> MetricConfig:
    return MetricConfig.model_validate({"name": "m", **keys})


def test_the_smallest_service_only_observes(tmp_path: Path) -> None:
    """Nothing acts unless somebody wrote so."""
    service = read(tmp_path, SERVICE).services["shop"]
    assert (service.mode, service.strategy) == (Mode.OBSERVE, Strategy.CANARY)
    assert (service.watch_s, service.look_s, service.settle_s, service.act_uncalibrated) == (900.0, 0.0, -1.0, False)
    assert service.sinks is None


def test_a_ratio_has_its_two_series(tmp_path: Path) -> None:
    """As selectors, parsed once."""
    (errors,) = read(tmp_path, SERVICE).services["shop"].metrics
    assert errors.series == {
        "bad": parse_selector('requests_total{code=~"5.."}'),
        "total": parse_selector("requests_total"),
    }
    assert (errors.spec.name, errors.spec.kind, errors.spec.margin) == ("errors", Kind.RATIO, None)


@pytest.mark.parametrize(
    ("keys", "roles", "direction"),
    [
        ({"kind": "ratio", "bad": "a", "total": "b"}, {"bad", "total"}, Direction.UP_IS_BAD),
        ({"kind": "rate", "events": "a", "exposure": "b"}, {"events", "exposure"}, Direction.DOWN_IS_BAD),
        ({"kind": "latency", "histogram": "a"}, {"histogram"}, Direction.UP_IS_BAD),
        ({"kind": "gauge", "gauge": "a"}, {"level"}, Direction.UP_IS_BAD),
        ({"kind": "trend", "gauge": "a"}, {"level"}, Direction.UP_IS_BAD),
        ({"kind": "gauge", "promql": "avg(x{$arm})"}, set(), Direction.UP_IS_BAD),
        (
            {"kind": "rate", "events": "a", "exposure": "b", "direction": "up_is_bad"},
            {"events", "exposure"},
            "up_is_bad",
        ),
    ],
)
def test_each_kind_has_its_roles_and_its_worse_side(keys: dict[str, str], roles: set[str], direction: str) -> None:
    """Fewer orders are worse, more errors are worse; the file may say otherwise."""
    made = metric(**keys).metric()
    assert set(made.series) == roles
    assert made.spec.direction == direction


def test_every_setting_of_a_metric_reaches_the_judge() -> None:
    """None is lost on the way, and none keeps its default by mistake."""
    keys = {
        "kind": "latency",
        "histogram": "a",
        "by": ["route"],
        "unit": "s",
        "margin": 0.5,
        "margin_tell": 0.2,
        "floor": 0.01,
        "weight": 2.0,
        "critical": True,
        "slo_le": 0.5,
        "configured_share": True,
        "direction": "either",
    }
    made = metric(**keys).metric()
    assert made.by == ("route",)
    assert metric(kind="latency", histogram="a", slower_by=0.2).metric().spec.slower_by == 0.2
    spec = {key: getattr(made.spec, key) for key in keys if key not in ("histogram", "by")}
    assert spec == {key: value for key, value in keys.items() if key not in ("histogram", "by")}


def test_a_service_overrides_single_keys_of_the_judge(tmp_path: Path) -> None:
    """Also with a value that happens to be the default."""
    text = SERVICE + "[services.shop.judge]\nbudget = 0.01\nmin_looks = 9\n[judge]\nbudget = 0.05\nmargin = 0.5\n"
    judge = read(tmp_path, text).judge_for("shop")
    assert (judge.budget, judge.min_looks, judge.margin) == (0.01, 9, 0.5)


def test_the_judge_starts_from_the_core_s_own_defaults(tmp_path: Path) -> None:
    """What is shipped in config.py is what analysis/result.py says."""
    config = read(tmp_path, SERVICE)
    assert config.judge_for("shop").settings(planned_looks=90) == JudgeSettings(planned_looks=90, guess_absence=False)


def test_every_judge_setting_can_be_configured_or_is_known_to_come_from_elsewhere(tmp_path: Path) -> None:
    """A setting added to the core is not forgotten here."""
    offered = set(type(read(tmp_path, SERVICE).judge).model_fields) | {"planned_looks", "act_uncalibrated"}
    offered |= {"guess_absence"}  # for recorded cases: the daemon never guesses
    assert offered == set(JudgeSettings.__dataclass_fields__)


def test_an_open_address_is_fine_with_a_token() -> None:
    """And loopback, in all its spellings, without one."""
    token = TokenConfig(name="ci", token_env="CI", scopes=(Scope.READ,))
    assert Config(daemon=DaemonConfig(listen="0.0.0.0:80"), auth=AuthConfig(tokens=(token,))).auth.has_secret
    for listen in ("localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"):
        assert Config(daemon=DaemonConfig(listen=listen)).daemon.listen == listen
    for listen in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1"):
        with pytest.raises(ValidationError, match="nothing guards it"):
            Config(daemon=DaemonConfig(listen=listen))


def test_who_stands_behind_a_proxy_needs_a_token() -> None:
    """What the proxy lets in comes from this machine, and is not of it."""
    for url in ("", "http://localhost:8811", "http://127.0.0.1:8811/x", "http://[::1]:8811"):
        assert Config(daemon=DaemonConfig(public_url=url)).daemon.public_url == url
    with pytest.raises(ValidationError, match="through a proxy on this machine, and nothing guards it"):
        Config(daemon=DaemonConfig(public_url="https://watchdog.example.com"))
    token = TokenConfig(name="ci", token_env="CI", scopes=(Scope.READ,))
    assert Config(daemon=DaemonConfig(public_url="https://w.example"), auth=AuthConfig(tokens=(token,))).auth.has_secret


def test_a_configuration_made_in_python_is_checked_alike() -> None:
    """The demo and the tests build theirs without a file."""
    source = AdapterConfig(kind="scrape", options=NoOptions())
    gauge = metric(kind="gauge", gauge="x")
    sound = Config(sources={"pages": source}, services={"shop": ServiceConfig(source="pages", metrics=(gauge,))})
    assert sound.services["shop"].metrics == (gauge.metric(),)
    with pytest.raises(ValidationError, match="there is no 'pagse' below"):
        Config(sources={"pages": source}, services={"shop": ServiceConfig(source="pagse", metrics=(gauge,))})


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    """Running watches rely on it."""
    config = read(tmp_path, SERVICE)
    with pytest.raises(ValidationError):
        config.daemon.tick_s = 9.0  # type: ignore[misc]


def test_the_digest_follows_every_value(tmp_path: Path) -> None:
    """Same meaning, same digest, whatever the order or the comments; another value, another digest."""
    digest = config_digest(read(tmp_path, SERVICE))
    assert digest == config_digest(read(tmp_path, "# a comment\n[daemon]\ntick_s = 1.0\n" + SERVICE))
    assert digest != config_digest(read(tmp_path, "[daemon]\ntick_s = 2.0\n" + SERVICE))
    assert digest != config_digest(read(tmp_path, SERVICE.replace("5..", "4..")))
