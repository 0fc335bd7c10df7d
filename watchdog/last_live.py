"""Which version is live at a place, as far as its watches tell. Pure.

Systems tell of a version for many reasons: a sync, a configuration that changed, a job that is run once more. What is
live already was not deployed, and whoever began to watch it anew would end the watch that stands.
"""

from collections.abc import Sequence

from watchdog.deploy_request import DeployRequest
from watchdog.model import AuditEntry, Deploy, State, Watch

# Of the same version: its watch goes on, or it ended with that version live. One that went back is none of them, nor is
# one of which nobody can tell.
_STANDS = frozenset(
    {
        State.SMOKE,
        State.WATCHING,
        State.HELD,
        State.INTENT,
        State.RUNNING,
        State.RETRY_WAIT,
        State.PASSED,
        State.INCONCLUSIVE,
        State.CANCELLED,
    }
)
_LIVE = frozenset({State.PASSED, State.INCONCLUSIVE, State.SUPERSEDED, State.CANCELLED, State.WATCHING, State.HELD})
_WHAT_IT_IS_TOLD_WITH = {"id", "service", "environment", "version", "previous_version", "deployed_at"}


def before(newest_first: Sequence[Watch], version: str) -> str | None:
    """The version that was live before this one came."""
    for watch in newest_first:
        if watch.deploy.version == version:
            continue
        if watch.state in _LIVE and not _never_went_live(watch):
            return watch.deploy.version
        if watch.state in (State.ROLLED_BACK, State.NOT_RECOVERED):
            return watch.deploy.previous_version
    return None


def standing(newest_first: Sequence[Watch], version: str) -> Watch | None:
    """The watch by which this version is live already; None where another one was live since, or nobody can tell."""
    came = [watch for watch in newest_first if watch.deploy.version == version or not _never_went_live(watch)]
    newest = next(iter(came), None)
    if newest is None or newest.deploy.version != version or newest.state not in _STANDS:
        return None
    if newest.plan.bakes:  # the deploy that bakes knows with which share and train it came
        return next((one for one in came[1:] if one.deploy.version == version and not one.plan.bakes), newest)
    return None if newest.state in (State.CANCELLED, State.HELD) and _never_went_live(newest) else newest


def adds_nothing(request: DeployRequest, deploy: Deploy) -> bool:
    """Whether an event says nothing of its version that is not on record: no other share, no migration, no train."""
    said = request.model_dump(exclude=_WHAT_IT_IS_TOLD_WITH, exclude_defaults=True)
    said["instances"] = {arm: tuple(names) for arm, names in request.instances.items()} or deploy.instances
    return all(getattr(deploy, name) == value for name, value in said.items())


def may_stay(entries: Sequence[AuditEntry]) -> bool:
    """Whether a human denied the rollback of a deploy, and so said that its version may stay."""
    return any(entry.event == "operator.deny" and entry.after == State.CANCELLED for entry in entries)


def _never_went_live(watch: Watch) -> bool:
    """Whether a deploy ended, or still stands, before its version took traffic."""
    return watch.state is State.SMOKE_FAILED or (watch.plan.switch_hook is not None and watch.switched_at is None)
