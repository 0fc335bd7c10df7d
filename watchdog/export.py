"""What a ledger holds as recorded cases: what the judge knew at each deploy's last verdict, and what it said then."""

from collections.abc import Iterable, Iterator, Sequence
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
    """Every deploy that was judged at least once, newest first; a mistyped name is refused before anything is read.

    Parameters
    ----------
    service
        Only this service's deploys.
    only
        Only these deploys; all without it.

    Raises
    ------
    NotFoundError
        One of `only`, or any deploy of the service, is not on record.
    """
    if service is not None and not ledger.watches(service=service, limit=1):
        raise NotFoundError(f"no deploy of {service!r} is on record", permanent=True)
    known = ledger.watches_of(only)
    for name in only:
        if name not in known:
            raise NotFoundError(f"no deploy {name!r} is on record", permanent=True)
    return _judged(ledger, [known[name] for name in dict.fromkeys(only)] if only else _all(ledger, service), service)


def _judged(ledger: Ledger, watches: Iterable[Watch], service: str | None) -> Iterator[Recording]:
    for watch in watches:
        last = ledger.verdicts(watch.id, last=1)
        if last and (service is None or watch.deploy.service == service):
            yield recording(ledger, watch, last[0])


def recording(ledger: Ledger, watch: Watch, said: StoredVerdict) -> Recording:
    """One deploy as the judge knew it at one verdict: nothing that was stored later."""
    looks = [look for look in ledger.looks(watch.id) if max(look.interval, look.facts.known_from or 0) <= said.look]
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
