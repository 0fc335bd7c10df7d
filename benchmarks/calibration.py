"""How often the judge calls an unchanged simulated deploy DEGRADED: every A/A scenario with shipped settings.

    python -m benchmarks.calibration --n 10000 [--only counts] [--json build/aa.json]

A finished scenario is kept in build/aa.json and not run again while N, the seed and the judge's source are the same.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import stats

import analysis.judge
from analysis.decode import Decoded
from analysis.judge import judge_decoded
from analysis.result import JudgeSettings, Verdict, VerdictKind
from analysis.simulate import Watches, draw
from benchmarks.aa_scenarios import SCENARIOS, Scenario

BUDGET = 0.01
SEED = 20_240
KEPT = Path("build/aa.json")
DRAWN_BYTES = 2**27  # of one batch of watches
JUDGED_CELLS = 2**19  # looks x looks x metrics of the watches judged together


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


def judged(watches: Watches, settings: JudgeSettings) -> Iterator[Verdict]:
    """Verdicts on a batch, a few watches at a time."""
    together = max(1, JUDGED_CELLS // (watches.service.looks**2 * len(watches.metrics)))
    group: list[Decoded] = []
    for watch in watches.decoded():
        group.append(watch)
        if len(group) == together:
            yield from judge_decoded(group, [settings] * len(group))
            group = []
    if group:
        yield from judge_decoded(group, [settings] * len(group))


def false_alarms(name: str, batch: int, size: int, seed: int = SEED) -> int:
    """How many of one batch's watches are called DEGRADED."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), batch])
    watches = draw(scenario.service, rng, size, scenario.metrics)
    if scenario.pooled:
        watches = replace(watches, metrics=tuple(metric.pooled() for metric in watches.metrics))
    return sum(verdict.kind is VerdictKind.DEGRADED for verdict in judged(watches, scenario.settings))


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
    """Rates of these scenarios, n watches each; finished ones are read from `kept` and added to it."""
    console = console or Console(stderr=True)
    stamp = f"{n} {SEED} {fingerprint()}"
    store = _read(kept)
    done = {name: Rate(**store[name]["rate"]) for name in names if store.get(name, {}).get("stamp") == stamp}
    open_names = [name for name in names if name not in done]
    with ProcessPoolExecutor(processes) as pool, Progress(console=console, disable=not console.is_terminal) as progress:
        for name in open_names:
            sizes = batches(SCENARIOS[name], n)
            task = progress.add_task(name, total=n)
            began = time.monotonic()
            futures = {pool.submit(false_alarms, name, i, size): size for i, size in enumerate(sizes)}
            false = 0
            for future in as_completed(futures):
                false += future.result()
                progress.advance(task, futures[future])
            rate = rate_of(name, n, false, time.monotonic() - began)
            progress.remove_task(task)
            console.print(_line(rate), highlight=False)
            done[name] = rate
            store[name] = {"stamp": stamp, "rate": asdict(rate)}
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(store, indent=1) + "\n")
    return [done[name] for name in names]


def _read(kept: Path | None) -> dict[str, Any]:
    return dict(json.loads(kept.read_text())) if kept is not None and kept.exists() else {}


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
