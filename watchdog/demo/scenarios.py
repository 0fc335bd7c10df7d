"""The demo's scenarios as a literal table: what is deployed, what happens, how it must end.

Settings of the judge are the shipped ones; only the watch is shortened in time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.demo.faults import Fault

RATE = 250.0  # visitors per second
OLD, NEW = "v1", "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Something that happens while the watch runs: `version`'s processes change their behaviour."""

    after_s: float  # since the new version takes traffic
    says: str
    versions: tuple[str, ...]
    changes: Mapping[str, Any]  # values of Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One story with its known end."""

    name: str
    story: str
    outcome: str  # the word it must end with
    verdict: str
    reason: str | None = None
    strategy: str = "canary"
    share: float = 0.10  # of the traffic, for the new version
    fault: Fault = field(default_factory=Fault)  # of the new version
    turns: tuple[Turn, ...] = ()
    watch_s: float = 100.0
    warm_s: float = 6.0  # traffic before the deploy
    baseline_s: float = 900.0  # how far back the daemon may look; it has only seen warm_s
    act_uncalibrated: bool = False
    deadline_s: float = 150.0  # the demo gives up that long after the deploy


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="bad-canary",
            story="v2 takes 10 % of the traffic, and its errors are 6 % instead of 1 %",
            outcome="rolled_back",
            verdict="DEGRADED",
            reason="METRICS",
            fault=Fault(errors=0.06),
        ),
        Scenario(
            name="dead-canary",
            story="v2 takes 10 % of the traffic and answers 500 to everything",
            outcome="rolled_back",
            verdict="DEGRADED",
            reason="METRICS",
            fault=Fault(dead=True),
        ),
        Scenario(
            name="slow-canary",
            story="v2 takes 10 % of the traffic and is 60 % slower, at the median and in the tail",
            outcome="rolled_back",
            verdict="DEGRADED",
            reason="METRICS",
            fault=Fault(slow=1.6),
        ),
        Scenario(
            name="healthy",
            story="v2 takes 10 % of the traffic and is as good as v1",
            outcome="passed",
            verdict="HEALTHY",
        ),
        Scenario(
            name="bad-direct",
            story="v2 takes all traffic at once, and its errors are 6 % instead of 1 %; compared with the time before",
            outcome="rolled_back",
            verdict="DEGRADED",
            reason="METRICS",
            strategy="direct",
            share=1.0,
            fault=Fault(errors=0.06),
            warm_s=30.0,
            baseline_s=30.0,
            act_uncalibrated=True,
        ),
        Scenario(
            name="silent-candidate",
            story="v2 takes 10 % of the traffic, hangs, then refuses every connection, and has no metrics",
            outcome="rolled_back",
            verdict="DEGRADED",
            reason="CANDIDATE_ABSENT",
            fault=Fault(hang=True),
        ),
        Scenario(
            name="metrics-outage",
            story="v2 takes 10 % of the traffic and is as good as v1, but every metrics page dies; visitors are served",
            outcome="inconclusive",
            verdict="INCONCLUSIVE",
            reason="SOURCE_DOWN",
            turns=(Turn(after_s=5.0, says="every metrics page dies", versions=(OLD, NEW), changes={"metrics": False}),),
            watch_s=30.0,
        ),
    )
}


def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises
    ------
    ValueError
        Naming the known ones.
    """
    if name not in SCENARIOS:
        raise ValueError(f"there is no scenario {name!r}; known are {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
