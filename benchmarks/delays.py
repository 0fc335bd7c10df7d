"""How soon count evidence alarms: over Wald's bound, at small regressions, and what the correction for noise costs.

    python -m benchmarks.delays [N]

Kernel figures: margin 0, no floor, no dispersion, no grace for start-up, one metric with the whole budget. Shipped
figures: the judge's own settings, noise measured between 4 replicas of each version and in 360 intervals before the
deploy.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.decode import Decoded
from analysis.dispersion import Noise
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_prior
from analysis.result import JudgeSettings, MetricSpec
from analysis.simulate import ERRORS, LATENCY, ORDERS, Fault, NoisePer, Service, draw, faulty
from analysis.weigh import path_of, set_up, weighings

LOOKS, PAST = 180, 360
SETTINGS = JudgeSettings(planned_looks=LOOKS)
LIMIT = float(np.log(100.0))
CASES = {
    "1_to_2_percent_50_50": (0.01, 0.02, 0.5),
    "1_to_2_percent_5_95": (0.01, 0.02, 0.05),
    "01_to_03_percent_50_50": (0.001, 0.003, 0.5),
    "1_to_15_percent_50_50": (0.01, 0.015, 0.5),
    "1_to_5_percent_50_50": (0.01, 0.05, 0.5),
    "1_to_5_percent_5_95": (0.01, 0.05, 0.05),
}
SHIPPED = ("1_to_2_percent_50_50", "1_to_2_percent_5_95", "01_to_03_percent_50_50", "1_to_5_percent_5_95")
FLEET = Service(requests=1000, share=0.5, replicas=4, candidates=4, looks=60, past=PAST, errors=0.01)
SLOWER = replace(FLEET, past=60, looks=60, slowdown=1.2)


@dataclass(frozen=True, slots=True)
class Power:
    """A regression, the metric that has to show it, and the most looks that its median delay may take."""

    service: Service
    metric: MetricSpec
    most: float
    bare: bool = True  # margin 0, no floor, no dispersion; else as shipped


POWER = {
    "latency_20_percent_500_500": Power(SLOWER, LATENCY, 4),
    "latency_20_percent_50_950": Power(replace(SLOWER, share=0.05), LATENCY, 18),
    "orders_20_percent": Power(faulty(replace(FLEET, requests=4000, orders=0.05), Fault.LOST_ORDERS, 0.2), ORDERS, 7),
    "noisy_replicas_1_to_2_percent": Power(
        replace(FLEET, requests=20_000, factor=2.0, noise_v=0.1), ERRORS, 15, bare=False
    ),
    "noisy_arms_1_to_2_percent": Power(
        replace(FLEET, requests=20_000, factor=2.0, noise_v=0.1, noise_per=NoisePer.ARM), ERRORS, 15, bare=False
    ),
}


def wald(before: float, after: float, share: float, r0: float = 1.0) -> float:
    """Looks that any test of r0 at 1 % needs on average: ln 100 over the information of a look; at least one."""
    events, p0 = 1000 * (share * after + (1 - share) * before), r0 * share / (r0 * share + 1 - share)
    p1 = 1000 * share * after / events
    information = events * (p1 * np.log(p1 / p0) + (1 - p1) * np.log((1 - p1) / (1 - p0)))
    return max(1.0, LIMIT / float(information))


def delays(case: tuple[float, float, float], n: int, onset: int = 0) -> list[float]:
    """Looks from the onset to the kernel's alarm, for n watches; infinite where there was none."""
    before, after, share = case
    rng, prior = np.random.default_rng(1), onset_prior(np.ones(LOOKS, dtype=bool), LOOKS)
    rate = np.where(np.arange(LOOKS) >= onset, after, before)
    exposure = [np.full((1, LOOKS), 1000 * part) for part in (share, 1 - share)]
    found = []
    for _ in range(n):
        e, other = rng.poisson(exposure[0] * rate).astype(float), rng.poisson(exposure[1] * before).astype(float)
        noise = Noise.fixed(np.ones(LOOKS))
        test = CountTest(e, exposure[0], other, exposure[1], r0=1.0, floor=0.0, noise=noise, log_prior=prior)
        alarms = np.flatnonzero(evidence_paths([test])[0][0] >= LIMIT)
        found.append(float(alarms[0] + 1 - onset) if len(alarms) else float("inf"))
    return found


