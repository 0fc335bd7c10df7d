"""What the list shows: what needs somebody, what is being watched, and everything else, newest first."""

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from watchdog.model import FINAL, ActionKind, ActionState, HoldReason, State, Watch
from watchdog.ports import Ledger
from watchdog.web.auth import Caller
from watchdog.web.errors import ApiError
from watchdog.web.reading import IDENTIFIER, NEWEST, Position, Reading, Sought
from watchdog.web.views import watch_summary

SHOWN = 50
OPEN = frozenset(State) - FINAL
_OPEN_WORD = "open"
_WAITING = frozenset({State.HELD, State.UNKNOWN})


def list_model(
    request: Request, caller: Caller, reading: Reading, ledger: Ledger, paused: str | None
) -> dict[str, Any]:
    """The page that the address asks for. Open deploys stand first, on the first page without a filter of states."""
    asked = {name: request.query_params.get(name, "") for name in ("service", "environment", "state")}
    sought, position = _sought(asked), _position(request.query_params)
    is_front = position == NEWEST and sought.states is None
    now: list[Watch] = []
    if is_front:
        still = Sought(service=sought.service, environment=sought.environment, states=OPEN)
        found, _ = reading.page(caller, still, limit=2 * SHOWN)
        now = [watch for watch in found if not is_only_observed(watch)]
    found, following = reading.page(caller, sought, limit=SHOWN, before=position)
    above = {watch.id for watch in now}
    asking = _asking(ledger) if now else frozenset()
    needs = [
        watch for watch in now if watch.state in _WAITING or (watch.state is State.WATCHING and watch.id in asking)
    ]
    rest = [watch for watch in found if watch.id not in above]
    labels = ledger.labels([watch.id for watch in rest])
    return {
        "here": "deploys",
        "needs": [_row(w) | {"asked_share": w.next_share if w.id in asking else None} for w in needs],
        "watched": [_row(w) for w in now if w not in needs],
        "rest": [_row(w) | {"label": said.kind.value if (said := labels.get(w.id)) else None} for w in rest],
        "paused": paused,
        "asked": asked,
        "is_front": is_front,
        "is_filtered": any(asked.values()),
        "services": reading.services(caller),
        "environments": ledger.environments() if caller.serves_all else [],
        "states": [(state.value.lower(), state.value.replace("_", " ").lower()) for state in State],
        "older": _older(asked, following),
        "newest": "/?" + urlencode({k: v for k, v in asked.items() if v}) if position != NEWEST else None,
    }


def is_only_observed(watch: Watch) -> bool:
    """It was worse in mode observe: it is said what would have been done, and nobody is asked."""
    return watch.state is State.HELD and watch.hold is HoldReason.MODE_OBSERVE


def _asking(ledger: Ledger) -> frozenset[str]:
    """The deploys whose next step waits for its approval, while they are watched on."""
    held = ledger.actions(states=frozenset({ActionState.HELD}))
    return frozenset(action.watch_id for action in held if action.kind is ActionKind.PROMOTE)


def _row(watch: Watch) -> dict[str, Any]:
    return watch_summary(watch) | {"is_open": watch.state in OPEN, "label": None}


def _sought(asked: Mapping[str, str]) -> Sought:
    for name in ("service", "environment"):
        if asked[name] and not re.fullmatch(IDENTIFIER, asked[name]):
            raise ApiError(422, f"There can be no {name} of this name.")
    states = None
    if asked["state"] == _OPEN_WORD:
        states = OPEN
    elif asked["state"]:
        if asked["state"].upper() not in State.__members__:
            raise ApiError(422, "There is no such state.")
        states = frozenset({State[asked["state"].upper()]})
    return Sought(service=asked["service"] or None, environment=asked["environment"] or None, states=states)


def _position(given: Mapping[str, str]) -> Position:
    if "before" not in given:
        return NEWEST
    try:
        before = float(given["before"])
    except ValueError:
        before = math.nan
    if not math.isfinite(before) or len(given.get("before_id", "")) > 256:
        raise ApiError(422, "There is no such page.")
    return before, given.get("before_id")


def _older(asked: Mapping[str, str], following: Position) -> str | None:
    if following == NEWEST:
        return None
    kept = {name: value for name, value in asked.items() if value}
    return "/?" + urlencode({**kept, "before": repr(following[0]), "before_id": following[1] or ""})
