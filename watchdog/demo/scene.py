"""One moment of a demo, as both the terminal view and the plain lines show it."""

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.demo.scenario import NEW, OLD, Scenario

WINDOW_S = 8.0  # over which the front's error rates are shown
_EVIDENCE = re.compile(r"evidence (\d+(?:\.\d+)?) of (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What visitors of one version got in the last seconds, by the front's count."""

    requests_per_s: float = 0.0
    error_share: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything worth showing now."""

    scenario: Scenario
    says: str  # what the demo itself is doing
    since_deploy_s: float | None
    shares: Mapping[str, float]  # version → share of the weights
    rates: Mapping[str, Rates]
    watch: Mapping[str, Any] | None

    @property
    def sentence(self) -> str:
        return str(self.watch["sentence"]) if self.watch else ""

    @property
    def state(self) -> str:
        return str(self.watch["state"]) if self.watch else ""

    @property
    def evidence(self) -> tuple[float, float] | None:
        """How much there is against the new version, and how much it takes to act."""
        found = _EVIDENCE.search(self.sentence)
        return (float(found.group(1)), float(found.group(2))) if found else None

    @property
    def timeline(self) -> list[tuple[float, str]]:
        """Seconds since the deploy, and what happened then."""
        if self.watch is None:
            return []
        began = float(self.watch["deployed_at"])
        return [(float(entry["at"]) - began, str(entry["text"])) for entry in self.watch["timeline"]]


@dataclass(slots=True)
class RollingRates:
    """Rates of the last seconds from the front's ever-growing counts."""

    _seen: deque[tuple[float, Mapping[str, Mapping[str, Any]]]] = field(default_factory=deque)

    def add(self, at: float, counts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Rates]:
        self._seen.append((at, counts))
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return {version: _rates(before[version], counts[version], at - began) for version in (OLD, NEW)}


def _rates(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> Rates:
    requests, errors = now["requests"] - before["requests"], now["errors"] - before["errors"]
    return Rates(
        requests_per_s=requests / seconds if seconds > 0 else 0.0,
        error_share=errors / requests if requests > 0 else math.nan,
    )


def clock(at_s: float | None) -> str:
    """`T+12.3s`, or nothing before the deploy."""
    return "" if at_s is None else f"T{at_s:+.1f}s"


def traffic(scene: Scene) -> str:
    """`v1 90 %: 1.1 % errors · v2 10 %: 6.4 % errors`, by the front's count."""
    parts = []
    for version in (OLD, NEW):
        rates = scene.rates[version]
        errors = "" if math.isnan(rates.error_share) else f": {percent(rates.error_share)} errors"
        parts.append(f"{version} {scene.shares.get(version, 0.0):.0%}{errors}".replace("%", " %", 1))
    return " · ".join(parts)


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"
