"""The bake watch: after a deploy has passed it is looked at slowly for hours more, for leaks and late faults. Pure.

It is a watch of its own, so that whoever waits for the deploy has its outcome now. It compares the whole service with
the time before the deploy, from the deploy on, and has a part of the deploy's budget that its first watch did without.
"""

from dataclasses import replace

from analysis.result import Design
from watchdog.model import AuditEntry, Follow, MessageKind, Severity, State, Watch
from watchdog.telling import message, title

BAKES = "~bake"  # ends the id of a bake watch; no sender can give such an id, so none can be in its way


def bake(watch: Watch, now: float) -> Follow | None:
    """What follows when a deploy has passed; None where no bake is wanted."""
    wanted = watch.plan.bake
    if wanted is None:
        return None
    planned = max(1, round(wanted.for_s / wanted.look_s))
    plan = replace(
        watch.plan,
        design=Design.BEFORE_AFTER,
        judge=replace(
            watch.plan.judge, budget=wanted.budget, planned_looks=planned, min_looks=min(planned, wanted.min_looks)
        ),
        step_s=wanted.look_s,
        watch_s=planned * wanted.look_s,
        baseline_looks=max(1, round(wanted.baseline_s / wanted.look_s)),
        control_labels=wanted.control_labels,
        steps=None,
        switch_hook=None,
        pause_hook=None,
        restore_hook=None,
        bake=None,
        bakes=True,
    )
    own_id = f"{watch.id}{BAKES}"
    baking = replace(
        watch,
        id=own_id,
        deploy=replace(watch.deploy, id=own_id, share=None, instances={}, train=None, received_at=now),
        plan=plan,
        state=State.WATCHING,
        created_at=watch.created_at,  # as old as its deploy: whatever was deployed since is newer
        updated_at=now,
        looks=0,
        verdict=None,
        reason=None,
        metric=None,
        exposed_requests=0.0,
        affected_requests=0.0,
        total_requests=0.0,
        epoch=0,
        step=0,
        step_at=None,
        next_look_at=max(now, watch.live_at + wanted.look_s + plan.settle_s),
    )
    said = (
        f"{title(baking)}: passed, and looked at every {wanted.look_s / 60:.3g} min until "
        f"{wanted.for_s / 3600:.3g} h after the deploy"
    )
    entry = AuditEntry(
        at=now, watch_id=baking.id, actor="daemon", event="watch.baking", after=State.WATCHING.value, why=said,
        details={"passed": watch.id},
    )  # fmt: skip
    told = message(baking, MessageKind.STARTED, Severity.INFO, said, key="started")
    return Follow(watch=replace(baking, sentence=said), messages=(told,), audit=(entry,))
