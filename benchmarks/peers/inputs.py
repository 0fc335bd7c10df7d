"""The samples on which all peers are compared: one error metric, or one level, of many watches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Panel
from analysis.result import Arm, Kind
from analysis.simulate import ERRORS, DrawnMetric, Service, draw
from benchmarks.aa_scenarios import EVEN, SCENARIOS, SLIM

Floats = NDArray[np.float64]
SEED = 77
ONSET = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayCase:
    """A regression that has to be found: error rates before and after, and Wald's bound on the mean delay."""

    service: Service

    @property
    def wald(self) -> float:
        """Looks that any test needs on average at 1 %: ln 100 over the information of a look, at least one."""
        service = self.service
        after = service.errors if service.errors_after is None else service.errors_after
        ratio, share = after / service.errors, service.share
        events = service.requests * (share * after + (1 - share) * service.errors)
        p, q = share * ratio / (share * ratio + 1 - share), share
        information = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return float(max(1.0, np.log(100.0) / (events * information)))


DELAYS: Mapping[str, DelayCase] = {
    "1_to_2_percent_50_50": DelayCase(service=replace(EVEN, errors_after=0.02)),
    "1_to_2_percent_5_95": DelayCase(service=replace(SLIM, errors_after=0.02)),
    "01_to_03_percent_50_50": DelayCase(service=replace(EVEN, errors=0.001, errors_after=0.003)),
    "late_onset": DelayCase(service=replace(EVEN, errors_after=0.02, onset=ONSET)),
}


def comparable(name: str) -> bool:
    """Whether peers can judge a scenario: one metric, a count or a level, 180 looks, and no difference at all."""
    scenario = SCENARIOS[name]
    kinds = {metric.kind for metric in scenario.metrics}
    alike = scenario.service.factor == 1.0 and scenario.service.looks == EVEN.looks
    return len(scenario.metrics) == 1 and kinds <= {Kind.RATIO, Kind.GAUGE} and alike


def _summed(panel: Panel, past: int, kind: Kind) -> tuple[Floats, Floats]:
    value, total = panel.value[..., 0, past:], panel.total[..., past:]
    if kind is Kind.GAUGE:
        return value.mean(axis=(1, 2)), np.zeros_like(value[:, 0, 0])
    return value.sum(axis=(1, 2)), total.sum(axis=(1, 2))


def _arrays(metric: DrawnMetric, service: Service) -> dict[str, Floats]:
    """bad and n of each arm, (watches, looks), over all replicas and strata; a level has n = 0."""
    found = {"share": np.array([service.share])}
    for letter, arm in (("c", Arm.CANDIDATE), ("b", Arm.BASELINE)):
        found[f"bad_{letter}"], found[f"n_{letter}"] = _summed(metric.panels[arm], service.past, metric.spec.kind)
    return found


def write(where: Path, n: int) -> None:
    """All inputs into one npz: arrays aa/<scenario>/<name> and delay/<case>/<name>."""
    arrays: dict[str, Floats] = {}
    rng = np.random.default_rng(SEED)
    for name, scenario in SCENARIOS.items():
        if comparable(name):
            service = scenario.service
            if service.past:  # what a peer is not told need not be long
                service = replace(service, past=20)
            metric = draw(service, rng, n, scenario.metrics).metrics[0]
            arrays |= {f"aa/{name}/{key}": array for key, array in _arrays(metric, service).items()}
    for name, case in DELAYS.items():
        metric = draw(case.service, rng, n, (ERRORS,)).metrics[0]
        found = _arrays(metric, case.service) | {"onset": np.array([float(case.service.onset)])}
        arrays |= {f"delay/{name}/{key}": array for key, array in found.items()}
    where.parent.mkdir(parents=True, exist_ok=True)
    np.savez(where, allow_pickle=False, **arrays)
