"""The road: a bad deploy is noticed and undone, a good one passes, and where nobody can tell that is said."""

from watchdog.demo.faults import Fault
from watchdog.demo.scenario import NEW, OLD, Scenario, Turn

ROAD_SCENARIOS: tuple[Scenario, ...] = (
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
