"""An answer that is too much to read costs only the watch whose series it is made of: the others are asked apart.

Watches share queries. Where an answer is too large, its query is asked again in halves, until it fits or one watch is
alone with it; where that one has too many series, for sums over its instances. What was found is remembered for a
while, so that the next round asks in fitting portions at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from watchdog.ports import Clock
from watchdog.sources.asker import Outcome
from watchdog.sources.inquiry import Width, may_be_summed, width
from watchdog.sources.promql import Dialect, Group
from watchdog.sources.questions import Ask

REMEMBER_S = 600.0  # then it is tried together again
LEAST_S = 0.05  # with less time left nothing is asked again

Whose = Mapping[int, str]  # the watch of each question, by identity of the question
_Kind = tuple[Width, bool]  # of answers: what decides how many series there are, and whether they are sums


class Portion(NamedTuple):
    """What is one query; summed: over the instances, by Prometheus."""

    group: Group
    summed: bool = False

    @property
    def kind(self) -> _Kind:
        return width(self.group.template), self.summed


@dataclass(frozen=True, slots=True, kw_only=True)
class Portions:
    """What is asked together. Safe in one thread, as a source is asked by one."""

    clock: Clock
    dialect: Dialect
    _alone: dict[tuple[_Kind, str], float] = field(default_factory=dict)  # → until when
    _wide: dict[tuple[Width, str], float] = field(default_factory=dict)  # asked for sums → until when
    _most: dict[_Kind, tuple[int, float]] = field(default_factory=dict)  # watches at a time → until when

    def of(self, groups: Sequence[Group], whose: Whose) -> list[Portion]:
        """The groups as they are asked at first: in portions that are known to fit."""
        self._forget()
        return [part for group in groups for own in self._by_kind(group, whose) for part in self._fitting(own, whose)]

    def settled(
        self,
        portions: Sequence[Portion],
        outcomes: Sequence[Outcome],
        whose: Whose,
        ask: Callable[[Sequence[Portion], float], Sequence[Outcome]],
        *,
        deadline: float,
    ) -> list[tuple[Portion, Outcome]]:
        """What was answered, with less in the place of what was too much. deadline: by the monotonic clock."""
        found: list[tuple[Portion, Outcome]] = []
        while True:
            again: list[Portion] = []
            for portion, outcome in zip(portions, outcomes, strict=True):
                less = self._less(portion, outcome, whose) if outcome.too_much else []
                again += less
                if not less:
                    found.append((portion, outcome))
            left = deadline - self.clock.monotonic()
            if not again or left < LEAST_S:
                late = Outcome(
                    trouble="its answer is too large together with others, and no time was left to ask apart"
                )
                return found + [(portion, late) for portion in again]
            portions, outcomes = again, ask(again, left)

    def _less(self, portion: Portion, outcome: Outcome, whose: Whose) -> list[Portion]:
        """Two halves instead of one, of a single watch with too many series their sums, or none where nothing helps."""
        group = portion.group
        watches = _watches(group, whose)
        until = self.clock.monotonic() + REMEMBER_S
        if len(watches) == 1:
            self._most.pop(portion.kind, None)  # it was this one's fault, not their number's
            if outcome.too_many and not portion.summed and may_be_summed(group):
                self._wide[width(group.template), watches[0]] = until
                return [Portion(group, summed=True)]
            self._alone[portion.kind, watches[0]] = until
        if len(watches) == 1 or group.template.ask is Ask.EXPRESSION:  # an expression is the same for all who share it
            return []
        most = (len(watches) + 1) // 2
        self._most[portion.kind] = (most, until)
        return _parts(portion, whose, [watches[:most], watches[most:]])

    def _by_kind(self, group: Group, whose: Whose) -> list[Portion]:
        """Those of which sums are asked apart from the others: where they are many, all in one query again."""
        if not self._wide:
            return [Portion(group)]
        watches = _watches(group, whose)
        wide = [watch for watch in watches if (width(group.template), watch) in self._wide]
        if not wide or not may_be_summed(group):
            return [Portion(group)]
        others = [watch for watch in watches if watch not in set(wide)]
        if not others:
            return [Portion(group, summed=True)]
        plain, summed = _parts(Portion(group), whose, [others, wide])
        return [plain, summed._replace(summed=True)]

    def _fitting(self, portion: Portion, whose: Whose) -> list[Portion]:
        most, _ = self._most.get(portion.kind, (0, 0.0))
        if not most and not self._alone:
            return [portion]
        watches = _watches(portion.group, whose)
        alone = [watch for watch in watches if (portion.kind, watch) in self._alone]
        together = [watch for watch in watches if watch not in alone]
        size = most or max(len(together), 1)
        parts = [together[at : at + size] for at in range(0, len(together), size)]
        return _parts(portion, whose, [*parts, *([watch] for watch in alone)])

    def _forget(self) -> None:
        now = self.clock.monotonic()
        for known in [known for known, until in self._alone.items() if until <= now]:
            del self._alone[known]
        for one in [one for one, until in self._wide.items() if until <= now]:
            del self._wide[one]
        for kind in [kind for kind, (_, until) in self._most.items() if until <= now]:
            del self._most[kind]


def _watches(group: Group, whose: Whose) -> list[str]:
    """Whose questions the group answers, in order."""
    return list(dict.fromkeys(whose[id(question)] for question in group.questions))


def _parts(portion: Portion, whose: Whose, watches: Sequence[Sequence[str]]) -> list[Portion]:
    if len(watches) < 2:
        return [portion]
    place = {watch: at for at, some in enumerate(watches) for watch in some}
    parts: list[list[int]] = [[] for _ in watches]
    for at, question in enumerate(portion.group.questions):
        parts[place[whose[id(question)]]].append(at)
    return [portion._replace(group=portion.group.of(part)) for part in parts]
