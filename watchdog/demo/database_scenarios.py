"""What both versions share: the database, its schema, its connections, a third party. Going back may not help."""

from dataclasses import replace

from watchdog.demo.faults import Fault
from watchdog.demo.scenario import Actor, Scenario, Turn

# The old version is compared with its own past, which takes a dozen looks of it: they are shortened, not left out.
_SHARED = Scenario(
    name="",
    story="",
    outcome="held",
    verdict="INCONCLUSIVE",
    reason="SHARED_CAUSE",
    hold="SHARED_CAUSE",
    look_s=2.5,
    warm_s=40.0,
)

DATABASE_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="irreversible-migration",
        story="v2 drops a table as it comes, and its errors are 6 % instead of 1 %: there is no way back",
        outcome="held",
        verdict="DEGRADED",
        reason="METRICS",
        hold="MIGRATION",
        fault=Fault(errors=0.06),
        migration="irreversible",
        migrates="drop",
    ),
    replace(
        _SHARED,
        name="migration-lock",
        story="v2's migration rewrites the orders and locks the table meanwhile; checkouts of both versions crawl",
        migration="expand",
        migrates="lock",
    ),
    replace(
        _SHARED,
        name="schema-breaks-v1",
        story="v2's migration renames a column; v2 knows the new name, v1 cannot write orders any more",
        migration="contract",
        migrates="rename",
    ),
    replace(
        _SHARED,
        name="shared-db",
        story="v2 keeps every database connection it takes, until the pool that both versions share is empty",
        fault=Fault(keeps_connections=True),
    ),
    replace(
        _SHARED,
        name="dependency-outage",
        story="v2 is as good as v1; then the third party that takes the money fails, for the shop as for the kiosk",
        payments=True,
        turns=(Turn(after_s=10.0, says="payments fail", actor=Actor.PAYMENTS, changes={"fails": True}),),
    ),
)
