"""How the instances of a service stand at the end of an interval, by what became of reading their pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.prepare import LookFacts
from analysis.result import Arm, SourceStatus
from watchdog.sources.ring import Health, Scrape

_NAMED = 3  # pages named in a sentence


@dataclass(frozen=True, slots=True)
class Stand:
    """One page at one moment; None where nobody was reading then."""

    url: str
    scrape: Scrape | None

    def is_(self, *healths: Health) -> bool:
        return self.scrape is not None and self.scrape.health in healths


def standing(service: str, arms: Mapping[str, Sequence[Stand]]) -> LookFacts:
    """What the pages prove: who serves, who does not, and whether anybody can tell."""
    stands = list({stand.url: stand for found in arms.values() for stand in found}.values())
    read = [stand for stand in stands if stand.scrape is not None]
    if not read:
        why = f"no page of {service} was read at that time" if stands else f"no page belongs to {service}"
        return LookFacts(detail=why)
    troubled = [stand for stand in read if not stand.is_(Health.UP)]
    if len(troubled) == len(read):
        why = f"every /metrics page of {service} is unreachable: {_told(troubled)}"
        return LookFacts(status=SourceStatus.DOWN, detail=why)
    baseline, candidate = _apart(arms)
    unreadable = [name for name, found in arms.items() if found and _is_unreadable(name, found)]
    return LookFacts(
        status=SourceStatus.PARTIAL if unreadable else SourceStatus.OK,
        baseline_up=_alive(baseline),
        candidate_up=_alive(candidate),
        candidate_down=None if candidate is None else sum(stand.is_(Health.FAILING) for stand in candidate),
        detail=_told(troubled) if troubled else "",
    )


def _apart(arms: Mapping[str, Sequence[Stand]]) -> tuple[Sequence[Stand] | None, Sequence[Stand] | None]:
    """The pages of baseline and candidate; None for both where one page serves both arms, and for an unasked arm."""
    baseline, candidate = arms.get(Arm.BASELINE), arms.get(Arm.CANDIDATE)
    if {stand.url for stand in baseline or ()} & {stand.url for stand in candidate or ()}:
        return None, None
    return baseline or None, candidate or None


def _alive(stands: Sequence[Stand] | None) -> int | None:
    """Instances that answer, if only with a page nobody can read; None where nobody was reading, or got there."""
    if stands is None or all(stand.scrape is None or stand.is_(Health.UNKNOWN) for stand in stands):
        return None
    return sum(stand.is_(Health.UP, Health.UNREADABLE) for stand in stands)


def _is_unreadable(arm: str, stands: Sequence[Stand]) -> bool:
    """Whether an arm has no page to compare: a candidate that fails wholly is a finding, everything else is a gap."""
    if any(stand.is_(Health.UP) for stand in stands):
        return False
    no_proof = (Health.UNREADABLE, Health.UNKNOWN)
    blamed = no_proof if arm == Arm.CANDIDATE else (*no_proof, Health.FAILING)
    return any(stand.is_(*blamed) for stand in stands)


def _told(troubled: Sequence[Stand]) -> str:
    told = [f"{stand.url}: {stand.scrape.reason}" for stand in troubled[:_NAMED] if stand.scrape is not None]
    more = len(troubled) - _NAMED
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
