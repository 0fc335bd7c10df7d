"""config.toml as typed settings: every mistake at once, each with its file, line and key."""

from watchdog.config.loader import AdapterOptions, load
from watchdog.config.metrics import MetricConfig
from watchdog.config.secrets import read_secret, unreadable_authority
from watchdog.config.service import ServiceConfig, StepsConfig
from watchdog.config.tables import (
    AdapterConfig,
    AuthConfig,
    DaemonConfig,
    JudgeConfig,
    JudgeOverrides,
    PolicyConfig,
    Scope,
    TokenConfig,
)
from watchdog.config.whole import Config, config_digest

__all__ = [
    "AdapterConfig",
    "AdapterOptions",
    "AuthConfig",
    "Config",
    "DaemonConfig",
    "JudgeConfig",
    "JudgeOverrides",
    "MetricConfig",
    "PolicyConfig",
    "Scope",
    "ServiceConfig",
    "StepsConfig",
    "TokenConfig",
    "config_digest",
    "load",
    "read_secret",
    "unreadable_authority",
]
