"""Every way to ship: what goes forward by itself, what is stopped, and what is put back."""

from watchdog.demo.faults import Fault
from watchdog.demo.scenario import NEW, STEPS, Actor, Scenario, Turn

_UPDATE_S = 30.0  # between two servers of a roll-out


def _server(name: str, *, after_s: float) -> Turn:
    """The next server of a roll-out."""
    return Turn(after_s=after_s, says=f"server {name} gets v2", actor=Actor.ROLL_OUT, changes={"server": name})


STRATEGY_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="canary-promotes",
        story="v2 begins with 5 % of the traffic and is as good as v1; its share grows by itself to all of it",
        outcome="passed",
        verdict="HEALTHY",
        share=STEPS[0],
        steps=True,
        rate=300.0,
        watch_s=150.0,
        deadline_s=220.0,
    ),
    Scenario(
        name="feature-flag",
        story="a feature is switched on for 10 % of the visitors, and its errors are 6 % instead of 1 %",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        strategy="flag",
        fault=Fault(errors=0.06),
    ),
    Scenario(
        name="blue-green",
        story="v2 passes its smoke test and takes all traffic; it serves seven at a time, too few for real traffic",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        strategy="blue_green",
        share=1.0,
        switched=True,
        fault=Fault(at_once=7),
        look_s=2.5,
        warm_s=52.0,  # twenty looks, from which the noise before the switch can be told
        baseline_s=50.0,
        act_uncalibrated=True,
    ),
    Scenario(
        name="smoke-fails",
        story="v2 cannot take an order; its smoke test finds that before anybody is sent to it",
        outcome="smoke_failed",
        verdict=None,
        strategy="blue_green",
        share=1.0,
        switched=True,
        fault=Fault(route="/checkout", route_errors=1.0),
        act_uncalibrated=True,
    ),
    Scenario(
        name="rolling",
        story="four servers get v2 one after another; as soon as two have it they fail 6 % of their requests, not 1 %",
        outcome="rolled_back",
        verdict="DEGRADED",
        reason="METRICS",
        strategy="rolling",
        share=0.25,
        server_faults={f"v2-{server}": Fault(errors=0.06) for server in "bcd"},
        rate=200.0,
        turns=(
            _server("b", after_s=_UPDATE_S),
            Turn(after_s=_UPDATE_S + 1.0, says="v2's errors begin", versions=(NEW,), changes={"errors": 0.06}),
            _server("c", after_s=2 * _UPDATE_S),
            _server("d", after_s=3 * _UPDATE_S),
        ),
        look_s=2.5,
    ),
)
