"""The timeline of a deploy's page: transitions, actions, people's words and notices in one order. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from watchdog.model import AuditEntry, Watch
from watchdog.ports import OutboxRow
from watchdog.web.rendering import moment
from watchdog.web.scales import clock
from watchdog.web.views import timeline

_KINDS: Sequence[tuple[str, str]] = (("operator.", "person"), ("action.", "action"))


def events(
    watch: Watch, audit: Iterable[AuditEntry], messages: Iterable[tuple[OutboxRow, str]]
) -> list[dict[str, Any]]:
    """Oldest first; a notice to several places is one event. `day` stands where another day begins."""
    found = [event | {"kind": _kind(event["event"]), "places": []} for event in timeline(watch, audit)]
    notices: dict[str, dict[str, Any]] = {}
    for row, state in messages:
        said = row.message
        notice = notices.setdefault(
            said.key, {"at": row.created_at, "event": "told", "text": said.sentence, "kind": "notice", "places": []}
        )
        notice["places"].append({"sink": row.sink, "state": state})
    ordered = sorted([*found, *notices.values()], key=lambda event: float(event["at"]))
    day = ""
    for event in ordered:
        date, time = (*moment(event["at"]).split(" "), "", "")[:2]
        event |= {"day": date if date != day else "", "time": time, "since": clock(event["at"] - watch.live_at)}
        day = date
    return ordered


def _kind(event: str) -> str:
    return next((kind for start, kind in _KINDS if event.startswith(start)), "turn")
