"""The road of a deploy as tests drive it: one source, hooks of theirs, the simulated clock, every job done at once."""

from collections.abc import Callable, Mapping

from watchdog.action import ActionEdge
from watchdog.pipeline import Pipeline
from watchdog.ports import Clock, Hook, Ledger, Source
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry


def a_road(
    ledger: Ledger,
    clock: Clock,
    source: Source,
    hooks: Mapping[str, Hook],
    *,
    failpoint: Callable[[str], None] = lambda name: None,
) -> Pipeline:
    """A pipeline whose watches ask the source `pages`; failpoint: where the daemon may die."""
    return Pipeline(
        ledger=ledger,
        surroundings=Surroundings(ledger=ledger),
        sources={"pages": source},
        edge=ActionEdge(ledger=ledger, hooks=hooks, clock=clock, owner="me", failpoint=failpoint),
        clock=clock,
        owner="me",
        telemetry=Telemetry(),
        submit=lambda job, key: job(),
        failpoint=failpoint,
    )
