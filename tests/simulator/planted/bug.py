"""How a bug is planted: parts of the product are replaced for as long as one run takes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from tests.simulator.faults import Fault
from tests.simulator.traps import Trap


class Ground:
    """Where a bug goes in: everything that is replaced comes back when the run is over."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def put(self, owner: object, name: str, value: object) -> None:
        self._stack.enter_context(patch.object(owner, name, value))

    def wrap(self, owner: object, name: str, wrapper: Callable[..., Any]) -> None:
        """Replace a function; the new one gets the real one as its first argument."""
        real = getattr(owner, name)
        self.put(owner, name, lambda *args, **named: wrapper(real, *args, **named))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedBug:
    """breaks: the invariants of which at least one must be violated. seeds: runs that showed it lately.
    needs: faults without which it cannot show, so that other worlds need not be tried. trap: the moment that it needs.
    """

    name: str
    breaks: frozenset[str]
    seeds: tuple[int, ...]
    needs: tuple[Fault, ...]
    into: Callable[[Ground], None]
    trap: Trap | None = None

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            self.into(Ground(stack))
            yield


@dataclass(slots=True)
class Bugs:
    """The bugs of one file, in its order."""

    bugs: list[PlantedBug] = field(default_factory=list)

    def breaks(
        self, invariants: str, *seeds: int, needs: tuple[Fault, ...] = (), trap: Trap | None = None
    ) -> Callable[[Callable[[Ground], None]], Callable[[Ground], None]]:
        """Enter a function as a bug; its name in words is the bug's."""

        def enter(into: Callable[[Ground], None]) -> Callable[[Ground], None]:
            name = into.__name__.replace("_", " ")
            self.bugs.append(
                PlantedBug(
                    name=name, breaks=frozenset(invariants.split()), seeds=seeds, needs=needs, into=into, trap=trap
                )
            )
            return into

        return enter
