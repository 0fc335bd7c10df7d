"""In which order the sources of a round are asked, and how long they may take together."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

OF_THE_LEASE = 2 / 3  # for asking; the rest is for judging and recording what was heard
PATIENT_EVERY = 6  # asking of a source that hangs: one that is slow at a long past is heard at last, whatever it costs


@dataclass(slots=True, kw_only=True, eq=False)
class SourceOrder:
    """The quick ones first, so that one that hangs costs the watches of the others nothing.

    lease_s: after which other daemons take the watches over, and what was heard is lost; inf where there are none. A
    source for which no time is left is asked first in the next round.
    """

    lease_s: float = math.inf
    _took: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _hung: dict[str, int] = field(default_factory=dict, init=False, repr=False)  # times in a row

    def of(self, names: Collection[str]) -> list[str]:
        return sorted(names, key=lambda name: (self._took.get(name, 0.0), name))

    def left_s(self, spent_s: float) -> float:
        """What is left of the round's time for asking."""
        return self.lease_s * OF_THE_LEASE - spent_s

    def is_worth_patience(self, name: str) -> bool:
        """Whether a source may be given longer for a long past: not each time while it hangs, others wait for it."""
        return self._hung.get(name, 0) % PATIENT_EVERY == 0

    def took(self, name: str, seconds: float, *, deadline_s: float = math.inf) -> None:
        """deadline_s: after which a source that was asked for a look counts as hanging."""
        self._took[name] = seconds
        self._hung[name] = self._hung.get(name, 0) + 1 if seconds >= deadline_s else 0

    def left_out(self, name: str) -> None:
        """No time was left for it."""
        self._took[name] = 0.0
