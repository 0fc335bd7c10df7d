"""What the front counted, and when: so that its figures and the daemon's can be of the same time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from watchdog.demo.report import FrontCount
from watchdog.demo.scenario import NEW, OLD, Scenario

Counts = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Tape:
    """The front's ever-growing counts at many moments."""

    _seen: list[tuple[float, Counts]] = field(default_factory=list)

    def add(self, at: float, counts: Counts) -> None:
        self._seen.append((at, counts))

    def at(self, moment: float, version: str, key: str) -> float:
        """A count at a moment, straight between the two times it was read; beyond them the nearest."""
        before, after = self._seen[0], self._seen[-1]
        for seen in self._seen:
            if seen[0] >= moment:
                after = seen
                break
            before = seen
        (began, first), (ended, last) = before, after
        low, high = float(first[version][key]), float(last[version][key])
        if moment <= began or ended <= began:
            return low if moment <= began else high
        return low + (high - low) * min((moment - began) / (ended - began), 1.0)


def counted(
    tape: Tape,
    before: Counts,
    watch: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    *,
    scenario: Scenario,
    after_end: int,
) -> FrontCount:
    """The front's count from the deploy to the daemon's last look, and when it was told to send everybody back."""
    last_look = live_at(watch) + float(watch["looks"]) * scenario.rhythm_s

    def grown(version: str, key: str) -> float:
        return max(0.0, tape.at(last_look, version, key) - float(before[version][key]))

    served = grown(OLD, "requests")
    expected = grown(OLD, "orders") / served * grown(NEW, "requests") if served > 0 else 0.0
    return FrontCount(
        exposed=round(grown(NEW, "requests")),
        errors=round(grown(NEW, "errors")),
        total=round(grown(OLD, "requests") + grown(NEW, "requests")),
        after_end=after_end,
        missing_orders=round(max(0.0, expected - grown(NEW, "orders"))),
        traffic_back_s=_traffic_back_s(watch, changes),
    )


def live_at(watch: Mapping[str, Any]) -> float:
    """When the new version began to take traffic, which is later than the deploy where the watchdog switches."""
    if watch["degraded_at"] is not None and watch["time_to_detect_s"] is not None:
        return float(watch["degraded_at"]) - float(watch["time_to_detect_s"])
    return float(watch["deployed_at"])


def _traffic_back_s(watch: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> float | None:
    """From the verdict to the first change by the daemon that leaves the new version nothing."""
    verdict_at = watch["degraded_at"]
    for change in changes:
        weights = change["weights"]
        back = change["action_id"] and not any(w for name, w in weights.items() if name.partition("/")[0] == NEW)
        if verdict_at is not None and back and "paused" not in weights and change["at"] >= verdict_at:
            return round(float(change["at"]) - float(verdict_at), 2)
    return None
