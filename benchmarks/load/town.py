"""The pretended production that is watched under load: its services, its versions, and the daemon's configuration."""

from dataclasses import dataclass
from pathlib import Path

TOKEN_ENV, WEBHOOK_ENV = "WATCHDOG_LOAD_TOKEN", "WATCHDOG_LOAD_WEBHOOK_SECRET"
TOKENS = 4  # callers that send deploys by token; one of them may send 100 a second
TEMPLATES = 9  # queries behind the six metrics of one look, and one that asks who is up

_METRICS = """
[[services.{name}.metrics]]
name = "errors"
kind = "ratio"
bad = 'http_requests_total{{code=~"5.."}}'
total = "http_requests_total"
critical = true

[[services.{name}.metrics]]
name = "latency"
kind = "latency"
histogram = "http_request_duration_seconds"
unit = "s"

[[services.{name}.metrics]]
name = "timeouts"
kind = "ratio"
bad = "upstream_timeouts_total"
total = "upstream_calls_total"

[[services.{name}.metrics]]
name = "orders"
kind = "rate"
events = "orders_total"
exposure = "http_requests_total"
direction = "down_is_bad"

[[services.{name}.metrics]]
name = "cpu"
kind = "gauge"
gauge = "process_cpu_share"

[[services.{name}.metrics]]
name = "connections"
kind = "gauge"
gauge = "open_connections"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """`services` in so many `environments` that each watch has a place of its own, with versions of its own."""

    watches: int
    services: int = 500

    def place(self, number: int) -> tuple[str, str]:
        """Service and environment of a watch."""
        at = number % self.watches
        return f"svc-{at % self.services:04d}", f"env-{at // self.services:03d}"

    def versions(self, number: int) -> tuple[str, str]:
        """Old and new version, by their last letter; like commits, no two watches share one."""
        name = f"{number % self.watches % self.services:04d}.{number:x}"
        return f"{name}a", f"{name}b"

    def config(
        self,
        *,
        listen: str,
        prometheus: str,
        ledger: Path,
        look_s: float,
        watch_s: float,
        baseline_s: float,
        judges: int = 0,
    ) -> str:
        """The daemon's config.toml."""
        tokens = "".join(
            f"""
[[auth.tokens]]
name = "ci-{at}"
token_env = "{TOKEN_ENV}_{at}"
scopes = ["read", "trigger"]
services = ["*"]
"""
            for at in range(TOKENS)
        )
        head = f"""
[daemon]
listen = "{listen}"
ledger = "{ledger}"
judges = {judges}

[auth]
webhook_secret_env = "{WEBHOOK_ENV}"

{tokens}
[sources.prometheus]
kind = "prometheus"
url = "{prometheus}"

[hooks.back]
kind = "dry_run"
"""
        return head + "".join(
            f"""
[services.svc-{at:04d}]
mode = "auto"
environments = ["*"]
strategy = "canary"
source = "prometheus"
rollback_hook = "back"
look_s = {look_s}
watch_s = {watch_s}
baseline_s = {baseline_s}
version_label = "version"
selector = {{ job = "svc-{at:04d}" }}
{_METRICS.format(name=f"svc-{at:04d}")}"""
            for at in range(min(self.services, self.watches))
        )
