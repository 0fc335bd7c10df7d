"""The composition root: a configuration in, a wired daemon out. The only place that names concrete adapters."""

from watchdog.app.parts import Parts, adapter_options, load_config, parts_of
from watchdog.app.reading import (
    audit_report,
    audit_report_of,
    read_ledger,
    read_ledger_of,
    recorded_cases,
    recorded_descriptions,
)
from watchdog.app.wiring import App, build, rebuilt

__all__ = [
    "App",
    "Parts",
    "adapter_options",
    "audit_report",
    "audit_report_of",
    "build",
    "load_config",
    "parts_of",
    "read_ledger",
    "read_ledger_of",
    "rebuilt",
    "recorded_cases",
    "recorded_descriptions",
]
