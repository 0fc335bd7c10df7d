"""How often the judge calls an unchanged simulated deploy DEGRADED: every A/A scenario with shipped settings.

    python -m benchmarks.calibration --n 10000 [--only counts] [--json build/aa.json]

Finished batches are kept in build/aa.json and not run again while the seed and the judge's source are the same: a run
that was stopped goes on where it was, and a larger N adds to a smaller one. What is most telling and was never run at a
large N comes first.
"""

import argparse
import hashlib
import json
import math
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import stats

import analysis.judge
from analysis.decode import Decoded
from analysis.judge import alarm_looks
from analysis.result import JudgeSettings
from analysis.simulate import Watches, draw
from benchmarks.aa_scenarios import SCENARIOS, Scenario

BUDGET = 0.01
SEED = 20_240
KEPT = Path("build/aa.json")
DRAWN_BYTES = 2**27  # of one batch of watches
JUDGED_CELLS = 2**19  # looks x looks x metrics of the watches judged together
FIRST = (
    "ten_metrics",
    "latency_5_95",
    "counts_1pct_50_50_1800",
    "counts_at_the_margin",
    "gauge_phi",
    "latency",
    "counts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of n unchanged watches were called DEGRADED, with the exact 95 % interval of their share."""

    scenario: str
    n: int
    false: int
    low: float
    high: float
    seconds: float

    @property
    def share(self) -> float:
        return self.false / self.n

    @property
    def passed(self) -> bool:
        """At most the budget and three standard errors of it."""
        return self.share <= allowed(self.n)


def allowed(n: int) -> float:
    """The largest share of false alarms among n watches that a rate of 1 % explains."""
    return BUDGET + 3 * math.sqrt(BUDGET * (1 - BUDGET) / n)


def rate_of(scenario: str, n: int, false: int, seconds: float) -> Rate:
    """A share with its Clopper-Pearson interval."""
    interval = stats.binomtest(false, n).proportion_ci(method="exact")
    return Rate(
        scenario=scenario, n=n, false=false, low=float(interval.low), high=float(interval.high), seconds=seconds
    )


def batches(scenario: Scenario, n: int) -> list[int]:
    """Sizes of batches that fit into memory; the same for every run of N."""
    service = scenario.service
    width = service.past + service.looks
    per_watch = 0
    for metric in scenario.metrics:
        bounds = 15 if metric.kind == "latency" else 1
        per_watch += 8 * width * (service.replicas + service.candidates) * max(1, len(service.routes)) * (bounds + 1)
    size = max(1, min(250, DRAWN_BYTES // (4 * per_watch)))
    return [min(size, n - at) for at in range(0, n, size)]


def alarms(watches: Watches, settings: JudgeSettings) -> Iterator[int | None]:
    """Where each watch of a batch alarms first, a few watches at a time."""
    together = max(1, JUDGED_CELLS // (watches.service.looks**2 * len(watches.metrics)))
    group: list[Decoded] = []
    for watch in watches.decoded():
        group.append(watch)
        if len(group) == together:
            yield from alarm_looks(group, [settings] * len(group))
            group = []
    if group:
        yield from alarm_looks(group, [settings] * len(group))


def false_alarms(name: str, batch: int, size: int, seed: int = SEED) -> int:
    """How many of one batch's watches are called DEGRADED (their arms are concurrent: every alarm is)."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), batch])
    watches = draw(scenario.service, rng, size, scenario.metrics)
    if scenario.pooled:
        watches = replace(watches, metrics=tuple(metric.pooled() for metric in watches.metrics))
    return sum(look is not None for look in alarms(watches, scenario.settings))


def fingerprint() -> str:
    """Of everything that a rate depends on."""
    root = Path(analysis.judge.__file__).parent
    sources = [
        *sorted(root.rglob("*.py")),
        *(Path(__file__).with_name(n) for n in ("aa_scenarios.py", "calibration.py")),
    ]
    digest = hashlib.sha256()
    for source in sources:
        if "review" not in source.parts:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def run(
    names: Sequence[str], n: int, *, processes: int = 2, kept: Path | None = KEPT, console: Console | None = None
) -> list[Rate]:
    """Rates of these scenarios, n watches each; finished batches are read from `kept` and added to it."""
    console = console or Console(stderr=True)
    store = _Store(kept, f"{SEED} {fingerprint()}")
    with ProcessPoolExecutor(processes) as pool, Progress(console=console, disable=not console.is_terminal) as progress:
        for name in sorted(names, key=_urgency):
            sizes = batches(SCENARIOS[name], n)
            left = [i for i, size in enumerate(sizes) if not store.has(name, i, size)]
            task = progress.add_task(name, total=n, completed=n - sum(sizes[i] for i in left))
            futures = {pool.submit(_timed_false_alarms, name, i, sizes[i]): i for i in left}
            for future in as_completed(futures):
                i = futures[future]
                store.add(name, i, sizes[i], *future.result())
                progress.advance(task, sizes[i])
            progress.remove_task(task)
            if left:
                console.print(_line(store.rate(name, sizes)), highlight=False)
    return [store.rate(name, batches(SCENARIOS[name], n)) for name in names]


def _urgency(name: str) -> int:
    """Scenarios with these beginnings first, in this order; all others after them, in their own."""
    return next((i for i, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))


def _timed_false_alarms(name: str, batch: int, size: int) -> tuple[int, float]:
    """False alarms of a batch, and the processor's seconds that it took."""
    began = time.process_time()
    return false_alarms(name, batch, size), time.process_time() - began


class _Store:
    """Finished batches of every scenario in a JSON file: index -> [watches, false alarms, seconds]."""

    def __init__(self, path: Path | None, stamp: str) -> None:
        self.path, self.stamp = path, stamp
        known = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.batches: dict[str, dict[str, list[float]]] = known["batches"] if known.get("stamp") == stamp else {}

    def has(self, name: str, batch: int, size: int) -> bool:
        return self.batches.get(name, {}).get(str(batch), [0])[0] == size

    def add(self, name: str, batch: int, size: int, false: int, seconds: float) -> None:
        self.batches.setdefault(name, {})[str(batch)] = [size, false, round(seconds, 2)]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps({"stamp": self.stamp, "batches": self.batches}) + "\n")
            new.replace(self.path)

    def rate(self, name: str, sizes: Sequence[int]) -> Rate:
        """Of the scenario's first batches, all of which are there."""
        rows = [self.batches[name][str(i)] for i in range(len(sizes))]
        return rate_of(name, sum(sizes), int(sum(row[1] for row in rows)), sum(row[2] for row in rows))


def _line(rate: Rate) -> str:
    words = "as shown" if SCENARIOS[rate.scenario].expected_to_fail else "ok" if rate.passed else "TOO MANY"
    return f"{rate.scenario:36} {rate.false:6d} of {rate.n}  {rate.n / rate.seconds:7.1f} watches/s  {words}"


def figures(rates: Sequence[Rate]) -> dict[str, float]:
    """The flat figures of a bench file, shares of 1.

    >>> figures([rate_of("counts_1pct_50_50", 1000, 5, 1.0)])
    {'aa_false_alarm_counts_1pct_50_50': 0.005}
    """
    return {f"aa_false_alarm_{rate.scenario}": rate.share for rate in rates}


def table(rates: Sequence[Rate]) -> Table:
    """Every scenario with its rate, interval and whether it keeps the budget."""
    found = Table()
    for column in ("A/A scenario", "n", "false", "%", "95 % interval", "allowed %", "watches/s", ""):
        found.add_column(column, no_wrap=True)
    for rate in rates:
        scenario = SCENARIOS[rate.scenario]
        verdict = "[green]ok[/]" if rate.passed else "[red]too many[/]"
        if scenario.expected_to_fail:
            verdict = "[red]not shown to fail[/]" if rate.passed else "[green]fails, as it should[/]"
        found.add_row(
            rate.scenario + ("" if scenario.asked_for else " (beyond)"),
            str(rate.n),
            str(rate.false),
            f"{100 * rate.share:.2f}",
            f"{100 * rate.low:.2f}–{100 * rate.high:.2f}",
            f"{100 * allowed(rate.n):.2f}",
            f"{rate.n / rate.seconds:.1f}",
            verdict,
        )
    return found


def chosen(only: Sequence[str]) -> list[str]:
    """Scenarios whose names contain one of the words; all without words.

    Raises
    ------
    ValueError
        A word that is in no name.
    """
    for word in only:
        if not any(word in name for name in SCENARIOS):
            raise ValueError(f"no scenario has {word!r} in its name")
    return [name for name in SCENARIOS if not only or any(word in name for word in only)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=KEPT)
    options = parser.parse_args()
    rates = run(chosen(options.only), options.n, processes=options.processes, kept=options.json)
    Console().print(table(rates))
    return 0 if all(rate.passed or SCENARIOS[rate.scenario].expected_to_fail for rate in rates) else 1


if __name__ == "__main__":
    sys.exit(main())
