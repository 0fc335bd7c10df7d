"""Reads deploys from a ledger itself: no daemon is needed, and nothing is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from watchdog.app import read_ledger
from watchdog.cli.client import LOOKED_AT, completed
from watchdog.errors import NotFoundError, WatchdogError
from watchdog.model import State
from watchdog.ports import Ledger
from watchdog.quality import report
from watchdog.web.views import recorded_json, watch_summary


def read_list(path: Path, *, service: str | None, state: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the newest watches of a ledger, as the API lists them."""
    states = frozenset({_state(state)}) if state is not None else None
    with _opened(path) as ledger:
        return [watch_summary(watch) for watch in ledger.watches(service=service, states=states, limit=limit)]


def read_one(path: Path, deploy_id: str) -> dict[str, Any]:
    """Return one watch of a ledger, as the API shows it."""
    with _opened(path) as ledger:
        watch = ledger.watch(deploy_id) or ledger.watch(
            completed(deploy_id, (one.id for one in ledger.watches(limit=LOOKED_AT)))
        )
        if watch is None:
            raise NotFoundError(
                f"no deploy {deploy_id!r} is on record in {path}; `deploy-watchdog list --ledger {path}` shows them",
                permanent=True,
            )
        return recorded_json(ledger, watch)


def read_quality(path: Path, *, service: str | None, by: str) -> dict[str, Any]:
    """Return how good the verdicts of a ledger were."""
    with _opened(path) as ledger:
        return report(ledger.tallies(service=service), by=by)


@contextmanager
def _opened(path: Path) -> Iterator[Ledger]:
    ledger = read_ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def _state(text: str) -> State:
    try:
        return State(text.upper())
    except ValueError:
        near = get_close_matches(text.upper(), [state.value for state in State], n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(State)}"
        raise WatchdogError(f"--state {text!r} is no state; {hint}", permanent=True) from None
