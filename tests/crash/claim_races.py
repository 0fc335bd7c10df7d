"""Recorded rollbacks that three daemons see at the same moment, while each of them is frozen now and then."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tests.crash.replicas import GLANCE_S, PATIENCE_S, Trio
from tests.samples import a_plan, a_watch
from watchdog.clock import SystemClock
from watchdog.ledger import open_ledger
from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    AuditEntry,
    Change,
    Message,
    MessageKind,
    Severity,
    State,
)

AT_ONCE = 25  # all daemons are frozen while these are recorded, so that they see them together
_ON_ITS_WAY = ("INTENT", "RUNNING", "RETRY_WAIT")


@dataclass(slots=True)
class Races:
    """What came of them."""

    races: int = 0
    pauses: int = 0
    doubled: list[str] = field(default_factory=list)
    without_effect: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    second_attempts: int = 0


async def race(trio: Trio, count: int, dice: random.Random, say: Callable[[str], None]) -> Races:
    """So many races, batch after batch, under pauses; then count what production saw."""
    found, over = Races(), asyncio.Event()
    nemesis = asyncio.create_task(trio.ill_treat(over, dice))
    names = [f"race-{number}" for number in range(count)]
    for first in range(0, count, AT_ONCE):
        batch = names[first : first + AT_ONCE]
        for replica in trio.replicas:
            replica.freeze()
        intend(trio.url, batch)
        for replica in trio.replicas:
            replica.thaw()
        await settled(trio)
        found.races += len(batch)
        if found.races % 500 == 0:
            say(f"{found.races} of {count} races")
    over.set()
    found.pauses = await nemesis
    await settled(trio)
    effects = trio.effects()
    found.doubled = [name for name in names if effects[name] > 1]
    for name, state, attempt in trio.query("SELECT id, state, attempt FROM actions WHERE id LIKE 'race-%'"):
        found.outcomes[str(state)] = found.outcomes.get(str(state), 0) + 1
        found.second_attempts += int(str(attempt)) > 1
        if state == "APPLIED" and not effects[str(name)]:
            found.without_effect.append(str(name))
    return found


def intend(url: str, names: Iterable[str]) -> None:
    """Record deploys whose rollback is decided, each in an environment of its own; nobody looks at their metrics."""
    ledger = open_ledger(url, clock=SystemClock(), owner="decider", sinks_for=lambda _: ())
    try:
        now = time.time()
        for name in names:
            watch = a_watch(deploy_id=name)
            deploy = replace(
                watch.deploy, environment=name, version=name, deployed_at=now, received_at=now, triggered_by="test"
            )
            plan = replace(a_plan(), source="prometheus", step_s=3600.0)
            watch = replace(watch, deploy=deploy, plan=plan, created_at=now, updated_at=now, next_look_at=now + 3600.0)
            ledger.record_deploy(watch, [], [])
            assert ledger.commit(_decided(name, now))
    finally:
        ledger.close()


def _decided(name: str, now: float) -> Change:
    action = Action(
        id=name,
        watch_id=name,
        kind=ActionKind.ROLLBACK,
        state=ActionState.INTENT,
        hook="back",
        service="shop",
        environment=name,
        from_version=name,
        to_version="v1",
        created_at=now,
        next_at=now,
    )
    told = Message(key="moved", watch_id=name, kind=MessageKind.ACTION, severity=Severity.INFO, sentence="decided")
    return Change(
        watch_id=name,
        at=now,
        expect_state=State.WATCHING,
        to_state=State.INTENT,
        new_action=action,
        audit=(AuditEntry(at=now, watch_id=name, actor="test", event="decided"),),
        messages=(told,),
    )


async def settled(trio: Trio) -> None:
    """Wait until no action is on its way any more."""
    deadline = time.monotonic() + PATIENCE_S
    states = ", ".join(f"'{state}'" for state in _ON_ITS_WAY)
    while (left := trio.query(f"SELECT id, state FROM actions WHERE state IN ({states}) LIMIT 5")) != []:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not settled within {PATIENCE_S:g} s: {left}")
        await asyncio.sleep(GLANCE_S)
