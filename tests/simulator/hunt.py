"""Plants one bug after the other and looks for a seed that shows it: a simulator that misses one is decoration."""

import time
from collections.abc import Collection
from itertools import chain

from tests.simulator.planted import BUGS
from tests.simulator.planted.bug import PlantedBug
from tests.simulator.simulation import meets, simulate

MOST_SEEDS = 10_000


def caught(bug: PlantedBug, seeds: Collection[int]) -> tuple[int, str] | None:
    """The first of these seeds that shows the bug by an invariant that it breaks, and what it says."""
    for seed in seeds:
        if meets(seed, bug.needs):
            for said in simulate(seed, bug=bug).violations:
                if said.partition(":")[0] in bug.breaks:
                    return seed, said
    return None


def soon(bug: PlantedBug, *, others: int) -> tuple[int, str] | None:
    """With the seeds that showed it lately; and where the code has changed since, with some others."""
    return caught(bug, list(chain(bug.seeds, range(1, others + 1))))


def hunt(name: str) -> int:
    """Look for all bugs, or for one, from the first seed on."""
    if name != "all" and name not in BUGS:
        print("no such bug; there are:", *BUGS, sep="\n  ")
        return 2
    missed = 0
    for bug in BUGS.values() if name == "all" else (BUGS[name],):
        began = time.process_time()
        found = caught(bug, range(1, MOST_SEEDS + 1))
        took_s = time.process_time() - began
        if found is None:
            missed += 1
            print(f"MISSED  {bug.name}: {MOST_SEEDS} seeds, {took_s:.0f} s of CPU", flush=True)
        else:
            print(f"caught  {bug.name}: seed {found[0]}, {took_s:.1f} s of CPU: {found[1]}", flush=True)
    print(f"{len(BUGS) - missed if name == 'all' else 1 - missed} caught, {missed} missed")
    return bool(missed)
