"""Everything that is claimed in figures, measured in one run: a table, and build/bench.json.

    python -m benchmarks.bench --n 10000 [--parts speed,delays,aa,peers]

The JSON is flat: figure -> number; `n` says how many watches (for speeds: runs or pairs) stand behind each,
`intervals` gives exact 95 % intervals of shares, `missing` says which parts were not measured and why.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from rich.console import Console
from rich.table import Table

from benchmarks import calibration
from benchmarks.aa_scenarios import SCENARIOS
from benchmarks.peers import scipy_loop, side_by_side
from benchmarks.peers.rules import PEERS
from benchmarks.peers.side_by_side import Figures

OUT = Path("build/bench.json")
WIDTH = 170  # of tables in a file
PROMISED = (
    "mannwhitney_60_speedup_vs_scipy_axis",
    "mannwhitney_360_speedup_vs_scipy_axis",
    "judge_metric_looks_per_s",
    "wald_ratio_1_to_2_percent_50_50",
    "wald_ratio_1_to_2_percent_5_95",
    "wald_ratio_01_to_03_percent_50_50",
    "wald_ratio_1_to_2_percent_50_50_max",
    "wald_ratio_1_to_2_percent_5_95_max",
    "wald_ratio_01_to_03_percent_50_50_max",
    "late_onset_delay_looks",
    "late_onset_delay_looks_max",
)
DELAYS_N, PEERS_N = 2000, 1000  # enough for ratios to two digits; the rates of 1 % need the most


class Bench:
    """What was measured so far."""

    def __init__(self, n: int, console: Console) -> None:
        self.asked_n, self.console = n, console
        self.figures = Figures()
        self.intervals: dict[str, tuple[float, float]] = {}
        self.tables: list[Table] = []

    def speed(self) -> None:
        """How fast the judge and its parts are."""
        self._take(_figures_of("benchmarks.judge_speed")(), 1)
        self._take(scipy_loop.figures(), 1)

    def delays(self) -> None:
        """How soon a bad deploy is seen."""
        n = min(self.asked_n, DELAYS_N)
        self._take(_figures_of("benchmarks.delays")(n), n)

    def aa(self) -> None:
        """How often an unchanged deploy is called DEGRADED."""
        rates = calibration.run(list(SCENARIOS), self.asked_n, console=self.console)
        for (name, value), rate in zip(calibration.figures(rates).items(), rates, strict=True):
            self.figures.add(name, value, rate.n)
            self.intervals[name] = (rate.low, rate.high)
        self.tables.append(calibration.table(rates))

    def peers(self) -> None:
        """What others say on the same samples."""
        found = side_by_side.compare(min(self.asked_n, PEERS_N), self.console.print)
        self.figures.values |= found.values
        self.figures.n |= found.n
        self.figures.missing |= {f"peers: {peer}": why for peer, why in found.missing.items()}

    def _take(self, told: Mapping[str, Any], n: int) -> None:
        """A part's own figures: name -> number, or name -> (number, n); whole numbers named *_n are counts."""
        for name, value in told.items():
            if isinstance(value, tuple):
                self.figures.add(name, float(value[0]), int(value[1]))
            elif isinstance(value, (int, float)) and not name.endswith("_n"):
                self.figures.add(name, float(value), int(told.get(f"{name}_n", n)))

    def run(self, parts: list[str]) -> None:
        """Each part by itself: one that breaks is named and leaves the others alone."""
        for part in PARTS:
            if part not in parts:
                self.figures.missing[part] = "not asked for"
                continue
            self.console.print(f"[bold]{part}[/]: {PARTS[part].__doc__}")
            try:
                PARTS[part](self)
            except Exception as error:  # noqa: BLE001 a part that breaks must not lose the others' hours
                self.figures.missing[part] = f"{type(error).__name__}: {error}"[:300]
                self.console.print(f"  {part} is missing: {self.figures.missing[part]}", style="red", markup=False)
        absent = [name for name in PROMISED if name not in self.figures.values]
        self.figures.missing |= dict.fromkeys(absent, "no part measured it")

    def written(self) -> dict[str, Any]:
        """The file's content."""
        return {
            **dict(sorted(self.figures.values.items())),
            "n": dict(sorted(self.figures.n.items())),
            "intervals": {name: list(pair) for name, pair in sorted(self.intervals.items())},
            "missing": self.figures.missing,
            "machine": {
                "cpus": os.cpu_count(),
                "processor": platform.processor() or platform.machine(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            },
        }


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "speed": Bench.speed,
    "delays": Bench.delays,
    "aa": Bench.aa,
    "peers": Bench.peers,
}


def _figures_of(module: str) -> Callable[..., Mapping[str, Any]]:
    """A part's `figures`, which comes with its own module."""
    found: Callable[..., Mapping[str, Any]] = importlib.import_module(module).figures
    return found


def side_by_side_table(figures: Figures) -> Table:
    """Every figure that both the judge and a peer have: one row a figure, one column a peer."""
    peers = [peer for peer in PEERS if any(name.startswith(f"{peer}_") for name in figures.values)]
    names = sorted(
        {name.removeprefix(f"{peer}_") for peer in peers for name in figures.values if name.startswith(f"{peer}_")}
    )
    table = Table(title="side by side (shares of false alarms in %; n in brackets)")
    for column in ("figure", "this judge", *peers):
        table.add_column(column, no_wrap=column == "figure")
    for name in names:
        table.add_row(name, _shown(figures, name), *(_shown(figures, f"{peer}_{name}") for peer in peers))
    return table


def own_table(figures: Figures) -> Table:
    """The judge's own figures but for the A/A ones, which have a table of theirs."""
    table = Table("figure", "value", "n")
    for name, value in figures.values.items():
        if "aa_false_alarm" not in name and not name.startswith(tuple(PEERS)):
            table.add_row(name, f"{value:,.3f}", str(figures.n[name]))
    return table


def _shown(figures: Figures, name: str) -> str:
    value = figures.values.get(name)
    if value is None:
        return "-"
    share = "false_alarm" in name
    return f"{100 * value:.1f} % ({figures.n[name]})" if share else f"{value:.2f} ({figures.n[name]})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path, default=OUT)
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=WIDTH)
    bench = Bench(options.n, console)
    bench.run(options.parts.split(","))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(bench.written(), indent=1) + "\n")
    for table in (own_table(bench.figures), *bench.tables, side_by_side_table(bench.figures)):
        if table.row_count:
            console.print(table)
    for what, why in bench.figures.missing.items():
        console.print(f"missing: {what}: {why}", markup=False)
    console.print(f"written: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
