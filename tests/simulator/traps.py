"""Faults that wait for their moment: what chance alone would bring together once in many thousand runs.

A trap springs once in a run, where it can. It does nothing that a real machine could not do: it freezes a process for
as long as it takes, kills one, or lets a hook be slow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from tests.simulator.process import Process
from tests.simulator.production import Run
from tests.simulator.timeline import Timeline
from tests.simulator.witness import Witness

TRAPPED = 0.25  # of all runs
MOST_S = 60.0  # that anybody stands still for it
SLOW_S = 6.0  # a hook that takes effect only then


class Trap(StrEnum):
    STALE_CLAIM = "stale claim"  # stands still between its claim and the hook, for longer than a claim is good
    LATE_OUTCOME = "late outcome"  # stands still before it records an outcome, until another one has begun anew
    LATE_LOOK = "late look"  # stands still before it records a look, until another one has the lease
    ORPHAN = "orphan"  # killed in a hook that outlives it and takes effect late; started again at once
    NEIGHBOUR = "neighbour"  # another replica is started again while a slow hook runs


IN_COMPANY = frozenset({Trap.LATE_OUTCOME, Trap.LATE_LOOK, Trap.NEIGHBOUR})
_POINTS = {
    Trap.STALE_CLAIM: "action-claimed",
    Trap.LATE_OUTCOME: "outcome-before-commit",
    Trap.LATE_LOOK: "tick-before-commit",
}


def draw_trap(seed: int) -> Trap | None:
    """Drawn apart, so that a seed's world is the same with and without."""
    random = Random(f"trap {seed}")
    return random.choice(list(Trap)) if random.random() < TRAPPED else None


@dataclass(slots=True)
class Traps:
    """The trap of one run. others: the processes of the other replicas that are up."""

    trap: Trap | None
    timeline: Timeline
    random: Random
    witness: Witness
    others: Callable[[Process], list[Process]]
    trace: Callable[[str], None]
    restarts_at_once: bool = False
    sprung: bool = False
    spared: list[Run] = field(default_factory=list)  # hooks that outlive their daemon, whatever chance says
    _frozen: Process | None = None

    def passes(self, process: Process, point: str) -> None:
        """A process goes through a named point."""
        if self._frozen is not None and self._frozen is not process and point == "tick-claimed":
            process.sleep(1.0)  # so that the one that was frozen comes between lease and look
        if self.trap is None or point != _POINTS.get(self.trap):
            return
        if self.trap is Trap.STALE_CLAIM:
            self._spring(process)
            process.freeze(5.5 + 4.0 * self.random.random())
        elif self.others(process):
            self._until(process, self._begun_anew() if self.trap is Trap.LATE_OUTCOME else self._taken_over(process))

    def hook_starts(self, run: Run) -> None:
        """A hook begins, and how it goes is drawn already."""
        if self.trap not in (Trap.ORPHAN, Trap.NEIGHBOUR) or run.effect_at is None or run.process.quiet:
            return
        if self.trap is Trap.ORPHAN and not run.trait.acts_elsewhere:
            self._spring(run.process)
            self.restarts_at_once = True
            self.spared.append(run)
            run.process.doomed = True
        elif self.trap is Trap.NEIGHBOUR and self.others(run.process):
            self._spring(run.process)
            self.restarts_at_once = True
            self.others(run.process)[0].end()
        else:
            return
        run.effect_at, run.ends_at = self.timeline.now + SLOW_S, self.timeline.now + SLOW_S + 1.0

    def _spring(self, process: Process) -> None:
        self.trace(f"trap for {process.name}: {self.trap}")
        self.trap, self.sprung = None, True

    def _until(self, process: Process, over: Callable[[], bool]) -> None:
        """Freeze a process until something has happened elsewhere."""
        self._spring(process)
        self._frozen, ends_at = process, self.timeline.now + MOST_S

        def watch() -> None:
            while process.alive and not over() and self.timeline.now < ends_at:
                self.timeline.sleep(0.1)
            process.frozen_until, self._frozen = self.timeline.now, None

        self.timeline.spawn(watch)
        process.looks_up_s = 0.1
        process.freeze(MOST_S)

    def _begun_anew(self) -> Callable[[], bool]:
        """Whether an action runs that has been claimed again since now."""
        known = {action.id: action.attempt for action in self.witness.actions.values()}
        return lambda: any(
            action.state == "RUNNING" and action.attempt > known.get(action.id, 0)
            for action in self.witness.actions.values()
        )

    def _taken_over(self, process: Process) -> Callable[[], bool]:
        """Whether another one has a lease on what is this one's now."""
        mine = [watch.id for watch in self.witness.watches.values() if watch.lease_owner == process.name]
        return lambda: any(self.witness.watches[name].lease_owner not in (None, process.name) for name in mine)
