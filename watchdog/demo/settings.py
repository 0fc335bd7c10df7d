"""The configuration the real daemon is given in a demo: a config.toml as an operator would write it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.demo import rollback
from watchdog.demo.scenarios import Scenario
from watchdog.demo.serving import HOST

TOKEN_ENV = "DEMO_CI_TOKEN"  # noqa: S105 - the name of a variable, not a token
SLACK_TOKEN_ENV = "SLACK_BOT_TOKEN"  # noqa: S105 - likewise
SERVICE, ENVIRONMENT = "shop", "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """Where messages go: the real Slack, or the stand-in on loopback."""

    channel: str
    base_url: str = "https://slack.com/api/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where the daemon finds what it watches."""

    metrics: Mapping[str, str]  # instance name → version
    ports: Mapping[str, int]  # instance name → port of its metrics page
    front_admin: int


def render(scenario: Scenario, targets: Targets, *, daemon_port: int, slack: Slack, effects: Path) -> str:
    """The whole file. Only the watch is shorter than shipped; [judge] and [policy] stand at their defaults."""
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
base_url = {json.dumps(slack.base_url)}

[services.{SERVICE}]
environment = "{ENVIRONMENT}"
mode = "auto"
strategy = "{scenario.strategy}"
source = "pages"
rollback_hook = "front"
watch_s = {scenario.watch_s:g}
baseline_s = {scenario.baseline_s:g}
act_uncalibrated = {str(scenario.act_uncalibrated).lower()}

[[services.{SERVICE}.metrics]]
name = "errors"
kind = "ratio"
bad = 'shop_requests_total{{code=~"5.."}}'
total = "shop_requests_total"
by = ["route"]
critical = true

[[services.{SERVICE}.metrics]]
name = "latency"
kind = "latency"
histogram = "shop_request_duration_seconds"
by = ["route"]
unit = "s"
"""


def _targets(targets: Targets) -> str:
    tables = []
    for instance, version in targets.metrics.items():
        url = f"http://{HOST}:{targets.ports[instance]}/metrics"
        tables.append(f'[[sources.pages.targets]]\nurl = "{url}"\nlabels = {{ version = "{version}" }}\n')
    return "\n".join(tables)
