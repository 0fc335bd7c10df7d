"""What `check` says of earlier days: whether a source still has them, where the time before is what counts."""

from collections.abc import Iterator

from analysis.earlier_days import LEAST_DAYS
from analysis.result import Arm
from watchdog.cli.findings import Finding
from watchdog.config import ServiceConfig
from watchdog.earlier_days import DAY_S
from watchdog.model import Strategy
from watchdog.ports import ArmWindow, LookRequest, Source

_LONG_S = 900.0  # of each day, so that a quiet minute is not taken for a day that is gone


def day_findings(
    key: str, service: ServiceConfig, source: Source, *, now: float, deadline_s: float
) -> Iterator[Finding]:
    """Ask a source that keeps a past for this hour of the days before."""
    before_after = service.strategy in (Strategy.DIRECT, Strategy.BLUE_GREEN) or service.bake is not None
    if source.kind != "prometheus" or not before_after or not service.earlier_days or not service.metrics:
        return
    about, wanted = f"services.{key}.earlier_days", service.earlier_days
    answers = source.fetch([_request(key, service, now, day) for day in range(1, wanted + 1)], deadline_s=deadline_s)
    known = sum(any(cells.value for cells in answer.cells.values()) for answer in answers)
    said = f"the source has this hour of {known} of {wanted} earlier days"
    if known >= LEAST_DAYS:
        yield Finding("ok", about, f"{said}: an alarm that they explain is held")
    else:
        remedy = "set earlier_days = 0 where it keeps no longer past; else wait until it has one"
        yield Finding("warning", about, f"{said}, too few to explain what is usual at an hour", remedy)


def _request(key: str, service: ServiceConfig, now: float, day: int) -> LookRequest:
    end = now - day * DAY_S
    window = ArmWindow(arm=Arm.CONTROL.value, start=end - _LONG_S, end=end, labels=dict(service.selector))
    return LookRequest(watch_id=f"check:{key}", service=key, interval=-day, arms=(window,), metrics=service.metrics)
