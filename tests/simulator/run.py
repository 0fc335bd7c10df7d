"""Many seeds in a row, on several cores, to be stopped and gone on with.

    python -m tests.simulator.run --seeds 100000        # or: make simulate SEEDS=100000
    python -m tests.simulator.run --seed 4711           # one run, every event of it
    python -m tests.simulator.run --bugs all            # does it find the bugs that we plant?

What is done is kept in build/simulate/, under a digest of the code that was run: other code begins anew.
"""

import argparse
import hashlib
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulator.database import forget
from tests.simulator.hunt import hunt
from tests.simulator.simulation import simulate

ROOT = Path(__file__).parents[2]
STATE = ROOT / "build" / "simulate"
CHUNK = 250
AT_MOST_SHOWN = 20
STUCK_S = 120
TICKS = 10  # in which those seconds are counted


@dataclass(slots=True)
class Tally:
    """What a number of seeds came to."""

    seeds: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)  # seed → what was violated
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    simulated_s: float = 0.0

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.violations |= other.violations
        self.outcomes += other.outcomes
        self.crashes += other.crashes
        self.simulated_s += other.simulated_s

    def to_json(self) -> str:
        return json.dumps(
            {name: getattr(self, name) for name in ("seeds", "violations", "outcomes", "crashes", "simulated_s")}
        )

    @classmethod
    def from_json(cls, text: str) -> "Tally":
        found = json.loads(text)
        return cls(**(found | {"outcomes": Counter(found["outcomes"])}))


def tally(seeds: Iterable[int]) -> Tally:
    """Run these seeds one after the other."""
    found = Tally()
    for seed in seeds:
        found.seeds += 1
        try:
            with _at_most(STUCK_S):
                report = simulate(seed)
        except TimeoutError as error:
            found.violations[str(seed)] = [str(error)]
            forget()
            continue
        found.outcomes.update(report.outcomes.values())
        found.crashes += report.crashes
        found.simulated_s += report.seconds
        if report.violations:
            found.violations[str(seed)] = report.violations
    return found


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """A seed takes a fraction of a second: one that waits for ever (for a task of its own thread) must not take all
    those after it along. In the main thread, which is where seeds are run. Seconds in which the whole process was
    stopped do not count: however long that was, it is one tick."""
    ticks = 0

    def tick(_number: int, _frame: object) -> None:
        nonlocal ticks
        ticks += 1
        if ticks >= TICKS:
            raise TimeoutError(f"it did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, seconds / TICKS, seconds / TICKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def code_digest() -> str:
    """Of everything that a run executes of ours."""
    digest = hashlib.sha256()
    for folder in ("watchdog", "analysis", "tests/simulator"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def run_all(seeds: int, *, first: int, processes: int) -> Tally:
    """All seeds from `first` on, leaving out the chunks that were done before by the same code."""
    home = STATE / code_digest()
    home.mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + CHUNK, first + seeds)) for start in range(first, first + seeds, CHUNK)]
    done = {chunk: home / f"{chunk.start}-{chunk.stop - 1}.json" for chunk in chunks}
    total = Tally()
    for chunk in chunks:
        if done[chunk].exists():
            total.add(Tally.from_json(done[chunk].read_text(encoding="utf-8")))
    left = [chunk for chunk in chunks if not done[chunk].exists()]
    began, before = time.monotonic(), total.seeds
    if before:
        print(f"{before} of {seeds} seeds were done before", flush=True)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for chunk, found in pool.imap_unordered(_numbered, left):
            done[chunk].write_text(found.to_json(), encoding="utf-8")
            total.add(found)
            rate = (total.seeds - before) / (time.monotonic() - began)
            bad = len(total.violations)
            minutes = (seeds - total.seeds) / rate / 60
            print(
                f"{total.seeds} of {seeds} seeds, {bad} with violations, {rate:.0f}/s, {minutes:.0f} min left",
                flush=True,
            )
    return total


def _numbered(chunk: range) -> tuple[range, Tally]:
    return chunk, tally(chunk)


def show(seed: int) -> int:
    """One run, with every event."""
    report = simulate(seed, verbose=True)
    print("\n".join(report.trace))
    print(f"seed {seed}: {report.outcomes}, {report.crashes} crashes, trace {report.digest[:16]}")
    print("\n".join(report.violations) or "no violations")
    return bool(report.violations)


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate many seeds, or show one.")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="show one run, event by event")
    parser.add_argument("--bugs", help="plant each of our bugs, or the named one, and look for a seed that shows it")
    chosen = parser.parse_args()
    if chosen.bugs is not None:
        return hunt(chosen.bugs)
    if chosen.seed is not None:
        return show(chosen.seed)
    total = run_all(chosen.seeds, first=chosen.first, processes=chosen.processes)
    for seed, said in list(total.violations.items())[:AT_MOST_SHOWN]:
        print(f"seed {seed}: {'; '.join(said[:3])}\n    to see it: make simulate SEED={seed}")
    outcomes = ", ".join(f"{number} {state}" for state, number in sorted(total.outcomes.items()))
    print(f"{total.seeds} seeds, {total.simulated_s / 86400:.1f} simulated days, {total.crashes} crashes: {outcomes}")
    print(f"violations: {len(total.violations)} seeds")
    return bool(total.violations)


if __name__ == "__main__":
    sys.exit(main())
