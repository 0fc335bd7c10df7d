"""How fast the judge and its parts are on this machine: a table, and build/bench.json.

Run: python benchmarks/judge_speed.py [--json build/bench.json]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from analysis.dispersion import Noise
from analysis.judge import judge
from analysis.methods.counts import CountTest, evidence_paths
from analysis.methods.ranks import mann_whitney
from analysis.onset import onset_prior
from analysis.result import JudgeSettings
from analysis.simulate import ERRORS, LATENCY, Service, observe


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The best of a few runs, in processor time."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def one_look(metrics: int) -> list[CountTest]:
    """One look of many count metrics."""
    rng = np.random.default_rng(1)
    draws = rng.poisson([3, 150, 27, 1350], (metrics, 4)).astype(float)
    prior = onset_prior(np.ones(1, dtype=bool), 90)
    return [
        CountTest(*(row[:, None, None]), r0=1.25, floor=1e-4, noise=Noise.fixed(np.ones(1)), log_prior=prior)  # type: ignore[misc]
        for row in draws
    ]


def measure() -> dict[str, float]:
    """All figures."""
    rng = np.random.default_rng(2)
    watches = [observe(Service(), rng, (ERRORS, LATENCY)) for _ in range(20)]
    took = seconds(lambda: judge(watches, [JudgeSettings(planned_looks=18)] * len(watches)), 3)
    tests = one_look(10_000)
    found = {
        "judge_metric_looks_per_s": len(watches) * 2 * 18 / took,
        "counts_one_look_of_10000_ms": 1e3 * seconds(lambda: evidence_paths(tests), 3),
    }
    for n in (60, 360):
        x, y = rng.normal(size=(1000, n)).round(2), rng.normal(size=(1000, n)).round(2)
        ours = seconds(lambda x=x, y=y: mann_whitney(x, y))  # type: ignore[misc]
        theirs = seconds(lambda x=x, y=y: stats.mannwhitneyu(x, y, alternative="greater", method="asymptotic", axis=1))  # type: ignore[misc]
        found[f"mannwhitney_{n}_speedup_vs_scipy_axis"] = theirs / ours
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    where = parser.parse_args().json
    found = measure()
    for name, value in found.items():
        print(f"{name:45} {value:12.2f}")
    if where is not None:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
