"""How fast the judge and its parts are on this machine: a table, and build/judge_speed.json.

Run: python -m benchmarks.judge_speed [--json build/judge_speed.json]

Everything is measured in processor time, the best of a few runs. Times depend on the machine and on who else uses it;
the speedups are ratios of times taken side by side in one run, and hold anywhere.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.decode import decode
from analysis.dispersion import Noise
from analysis.judge import judge, judge_decoded
from analysis.methods.count_steps import Look, Walk, step_counts
from analysis.methods.counts import LOG_REL, CountTest, evidence_paths
from analysis.methods.ranks import mann_whitney
from analysis.onset import onset_prior
from analysis.result import JudgeSettings
from analysis.simulate import ERRORS, Service, observe

Floats = NDArray[np.float64]
WATCHES, LOOKS, METRICS, PAIRS = 60, 180, 10_000, 1000


def seconds(*works: Callable[[], object], repeats: int = 5) -> list[float]:
    """The best of a few runs of each, in processor time; one after the other in turn, so that a busy spell hits all."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - start)
    return best


def figures() -> dict[str, float]:
    """All figures. Keys end in their unit; `speedup` is a ratio, more is better."""
    return {**_mann_whitney(60), **_mann_whitney(360), **_judge(), **_counts()}


def _mann_whitney(n: int) -> dict[str, float]:
    """Against scipy's batch (axis=1), 1000 pairs: readings rounded to two digits, without ties, with irregular ties."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(PAIRS, n)), rng.normal(size=(PAIRS, n))
    kinds = {"": (x.round(2), y.round(2)), "untied_": (x, y), "irregular_ties_": (_coarse(x), _coarse(y))}
    found = {}
    for name, (a, b) in kinds.items():
        ours, theirs = seconds(lambda a=a, b=b: mann_whitney(a, b), lambda a=a, b=b: _scipy(a, b))  # type: ignore[misc]
        found[f"mannwhitney_{n}_{name}speedup_vs_scipy_axis"] = theirs / ours
    return found


def _coarse(values: Floats) -> Floats:
    """Values that tie, on no decimal grid: half-precision floats."""
    return values.astype(np.float16).astype(np.float64)


def _scipy(x: Floats, y: Floats) -> object:
    return stats.mannwhitneyu(x, y, alternative="greater", method="asymptotic", axis=1)


def _judge() -> dict[str, float]:
    """Watches of one count metric, from cells (or arrays) to verdicts: alone, and with replicas and a past to weigh."""
    found = {}
    plain = Service(looks=LOOKS)
    rich = replace(plain, past=360, replicas=4, candidates=4)
    for name, service in (("", plain), ("with_past_", rich)):
        rng = np.random.default_rng(3)
        watches = [observe(service, rng, (ERRORS,)) for _ in range(WATCHES)]
        settings = [JudgeSettings(planned_looks=LOOKS)] * WATCHES
        arrays = [decode(watch) for watch in watches]
        whole, judged = seconds(
            lambda w=watches, s=settings: judge(w, s),  # type: ignore[misc]
            lambda a=arrays, s=settings: judge_decoded(a, s),  # type: ignore[misc]
            repeats=3,
        )
        found[f"judge_{name}metric_looks_per_s"] = WATCHES * LOOKS / whole
        found[f"judge_decoded_{name}metric_looks_per_s"] = WATCHES * LOOKS / judged
    return found


def _counts() -> dict[str, float]:
    """One more look of 10 000 count metrics that have 30 looks behind them, from counts to e-values, as arrays."""
    rng = np.random.default_rng(1)
    drawn = rng.poisson([3, 150, 27, 1350], (31, METRICS, 4)).astype(np.float64)
    prior = onset_prior(np.ones(31, dtype=bool), 90)
    walk, seen = Walk.at_start(len(LOG_REL), METRICS), np.zeros(METRICS)
    full = np.ones(METRICS)
    looks = []
    for now, log_weight in zip(drawn, prior, strict=True):
        e, n, e_other, n_other = np.ascontiguousarray(now.T)[:, None]
        looks.append(Look(e, n, e_other, n_other, 1.25 * full, 1e-4 * full, full, log_weight * full))
    for look in looks[:-1]:
        walk, seen, _ = step_counts(walk, seen, look)
    first = [_count_test(row[:, None, None]) for row in drawn[0]]
    stepped, objects = seconds(lambda: step_counts(walk, seen, looks[-1]), lambda: evidence_paths(first), repeats=7)
    return {"counts_one_look_of_10000_ms": 1e3 * stepped, "counts_first_look_of_10000_objects_ms": 1e3 * objects}


def _count_test(counts: Floats) -> CountTest:
    e, n, e_other, n_other = counts
    looks = counts.shape[-1]
    prior = onset_prior(np.ones(looks, dtype=bool), 90)
    return CountTest(e, n, e_other, n_other, r0=1.25, floor=1e-4, noise=Noise.fixed(np.ones(looks)), log_prior=prior)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/judge_speed.json"))
    where = parser.parse_args().json
    found = figures()
    for name, value in found.items():
        print(f"{name:55} {value:12.2f}")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
