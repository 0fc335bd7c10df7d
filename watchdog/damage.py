"""A watch of which the ledger cannot be read: nobody can judge it any more, so a human is told, at once. Pure."""

from watchdog.clean_text import clean
from watchdog.errors import LedgerCorruptError
from watchdog.intended import rollback_action
from watchdog.model import (
    Action,
    ActionState,
    AuditEntry,
    Change,
    HoldReason,
    Message,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.telling import ending, message, title

_MOST_CHARACTERS = 200  # of what the reader said


def damaged(watch: Watch, error: LedgerCorruptError, now: float) -> Change | None:
    """Held for it, with a rollback that waits for approval; a rollback of which nobody can prove that it helped, ends.

    None where it stands already as it should.
    """
    said = clean(error.message.partition("; ")[0])[:_MOST_CHARACTERS]
    if watch.state is State.VERIFYING:
        why = f"nobody can tell whether the rollback helped: {said}; {_REMEDY}"
        return _turn(watch, State.NOT_RECOVERED, why, ending(watch, State.NOT_RECOVERED, why), now)
    if watch.is_judged:
        why = f"it cannot be judged any more: {said}; {_what_now(watch)}; {_REMEDY}"
        sentence = f"{title(watch)}: {why}"
        told = message(watch, MessageKind.HELD, Severity.PAGE, sentence, state=State.HELD, key=f"damaged:{now:.3f}")
        return _turn(watch, State.HELD, why, told, now)
    return None


_REMEDY = "the damage is in the ledger: look at its disk, and put a backup in its place when no deploy is watched"


def _what_now(watch: Watch) -> str:
    deploy = watch.deploy
    if watch.plan.rollback_hook is None or deploy.previous_version is None:
        return f"watch it yourself, and put a good version of {deploy.service} back if it is bad"
    return f"watch it yourself; approve to go back to {deploy.previous_version}, deny to stay"


def _turn(watch: Watch, to_state: State, why: str, told: Message, now: float) -> Change:
    held = to_state is State.HELD
    fields: dict[str, object] = {"sentence": f"{title(watch)}: {why}"}
    if held:
        fields |= {"hold": HoldReason.DAMAGED, "hold_until": now + watch.plan.hold_s}
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        expect_epoch=watch.epoch,
        to_state=to_state if to_state is not watch.state else None,
        fields=fields,
        new_action=_way_back(watch, now) if held else None,
        audit=(
            AuditEntry(
                at=now,
                watch_id=watch.id,
                actor="daemon",
                event="watch.damaged",
                before=watch.state.value,
                after=to_state.value,
                why=why,
            ),
        ),
        messages=(told,),
    )


def _way_back(watch: Watch, now: float) -> Action | None:
    """What a human may approve; one that is held already has its own."""
    return rollback_action(watch, ActionState.HELD, now) if watch.state is State.WATCHING else None
