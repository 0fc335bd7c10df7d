"""Faults that are hard to see, and changes of the traffic that look like faults and are none."""

from watchdog.demo.faults import Fault
from watchdog.demo.scenario import NEW, Actor, Scenario, Turn

_QUIET = 50.0  # visitors per second before they are five times as many
_SPIKE = Turn(after_s=20.0, says="five times as many visitors", actor=Actor.VISITORS, changes={"rate": 5 * _QUIET})

FAULT_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="late-bug",
        story="v2 takes 10 % of the traffic; after a minute its errors are 6 % instead of 1 %",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        turns=(Turn(after_s=60.0, says="v2's errors begin", versions=(NEW,), changes={"errors": 0.06}),),
        watch_s=150.0,
        deadline_s=220.0,
    ),
    Scenario(
        name="config-error",
        story="v2 takes 10 % of the traffic, and one of its six routes is misconfigured: four logins of ten fail",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        fault=Fault(route="/login", route_errors=0.4),
        watch_s=150.0,
        deadline_s=220.0,
    ),
    Scenario(
        name="traffic-spike",
        story="v2 takes 10 % of the traffic and is as good as v1; then there are five times as many visitors",
        outcome="passed",
        verdict="HEALTHY",
        rate=_QUIET,
        turns=(_SPIKE,),
    ),
    Scenario(
        name="spike-breaks-v2",
        story="v2 takes 10 % of the traffic and serves one at a time; then there are five times as many visitors",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        fault=Fault(at_once=1),
        rate=_QUIET,
        turns=(_SPIKE,),
        watch_s=120.0,
        deadline_s=180.0,
    ),
    Scenario(
        name="simpson",
        story="checkout fails more often than other routes, in v1 as in v2; then three checkouts of ten go to v2",
        outcome="passed",
        verdict="HEALTHY",
        usual=Fault(errors=0.005, route="/checkout", route_errors=0.05),
        mix={"checkout": 0.14, "home": 0.23},
        turns=(Turn(after_s=5.0, says="more checkouts go to v2", actor=Actor.FRONT, changes={"/checkout": 0.3}),),
    ),
    Scenario(
        name="business",
        story="a sale: one visit in four is a checkout; v2 loses three orders of ten, with a friendly page and in time",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        fault=Fault(orders_lost=0.3),
        mix={"checkout": 0.25, "home": 0.12},
        metrics=("orders",),
        watch_s=150.0,
        deadline_s=220.0,
    ),
    Scenario(
        name="leak",
        story="v2 takes 10 % of the traffic, and three megabytes of memory every second that it never gives back",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        fault=Fault(leak_mb_s=3.0),
        metrics=("memory",),
        watch_s=150.0,
        deadline_s=220.0,
    ),
)
