"""For those who come late, by an old link in a chat or by a second click: who has decided already, and what."""

from watchdog.model import AuditEntry, Watch
from watchdog.ports import Ledger
from watchdog.web.errors import ApiError
from watchdog.web.rendering import moment, segment, words

SECOND_CLICK_S = 60.0
_DONE = {
    "operator.approve": "approved the {deed}",
    "operator.deny": "denied the {deed}",
    "operator.rollback": "rolled back",
    "operator.cancel": "stopped watching",
    "operator.migrate_down": "had the migration taken back",
}


def last_decision(ledger: Ledger, watch: Watch) -> AuditEntry | None:
    """The newest word of a human about a watch, labels aside."""
    return next((entry for entry in reversed(ledger.audit(watch.id)) if entry.event in _DONE), None)


def is_repeated(ledger: Ledger, watch: Watch, verb: str, actor: str, now: float) -> bool:
    """Whether the newest decision is this very one, by this very person, just now: a second click."""
    last = last_decision(ledger, watch)
    if last is None or last.at < now - SECOND_CLICK_S:
        return False
    return (last.event, last.actor) == (f"operator.{verb.replace('-', '_')}", actor)


def too_late(ledger: Ledger, watch: Watch) -> ApiError:
    """What to tell somebody whose decision is no longer asked for."""
    name = f"{watch.deploy.service} {watch.deploy.version}"
    last = last_decision(ledger, watch)
    remedy = "Nobody has decided about it; its page says what happened."
    if last is not None:
        why = f": {last.why}" if last.why else ""
        done = _DONE[last.event].format(deed=last.details.get("deed") or "rollback")
        remedy = f"{last.actor.removeprefix('token:')} {done} at {moment(last.at)}{why}"
    message = f"There is nothing to decide here now: {name} is {words(watch.state.value)}."
    return ApiError(409, message, remedy=remedy, onward=f"/deploys/{segment(watch.id)}")
