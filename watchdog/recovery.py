"""After a rollback: does production show that it took effect? Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from analysis.result import Design, Direction, Kind, Reason, SourceStatus, VerdictKind
from analysis.sentence import count
from watchdog.blast_radius import fallen, nothing_was_worse, radius_fields, recovered
from watchdog.model import Action, AuditEntry, Change, State, StoredLook, Watch
from watchdog.strategies.window import interval_bounds
from watchdog.telling import ending, title

FEWEST_LOOKS = 4  # a rollback is given the time of so many looks to show, however short verify_s is
_UNSEEN = "was rolled back, look now"


def verify(
    watch: Watch,
    past: Sequence[StoredLook],
    fresh: Sequence[StoredLook],
    rollback: Action | None,
    now: float,
    *,
    newest: Watch | None = None,
) -> Change | None:
    """What the newest looks say about a rollback: recovered, not in time, or wait (looks are recorded anyway).

    newest: the newest deploy of the same place. What another one has brought since proves nothing about this one.
    """
    applied_at = rollback.finished_at if rollback is not None and rollback.finished_at is not None else watch.updated_at
    newer = newest if newest is not None and _is_another(watch, newest) else None
    looks = [*past, *fresh]
    if _is_proven(watch, looks, applied_at, newer):
        end = _End(State.ROLLED_BACK, _recovered_words(watch, applied_at), applied_at, applied_at)
        return _ended(watch, past, fresh, end, now)
    patience_s = max(watch.plan.verify_s, FEWEST_LOOKS * watch.plan.step_s + watch.plan.settle_s)
    catching_up = any(
        interval_bounds(watch, look.interval)[1] <= applied_at for look in fresh
    )  # nobody looked till now
    if now - applied_at > patience_s and not catching_up:
        return _ended(watch, past, fresh, _unproven(watch, looks, applied_at, newer, patience_s), now)
    if not fresh:
        return None
    fields = {
        "looks": max(look.interval for look in fresh) + 1,
        **radius_fields(watch, looks, applied_at=applied_at),
    }
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.VERIFYING,
        expect_epoch=watch.epoch,
        fields={"sentence": f"{title(watch)}: rolled back, waiting for the metrics to show it", **fields},
        looks=tuple(fresh),
    )


class _End(NamedTuple):
    """How a rollback ends."""

    state: State
    why: str
    effect_at: float | None  # since when nobody was on the new version; None: that is not known
    recovered_at: float | None  # the same, where the metrics have shown it
    word: str | None = None  # of the closing message, where the state's own would not be true


def _is_another(watch: Watch, newest: Watch) -> bool:
    """Whether another version has gone live since. A deploy of the version gone back to is the rollback itself, as
    whatever carried it out reports it; one that waits for its switch has changed nothing yet."""
    return newest.id != watch.id and not newest.awaits_switch and newest.deploy.version != watch.deploy.previous_version


def _answers(watch: Watch, looks: Sequence[StoredLook], applied_at: float) -> Iterator[tuple[StoredLook, bool | None]]:
    """The whole intervals after the rollback, each with whether it shows it; those that overlap it prove nothing."""
    past = [look for look in looks if interval_bounds(watch, look.interval)[0] < applied_at]
    absent = watch.reason == Reason.CANDIDATE_ABSENT.value
    previous = None
    for look in looks[len(past) :]:
        yield look, recovered(watch.plan, past, look, deciding=watch.metric, previous=previous, absent=absent)
        previous = look


def _is_proven(watch: Watch, looks: Sequence[StoredLook], applied_at: float, newer: Watch | None) -> bool:
    """Whether an interval shows it. Where only before and after are known, none in which a newer deploy was live can;
    where the versions are told apart, the old one was seen to serve and the new one not."""
    until = math.inf
    if newer is not None and watch.plan.design is Design.BEFORE_AFTER:
        until = newer.live_at
    found = _answers(watch, looks, applied_at)
    return any(shows and interval_bounds(watch, look.interval)[1] <= until for look, shows in found)


def _unproven(
    watch: Watch, looks: Sequence[StoredLook], applied_at: float, newer: Watch | None, patience_s: float
) -> _End:
    """Nothing has shown in time that it took effect: because it did not, or because nobody could see it."""
    done = f"the rollback to {watch.deploy.previous_version} is done"
    found = list(_answers(watch, looks, applied_at))
    before_after = watch.plan.design is Design.BEFORE_AFTER
    still = [shows for _, shows in found if shows is not None][-1:] == [False]
    if newer is not None and (before_after or not still):
        why = f"{done}, and {newer.deploy.version} was deployed meanwhile: nobody saw whether it took effect"
        return _End(State.ROLLED_BACK, why, applied_at, None)
    if not any(look.facts.status is SourceStatus.OK for look, _ in found):
        why = f"{done}, but nobody could see whether it recovered: the source does not answer"
        return _End(State.NOT_RECOVERED, why, None, None, _UNSEEN)
    past, after = looks[: len(looks) - len(found)], [look for look, _ in found]
    degraded = watch.verdict == VerdictKind.DEGRADED.value
    if before_after and not degraded and nothing_was_worse(watch.plan, past, after, deciding=watch.metric):
        by = f" by the word of hook {watch.plan.rollback_hook}" if watch.plan.rollback_hook is not None else ""
        why = f"{done}{by}; nothing was seen to be worse before, so nothing could be seen in the metrics"
        return _End(State.ROLLED_BACK, why, applied_at, None)
    why = f"{done}, but within {patience_s:.0f} s the metrics did not show that it took effect"
    return _End(State.NOT_RECOVERED, why, None, None)


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
    end: _End,
    now: float,
) -> Change:
    radius = radius_fields(watch, [*past, *fresh], applied_at=end.effect_at)
    fields: dict[str, object] = {"recovered_at": end.recovered_at, **radius}
    if fresh:
        fields["looks"] = max(look.interval for look in fresh) + 1
    told = replace(watch, **fields)  # type: ignore[arg-type]
    state, why = end.state, f"{end.why}; {_radius_words(told)}"
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
        messages=(ending(told, state, why, word=end.word),),
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
