"""An answer that is too much to read costs only the watch whose series it is made of: the others are asked apart.

Watches share queries. Where an answer is too large, its query is asked again in halves, until it fits or one watch is
alone with it. What was found is remembered for a while, so that the next round asks in fitting portions at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from watchdog.ports import Clock
from watchdog.sources.asker import Outcome
from watchdog.sources.inquiry import Width, width
from watchdog.sources.promql import Dialect, Group
from watchdog.sources.questions import Ask

REMEMBER_S = 600.0  # then it is tried together again
LEAST_S = 0.05  # with less time left nothing is asked again

Whose = Mapping[int, str]  # the watch of each question, by identity of the question


@dataclass(frozen=True, slots=True, kw_only=True)
class Portions:
    """What is asked together. Safe in one thread, as a source is asked by one."""

    clock: Clock
    dialect: Dialect
    _alone: dict[tuple[Width, str], float] = field(default_factory=dict)  # → until when
    _most: dict[Width, tuple[int, float]] = field(default_factory=dict)  # watches at a time → until when

    def of(self, groups: Sequence[Group], whose: Whose) -> list[Group]:
        """The groups as they are asked at first: in portions that are known to fit."""
        self._forget()
        return [part for group in groups for part in self._portions(group, whose)]

    def settled(
        self,
        groups: Sequence[Group],
        outcomes: Sequence[Outcome],
        whose: Whose,
        ask: Callable[[Sequence[Group], float], Sequence[Outcome]],
        *,
        deadline: float,
    ) -> list[tuple[Group, Outcome]]:
        """What was answered, with halves in the place of what was too much. deadline: by the monotonic clock."""
        found: list[tuple[Group, Outcome]] = []
        while True:
            again: list[Group] = []
            for group, outcome in zip(groups, outcomes, strict=True):
                halves = self._halves(group, whose) if outcome.too_much else []
                again += halves
                if not halves:
                    found.append((group, outcome))
            left = deadline - self.clock.monotonic()
            if not again or left < LEAST_S:
                late = Outcome(
                    trouble="its answer is too large together with others', and no time was left to ask apart"
                )
                return found + [(group, late) for group in again]
            groups, outcomes = again, ask(again, left)

    def _halves(self, group: Group, whose: Whose) -> list[Group]:
        """Two groups instead of one, or none where that would change nothing."""
        watches = _watches(group, whose)
        until = self.clock.monotonic() + REMEMBER_S
        if len(watches) == 1:
            self._alone[width(group.template), watches[0]] = until
            self._most.pop(width(group.template), None)  # it was this one's fault, not their number's
        if len(watches) == 1 or group.template.ask is Ask.EXPRESSION:  # an expression is the same for all who share it
            return []
        most = (len(watches) + 1) // 2
        self._most[width(group.template)] = (most, until)
        return _parts(group, whose, [watches[:most], watches[most:]])

    def _portions(self, group: Group, whose: Whose) -> list[Group]:
        most, _ = self._most.get(width(group.template), (0, 0.0))
        if not most and not self._alone:
            return [group]
        watches = _watches(group, whose)
        alone = [watch for watch in watches if (width(group.template), watch) in self._alone]
        together = [watch for watch in watches if watch not in alone]
        size = most or max(len(together), 1)
        portions = [together[at : at + size] for at in range(0, len(together), size)]
        return _parts(group, whose, [*portions, *([watch] for watch in alone)])

    def _forget(self) -> None:
        now = self.clock.monotonic()
        for known in [known for known, until in self._alone.items() if until <= now]:
            del self._alone[known]
        for wide in [wide for wide, (_, until) in self._most.items() if until <= now]:
            del self._most[wide]


def _watches(group: Group, whose: Whose) -> list[str]:
    """Whose questions the group answers, in order."""
    return list(dict.fromkeys(whose[id(question)] for question in group.questions))


def _parts(group: Group, whose: Whose, portions: Sequence[Sequence[str]]) -> list[Group]:
    if len(portions) < 2:
        return [group]
    place = {watch: at for at, portion in enumerate(portions) for watch in portion}
    parts: list[list[int]] = [[] for _ in portions]
    for at, question in enumerate(group.questions):
        parts[place[whose[id(question)]]].append(at)
    return [group.of(part) for part in parts]
