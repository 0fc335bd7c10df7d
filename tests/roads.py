"""The road of a deploy as tests drive it: one source, hooks of theirs, the simulated clock, every job done at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.samples import a_watch
from watchdog.action import ActionEdge
from watchdog.model import AuditEntry, Change, HoldReason, MessageKind, Severity, State, Watch
from watchdog.pipeline import Pipeline
from watchdog.ports import Clock, Hook, Ledger, Source
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.telling import message


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


def called_worse(ledger: Ledger, version: str, *, at: float, verdict: str = "DEGRADED", ended_by: str = "") -> Watch:
    """An older watch of the shop that a brake held at that time, and that ended so, without a rollback."""
    watch = a_watch(deploy_id=f"of-{version}")
    deploy = replace(watch.deploy, version=version, previous_version="v0", deployed_at=at)
    watch = replace(watch, deploy=deploy, created_at=at, verdict=verdict)
    ledger.record_deploy(watch, [], [])
    held: dict[str, object] = {"hold": HoldReason.COOL_DOWN, "hold_until": at + 60, "degraded_at": at}
    held["verdict"] = verdict
    for before, after, fields in ((State.WATCHING, State.HELD, held), (State.HELD, State.CANCELLED, {})):
        event = ended_by or "watch.hold_expired"
        entry = AuditEntry(at=at, watch_id=watch.id, actor="t", event=event, before=before.value, after=after.value)
        told = message(watch, MessageKind.HELD, Severity.PAGE, "x", key=after.value)
        moved = Change(
            watch_id=watch.id, at=at, expect_state=before, to_state=after, fields=fields,
            audit=(entry,), messages=(told,),
        )  # fmt: skip
        assert ledger.commit(moved)
    found = ledger.watch(watch.id)
    assert found is not None
    return found
