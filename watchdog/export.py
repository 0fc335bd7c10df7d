"""What a ledger holds as recorded cases: what the judge knew at each deploy's last verdict, and what it said then."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from analysis.cases import Recording
from watchdog.errors import NotFoundError
from watchdog.judging import observation
from watchdog.model import RESTING, Action, ActionKind, ActionState, Label, LabelKind, Watch
from watchdog.ports import Ledger, StoredVerdict

_DONE = frozenset({ActionState.APPLIED, ActionState.NOT_NEEDED})
_CALLED_BAD = "DEGRADED"
_PAGE = 200


def recordings(ledger: Ledger, *, service: str | None = None, only: Sequence[str] = ()) -> Iterator[Recording]:
    """Every deploy that was judged at least once, newest first.

    Parameters
    ----------
    service
        Only this service's deploys.
    only
        Only these deploys; all without it.

    Raises
    ------
    NotFoundError
        One of `only` is not on record.
    """
    for watch in _named(ledger, only) if only else _all(ledger, service):
        last = ledger.verdicts(watch.id, last=1)
        if last and (service is None or watch.deploy.service == service):
            yield recording(ledger, watch, last[0])


def recording(ledger: Ledger, watch: Watch, said: StoredVerdict) -> Recording:
    """One deploy as the judge knew it at one verdict: nothing that was stored later."""
    looks = [look for look in ledger.looks(watch.id) if look.interval <= said.look]
    then = replace(watch, step=step_at(ledger.actions(watch_id=watch.id), said.at))
    return Recording(
        id=watch.id,
        observation=observation(then, looks),
        settings=watch.plan.judge,
        told=_told(watch, said, ledger.labels([watch.id]).get(watch.id)),
    )


def step_at(actions: Sequence[Action], at: float) -> int:
    """Which step of its roll-out a watch had reached: promotions count once they are done."""
    done = [
        int(action.params["step"])
        for action in actions
        if action.kind is ActionKind.PROMOTE
        and action.state in _DONE
        and action.finished_at is not None
        and action.finished_at < at
    ]
    return max(done, default=0)


def _named(ledger: Ledger, ids: Sequence[str]) -> Iterator[Watch]:
    for name in ids:
        watch = ledger.watch(name)
        if watch is None:
            raise NotFoundError(f"no deploy {name!r} is on record", permanent=True)
        yield watch


def _all(ledger: Ledger, service: str | None) -> Iterator[Watch]:
    page = ledger.watches(service=service, limit=_PAGE)
    while page:
        yield from page
        last = page[-1]
        page = ledger.watches(service=service, limit=_PAGE, before=last.created_at, before_id=last.id)


def _told(watch: Watch, said: StoredVerdict, label: Label | None) -> dict[str, Any]:
    deploy = watch.deploy
    truth = _truth(said, label)
    return {
        "dataset": "ledger",
        "entity": deploy.service,
        "group": deploy.service,
        "environment": deploy.environment,
        "version": deploy.version,
        "previous_version": deploy.previous_version,
        "deploy_strategy": deploy.strategy.value,
        "deploy_time": datetime.fromtimestamp(watch.live_at, UTC).isoformat(),
        "mode": watch.mode.value,
        "outcome": watch.state.outcome if watch.state in RESTING else None,
        "said": {
            "verdict": said.kind,
            "reason": said.reason,
            "metric": said.metric,
            "look": said.look,
            "sentence": said.sentence,
        },
        "label": label.kind.value if label is not None else None,
        **({} if truth is None else {"kind": truth, "onset_s": 0.0}),
    }


def _truth(said: StoredVerdict, label: Label | None) -> str | None:
    """What an analyst's word means in the case format; without one the truth is not known."""
    alarm = said.kind == _CALLED_BAD
    if label is None or label.kind is LabelKind.UNCLEAR:
        return None
    if label.kind is LabelKind.RIGHT:
        return "fault" if alarm else "AA"
    return "fault" if label.kind is LabelKind.MISSED else "AA"