def service_delays(
    service: Service, spec: MetricSpec, n: int, *, bare: bool = False, noise: bool = True
) -> list[float]:
    """Looks to the alarm of one metric of n simulated watches that has the whole budget; infinite where none.

    bare: margin 0, no floor, no dispersion. noise: whether the correction for clustered events is in force.
    """
    spec = replace(spec, margin=0.0, floor=0.0) if bare else spec
    watches = draw(service, np.random.default_rng(2), n, (spec,))
    return [_delay(watch, as_measured=noise and not bare) for watch in watches.decoded()]


def _delay(watch: Decoded, *, as_measured: bool) -> float:
    settings = SETTINGS if as_measured else replace(SETTINGS, start_up_looks=0)
    (weighing,) = weighings([set_up(watch, watch.metrics[0], settings, onset_prior(watch.usable, LOOKS), 1.0)])
    tests = weighing.tests if as_measured else [_independent(test) for test in weighing.tests]
    alarms = np.flatnonzero(path_of(weighing, list(evidence_paths(tests)[0])) >= LIMIT)
    return float(alarms[0] + 1) if len(alarms) else float("inf")


def _independent(test: CountTest) -> CountTest:
    return replace(test, noise=Noise.fixed(np.ones(len(test.log_prior))))


def shipped(name: str) -> tuple[Service, float]:
    """A regression of CASES as a service, and Wald's bound for the shipped margin."""
    before, after, share = CASES[name]
    bound = wald(before, after, share, 1.0 + SETTINGS.margin)
    return replace(FLEET, errors=before, errors_after=after, share=share, looks=int(4 * bound) + 20), bound


def _mean(found: dict[str, float], name: str, looks: Sequence[float], longest: float, unit: float = 1.0) -> None:
    """A mean delay in units, as Wald bounds it, and its upper 95 % limit; no alarm counts as the longest delay."""
    seen = np.minimum(looks, longest) / unit
    found[name] = float(seen.mean())
    found[f"{name}_max"] = float(seen.mean() + 1.645 * seen.std() / np.sqrt(len(seen)))


def _median(found: dict[str, float], name: str, looks: Sequence[float]) -> None:
    """A median delay and its upper 95 % limit (order statistics)."""
    ordered, n = np.sort(looks), len(looks)
    found[name] = float(np.median(ordered))
    found[f"{name}_max"] = float(ordered[min(n - 1, int(np.ceil(n / 2 + 1.645 * np.sqrt(n) / 2)))])


def figures(n: int) -> dict[str, float]:
    """Mean delays over Wald's bound, medians in looks, and with over without the correction for noise."""
    found: dict[str, float] = {}
    for name, case in CASES.items():
        seen, bound = delays(case, n), wald(*case)
        _mean(found, f"wald_ratio_{name}", seen, LOOKS, bound)
        found[f"wald_ratio_{name}_median"] = float(np.median(seen)) / bound
    _mean(found, "late_onset_delay_looks", delays(CASES["1_to_2_percent_50_50"], n, onset=90), LOOKS - 90)
    for name in SHIPPED:
        service, bound = shipped(name)
        with_noise = service_delays(service, ERRORS, n)
        _mean(found, f"shipped_wald_ratio_{name}", with_noise, service.looks, bound)
        found[f"dispersion_price_{name}"] = dispersion_price(service, n)
    for name, power in POWER.items():
        _median(found, f"delay_looks_{name}", service_delays(power.service, power.metric, n, bare=power.bare))
    return found


def dispersion_price(service: Service, n: int) -> float:
    """Mean delay where the correction is in force, over that without it, on the same independent requests."""
    with_noise, without = (service_delays(service, ERRORS, n, noise=noise) for noise in (True, False))
    longest = float(service.looks)
    return float(np.minimum(with_noise, longest).mean() / np.minimum(without, longest).mean())


if __name__ == "__main__":
    for name, value in figures(int(sys.argv[1]) if len(sys.argv) > 1 else 1000).items():
        print(f"{name:45} {value:8.2f}")
