"""What a source may offer besides samples: its names. `init` and `check` ask for them; a watch never does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from watchdog.selector import Selector


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Series that have these label values in common, and how many they are now."""

    labels: Mapping[str, str]
    series: int


class Catalogue(Protocol):
    """The names that a source knows. Every failure is a SourceError with one sentence."""

    def names(self) -> list[str]: ...  # of all metrics seen lately
    def labels(self, selector: Selector) -> list[str]: ...  # names of the labels that its series carry
    def label_sets(self, selector: Selector, by: Sequence[str]) -> list[LabelSet]: ...  # of the series alive now
    def sampled_at(self, selector: Selector) -> list[float]: ...  # when one series was sampled, the last minutes
    def clock_ahead_s(self) -> float | None: ...  # how far its clock is before ours; None: it does not say


@runtime_checkable
class HasCatalogue(Protocol):
    """A source that can be asked for its names."""

    @property
    def catalogue(self) -> Catalogue: ...
