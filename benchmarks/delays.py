"""How soon the count kernel alarms, over Wald's bound: margin 0, no floor, no dispersion, 1 000 requests per look.

python benchmarks/delays.py [N]
"""

import sys

import numpy as np

from analysis.dispersion import Noise
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_prior

LOOKS = 180
CASES = {
    "1_to_2_percent_50_50": (0.01, 0.02, 0.5),
    "1_to_2_percent_5_95": (0.01, 0.02, 0.05),
    "01_to_03_percent_50_50": (0.001, 0.003, 0.5),
    "1_to_15_percent_50_50": (0.01, 0.015, 0.5),
    "1_to_5_percent_50_50": (0.01, 0.05, 0.5),
    "1_to_5_percent_5_95": (0.01, 0.05, 0.05),
}


def wald(before: float, after: float, share: float) -> float:
    """Looks that any test at 1 % needs on average: ln 100 over the information of a look; at least one."""
    events, p0 = 1000 * (share * after + (1 - share) * before), share
    p1 = 1000 * share * after / events
    information = events * (p1 * np.log(p1 / p0) + (1 - p1) * np.log((1 - p1) / (1 - p0)))
    return max(1.0, float(np.log(100) / information))


def delays(case: tuple[float, float, float], n: int, onset: int = 0) -> list[float]:
    """Looks from the onset to the alarm, for n watches; infinite where there was none."""
    before, after, share = case
    rng, prior = np.random.default_rng(1), onset_prior(np.ones(LOOKS, dtype=bool), LOOKS)
    rate = np.where(np.arange(LOOKS) >= onset, after, before)
    exposure = [np.full((1, LOOKS), 1000 * part) for part in (share, 1 - share)]
    found = []
    for _ in range(n):
        e, other = rng.poisson(exposure[0] * rate).astype(float), rng.poisson(exposure[1] * before).astype(float)
        noise = Noise.fixed(np.ones(LOOKS))
        test = CountTest(e, exposure[0], other, exposure[1], r0=1.0, floor=0.0, noise=noise, log_prior=prior)
        alarms = np.flatnonzero(evidence_paths([test])[0][0] >= np.log(100))
        found.append(float(alarms[0] + 1 - onset) if len(alarms) else float("inf"))
    return found


def figures(n: int) -> dict[str, float]:
    """Median delays over Wald's bound, and the upper 95 % limit of each median (order statistics)."""
    found = {}
    limit = min(n - 1, int(np.ceil(n / 2 + 1.645 * np.sqrt(n) / 2)))
    for name, case in CASES.items():
        looks = np.sort(delays(case, n)) / wald(*case)
        found[f"wald_ratio_{name}"] = float(np.median(looks))
        found[f"wald_ratio_{name}_max"] = float(looks[limit])
    late = np.sort(delays(CASES["1_to_2_percent_50_50"], n, onset=90))
    found["late_onset_delay_looks"], found["late_onset_delay_looks_max"] = float(np.median(late)), float(late[limit])
    return found


if __name__ == "__main__":
    for name, value in figures(int(sys.argv[1]) if len(sys.argv) > 1 else 1000).items():
        print(f"{name:45} {value:8.2f}")
