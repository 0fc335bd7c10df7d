"""What a sink may offer besides words: a sign of life at regular intervals, whose absence somebody else tells."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class Beats(Protocol):
    """Called every `every_s` seconds while the daemon is well. SinkError where nobody took it."""

    @property
    def every_s(self) -> float: ...
    def beat(self, facts: Mapping[str, object]) -> None: ...
