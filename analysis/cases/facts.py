"""What was known about the intervals of a recorded case apart from their values."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from analysis.prepare import LookFacts
from analysis.result import SourceStatus

_WORST_FIRST = (SourceStatus.DOWN, SourceStatus.PARTIAL, SourceStatus.OK)


def facts_of(told: Iterable[Mapping[str, Any]]) -> dict[int, LookFacts]:
    """Read the `facts` of a case (KeyError, TypeError or ValueError where they are none).

    >>> facts_of([{"interval": 3, "status": "down"}])[3].status.value
    'down'
    """
    known = {field.name for field in fields(LookFacts)} - {"status"}
    return {
        int(one["interval"]): LookFacts(
            status=SourceStatus(one.get("status", "ok")), **{name: one[name] for name in known if name in one}
        )
        for one in told
    }


def facts_told(facts: Mapping[int, LookFacts]) -> list[dict[str, Any]]:
    """The same as JSON values, oldest first; what nobody knows is left out.

    >>> facts_told({0: LookFacts(candidate_up=2)})
    [{'interval': 0, 'status': 'ok', 'candidate_up': 2}]
    """
    names = [field.name for field in fields(LookFacts)]
    told = []
    for interval, fact in sorted(facts.items()):
        values = {name: getattr(fact, name) for name in names}
        known = {
            name: value for name, value in values.items() if value is not None and value is not False and value != ""
        }
        told.append({"interval": interval, **known, "status": fact.status.value})
    return told


def put_together(facts: Mapping[int, LookFacts], steps: int) -> dict[int, LookFacts]:
    """The facts of looks of several intervals: those at the look's end, under the worst status of its intervals; a
    share that changed between them is no share of the look; of a past that came late, when the last of it came.

    >>> both = {0: LookFacts(status=SourceStatus.DOWN), 1: LookFacts(candidate_up=1)}
    >>> put_together(both, 2)[0].status.value, put_together(both, 2)[0].candidate_up
    ('down', 1)
    >>> put_together({-1: LookFacts(known_from=4)}, 2)[-1].known_from
    2
    """
    if steps == 1:
        return dict(facts)
    groups: dict[int, list[LookFacts]] = {}
    for interval, fact in sorted(facts.items()):
        groups.setdefault(interval // steps, []).append(fact)
    return {
        look: replace(
            several[-1],
            status=min((f.status for f in several), key=_WORST_FIRST.index),
            share=several[-1].share if len({f.share for f in several}) == 1 else None,
            known_from=max((f.known_from // steps for f in several if f.known_from is not None), default=None),
        )
        for look, several in groups.items()
    }
