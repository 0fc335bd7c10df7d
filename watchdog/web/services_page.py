"""What the page of all services shows: a row for each, with how its deploys went and how good its verdicts were."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from watchdog.ports import Clock, Ledger, Tally
from watchdog.quality import quality
from watchdog.web.auth import Caller
from watchdog.web.service_page import LAST_DAYS, failures

_DAY_S = 86400


def services_model(caller: Caller, ledger: Ledger, clock: Clock) -> dict[str, Any]:
    """The services that a caller may see and that were deployed lately, by name."""
    since = clock.now() - LAST_DAYS * _DAY_S
    found: defaultdict[str, list[Tally]] = defaultdict(list)
    for tally in ledger.tallies(since=since):
        if caller.serves(tally.service):
            found[tally.service].append(tally)
    return {
        "here": "services",
        "days": LAST_DAYS,
        "services": [_row(name, found[name]) for name in sorted(found)],
    }


def _row(name: str, tallies: Sequence[Tally]) -> dict[str, Any]:
    newest = max(tallies, key=lambda tally: tally.day)
    return {
        "name": name,
        "mode": newest.mode,
        "last": datetime.fromtimestamp(newest.day * _DAY_S, tz=UTC).strftime("%Y-%m-%d"),
        "count": sum(tally.count for tally in tallies),
        "failures": failures(tallies),
        "quality": quality(tallies),
    }
