"""What may go wrong in one run, drawn from its seed: each run switches on some of it, so that rare pairs meet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    CRASH = "crash"  # the process is gone at once
    FREEZE = "freeze"  # the whole process stands still for a while
    DELAY = "delay"  # one thread is late, others overtake it
    LEDGER_BUSY = "ledger_busy"  # refused before anything happened
    LEDGER_FAILS = "ledger_fails"  # rolled back at the commit
    LEDGER_ANSWER_LOST = "ledger_answer_lost"  # committed, and the answer was lost
    LEDGER_AWAY = "ledger_away"  # one process cannot reach it for a while
    SOURCE_DOWN = "source_down"
    SOURCE_SLOW = "source_slow"
    SOURCE_PARTIAL = "source_partial"
    SOURCE_GAPS = "source_gaps"  # answers, with nothing in it
    SOURCE_RAISES = "source_raises"
    SOURCE_NAN = "source_nan"  # a series of it is no number
    SINK_FAILS = "sink_fails"
    SINK_SLOW = "sink_slow"
    HOOK_FAILS = "hook_fails"  # fails, with or without effect
    HOOK_HANGS = "hook_hangs"  # until its deadline, with or without effect
    HOOK_LIES = "hook_lies"  # says done, and nothing happened
    HOOK_LATE = "hook_late"  # takes effect after it was given up: only where it acts elsewhere
    PROBE_SILENT = "probe_silent"
    CLOCK_SKEW = "clock_skew"


_SHARED_ONLY = frozenset({Fault.LEDGER_ANSWER_LOST, Fault.CLOCK_SKEW})
FAULTS_END_S = 120.0  # after this nothing goes wrong any more, so that everything must come to its end
MOST_CRASHES = 6


@dataclass(slots=True)
class Faults:
    """How likely each fault is in this run, where it can happen at all."""

    random: Random
    rates: Mapping[Fault, float] = field(default_factory=dict)
    crashes_left: int = MOST_CRASHES

    def strikes(self, fault: Fault, chance: float) -> bool:
        """Whether it happens now. chance: of this place, where the fault is at its usual strength."""
        rate = self.rates.get(fault, 0.0)
        return rate > 0.0 and self.random.random() < rate * chance

    def on(self, fault: Fault) -> bool:
        return fault in self.rates


def draw_faults(random: Random, *, shared: bool) -> Faults:
    """A subset of the faults, each at a strength of its own; one run in twelve has none."""
    if random.random() < 1 / 12:
        return Faults(random)
    part = random.choice((0.15, 0.3, 0.6))
    possible = [fault for fault in Fault if shared or fault not in _SHARED_ONLY]
    return Faults(random, {fault: random.choice((0.3, 1.0, 3.0)) for fault in possible if random.random() < part})
