"""The configuration that all simulated daemons share: one service for each kind of hook."""

import tempfile
from functools import cache
from pathlib import Path

from tests.fakes import NoOptions
from tests.simulator.inbox import SINKS
from tests.simulator.production import TRAITS
from tests.simulator.traffic import LOOKS, PAST, STEP_S
from watchdog.config import Config, load

RETRIES = 3
HOLD_S = 90.0
COOL_DOWN_S = 3600.0
BREAKER = 2
_HEAD = f"""
[auth]
[policy]
hold_s = {HOLD_S}
verify_s = 20.0
cool_down_s = {COOL_DOWN_S}
breaker_rollbacks = {BREAKER}
retries = {RETRIES}
[sources.metrics]
kind = "simulated"
"""
_SERVICE = """
[services.{name}]
mode = "{mode}"
strategy = "canary"
source = "metrics"
rollback_hook = "{hook}"
look_s = {step_s}
watch_s = {watch_s}
baseline_s = {past_s}
[[services.{name}.metrics]]
name = "errors"
kind = "ratio"
bad = 'requests_total{{code=~"5.."}}'
total = "requests_total"
critical = true
"""
MODES = ("auto", "approve", "notify", "observe")


def service_name(hook: str, mode: str) -> str:
    return f"{hook}-{mode}"


@cache
def settings() -> Config:
    """Parsed once; every service is one hook in one mode."""
    text = _HEAD
    text += "".join(f'[hooks.{hook}]\nkind = "simulated"\n' for hook in TRAITS)
    text += "".join(f'[sinks.{sink}]\nkind = "simulated"\n' for sink in SINKS)
    text += "".join(
        _SERVICE.format(
            name=service_name(hook, mode),
            mode=mode,
            hook=hook,
            step_s=STEP_S,
            watch_s=LOOKS * STEP_S,
            past_s=PAST * STEP_S,
        )
        for hook in TRAITS
        for mode in MODES
    )
    adapters = {section: {"simulated": NoOptions} for section in ("sources", "hooks", "sinks")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, adapters, {})
