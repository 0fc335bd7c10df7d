"""After a rollback: does production show that it took effect? Pure."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.result import Direction, Kind, Reason
from analysis.sentence import count
from watchdog.blast_radius import fallen, radius_fields, recovered
from watchdog.model import Action, AuditEntry, Change, State, StoredLook, Watch
from watchdog.strategies.window import interval_bounds
from watchdog.telling import ending, title

FEWEST_LOOKS = 4  # a rollback is given the time of so many looks to show, however short verify_s is


def verify(
    watch: Watch, past: Sequence[StoredLook], fresh: Sequence[StoredLook], rollback: Action | None, now: float
) -> Change | None:
    """What the newest looks say about a rollback: recovered, not in time, or wait (looks are recorded anyway)."""
    applied_at = rollback.finished_at if rollback is not None and rollback.finished_at is not None else watch.updated_at
    proof = _first_proof(watch, [*past, *fresh], applied_at)
    if proof is not None:
        return _ended(watch, past, fresh, State.ROLLED_BACK, _recovered_words(watch, applied_at), now, applied_at)
    patience_s = max(watch.plan.verify_s, FEWEST_LOOKS * watch.plan.step_s + watch.plan.settle_s)
    catching_up = any(
        interval_bounds(watch, look.interval)[1] <= applied_at for look in fresh
    )  # nobody looked till now
    if now - applied_at > patience_s and not catching_up:
        why = (
            f"the rollback to {watch.deploy.previous_version} is done, but within {patience_s:.0f} s "
            "the metrics did not show that it took effect"
        )
        return _ended(watch, past, fresh, State.NOT_RECOVERED, why, now, None)
    if not fresh:
        return None
    fields = {
        "looks": max(look.interval for look in fresh) + 1,
        **radius_fields(watch, [*past, *fresh], applied_at=applied_at),
    }
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.VERIFYING,
        expect_epoch=watch.epoch,
        fields={"sentence": f"{title(watch)}: rolled back, waiting for the metrics to show it", **fields},
        looks=tuple(fresh),
    )


def _first_proof(watch: Watch, looks: Sequence[StoredLook], applied_at: float) -> StoredLook | None:
    """The first whole interval after the rollback that shows it; intervals that overlap it prove nothing."""
    past = [look for look in looks if interval_bounds(watch, look.interval)[0] < applied_at]
    previous = None
    for look in looks[len(past) :]:
        if recovered(watch.plan, past, look, deciding=watch.metric, previous=previous):
            return look
        previous = look
    return None


def _recovered_words(watch: Watch, applied_at: float) -> str:
    deploy = watch.deploy
    degraded_at = watch.degraded_at if watch.degraded_at is not None else applied_at
    return (
        f"back on {deploy.previous_version}, seen by the metrics; noticed "
        f"{degraded_at - watch.live_at:.0f} s after the deploy, "
        f"undone {max(applied_at - degraded_at, 0):.1f} s later"
    )


def _ended(
    watch: Watch,
    past: Sequence[StoredLook],
    fresh: Sequence[StoredLook],
    state: State,
    why: str,
    now: float,
    recovered_at: float | None,
) -> Change:
    radius = radius_fields(watch, [*past, *fresh], applied_at=recovered_at)
    fields: dict[str, object] = {"recovered_at": recovered_at, **radius}
    if fresh:
        fields["looks"] = max(look.interval for look in fresh) + 1
    told = replace(watch, **fields)  # type: ignore[arg-type]
    why = f"{why}; {_radius_words(told)}"
    fields["sentence"] = f"{title(watch)}: {why}"
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.VERIFYING,
        expect_epoch=watch.epoch,
        to_state=state,
        fields=fields,
        looks=tuple(fresh),
        audit=(
            AuditEntry(
                at=now,
                watch_id=watch.id,
                actor="daemon",
                event=f"watch.{state.outcome}",
                before=watch.state.value,
                after=state.value,
                why=why,
            ),
        ),
        messages=(ending(told, state, why),),
    )


def _radius_words(watch: Watch) -> str:
    if watch.reason == Reason.CANDIDATE_ABSENT.value:
        if watch.share is None or watch.exposed_requests == 0:
            return f"how many requests were sent to {watch.deploy.version} is not known"
        return (
            f"about {count(watch.exposed_requests)} of {count(watch.total_requests)} requests were sent to it in vain"
        )
    reached = (
        f"{count(watch.exposed_requests)} of {count(watch.total_requests)} requests reached {watch.deploy.version}"
    )
    metric = next((m.spec for m in watch.plan.metrics if m.spec.name == watch.metric), None)
    if metric is not None and metric.kind is Kind.RATE and metric.direction is not Direction.UP_IS_BAD:
        return f"{reached}, which cost about {count(watch.affected_requests)} {metric.name}"
    if (fell := fallen(watch.plan, watch.metric)) is not None:
        return f"{reached}, and about {count(watch.affected_requests)} of them are missing in {fell.spec.name}"
    return f"{reached}, {count(watch.affected_requests)} of them went wrong"
