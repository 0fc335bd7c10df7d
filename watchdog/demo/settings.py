"""The configuration the real daemon is given in a demo: a config.toml as an operator would write it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.demo import rollback
from watchdog.demo.scenario import STEPS, Scenario
from watchdog.demo.serving import HOST

TOKEN_ENV = "DEMO_CI_TOKEN"  # noqa: S105 - the name of a variable, not a token
SLACK_TOKEN_ENV = "SLACK_BOT_TOKEN"  # noqa: S105 - likewise
SERVICE, ENVIRONMENT = "shop", "demo"

_METRICS = {
    "errors": """
kind = "ratio"
bad = 'shop_requests_total{code=~"5.."}'
total = "shop_requests_total"
by = ["route"]
critical = true""",
    "latency": """
kind = "latency"
histogram = "shop_request_duration_seconds"
by = ["route"]
unit = "s\"""",
    "orders": """
kind = "rate"
events = "shop_orders_total"
exposure = "shop_requests_total"
margin = 0.05 # every twentieth order is money
margin_tell = 0.05""",
    "memory": """
kind = "trend"
gauge = "process_resident_memory_bytes"
unit = "B"
weight = 4.0 # as much of the budget as the errors have""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """Where messages go: the real Slack, or the stand-in on loopback."""

    channel: str
    base_url: str = "https://slack.com/api/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where the daemon finds what it watches."""

    metrics: Mapping[str, str]  # instance name → version; none where one process serves several
    ports: Mapping[str, int]  # instance name → port of its metrics page
    front_admin: int


def render(scenario: Scenario, targets: Targets, *, daemon_port: int, slack: Slack, effects: Path) -> str:
    """The whole file. Only times are shorter than shipped; [judge] and [policy] stand at their defaults."""
    hook = [sys.executable, "-I", "-S", str(Path(rollback.__file__).resolve())]
    hook += ["--front", f"http://{HOST}:{targets.front_admin}", "--effects", str(effects)]
    return f"""# Written by `deploy-watchdog demo --scenario {scenario.name}`; the judge has its shipped settings.
[daemon]
listen = "{HOST}:{daemon_port}"
ledger = "watchdog.db"
public_url = "http://{HOST}:{daemon_port}"

[[auth.tokens]]
name = "ci"
token_env = "{TOKEN_ENV}"
scopes = ["read", "trigger", "admin"]

[sources.pages]
kind = "scrape"
{_targets(targets)}
[hooks.front]
kind = "command"
argv = {json.dumps(hook)}
probe_argv = {json.dumps([*hook, "--probe"])}
idempotent = true # it names the wanted weights and compares before it sets

[sinks.log]
kind = "log"

[sinks.team]
kind = "slack"
token_env = "{SLACK_TOKEN_ENV}"
channel = {json.dumps(slack.channel)}
charts = false # drawing would take the processor that the shop and its visitors share
base_url = {json.dumps(slack.base_url)}

{_service(scenario)}"""


def _service(scenario: Scenario) -> str:
    lines = [
        f"[services.{SERVICE}]",
        f'environment = "{ENVIRONMENT}"',
        'mode = "auto"',
        f'strategy = "{scenario.strategy}"',
        'source = "pages"',
        'rollback_hook = "front"',
        f"watch_s = {scenario.watch_s:g}",
        f"baseline_s = {scenario.baseline_s:g}",
        f"act_uncalibrated = {str(scenario.act_uncalibrated).lower()}",
    ]
    if scenario.look_s:
        lines.append(f"look_s = {scenario.look_s:g}")
    if scenario.variation_label != "version":
        lines.append(f'version_label = "{scenario.variation_label}"')
    if scenario.switched:
        lines += ['smoke_hook = "front"', 'switch_hook = "front"']
    if scenario.strategy == "rolling":
        lines.append('pause_hook = "front"')
    if scenario.steps:
        lines += [
            f"\n[services.{SERVICE}.steps]",
            f"shares = {json.dumps(STEPS)}",
            f"bake_s = {scenario.bake_s:g}",
            'promote_hook = "front"',
        ]
    for name in ("errors", "latency", *scenario.metrics):
        lines.append(f'\n[[services.{SERVICE}.metrics]]\nname = "{name}"{_METRICS[name]}')
    return "\n".join(lines) + "\n"


def _targets(targets: Targets) -> str:
    tables = []
    for instance, version in targets.metrics.items():
        url = f"http://{HOST}:{targets.ports[instance]}/metrics"
        labels = f'labels = {{ version = "{version}" }}\n' if version else ""
        tables.append(f'[[sources.pages.targets]]\nurl = "{url}"\n{labels}')
    return "\n".join(tables)
