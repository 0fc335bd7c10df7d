"""Unchanged deploys of many kinds, each with the settings under which it is judged. Nothing in them is a regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.result import Direction, JudgeSettings, Kind, MetricSpec
from analysis.simulate import ERRORS, GAUGE, LATENCY, ORDERS, NoiseLaw, NoisePer, Route, Service

LOOKS = 180
PAST = 360  # intervals before the deploy, where noise in time has to be learnt
DAY = tuple((1 + 0.3 * np.sin(2 * np.pi * np.arange(LOOKS) / LOOKS)).tolist())  # both arms' error rate swings together


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Watches that must not be called DEGRADED; `expected_to_fail` marks what is shown to go wrong on purpose."""

    service: Service
    metrics: Sequence[MetricSpec] = (ERRORS,)
    pooled: bool = False  # strata summed before judging
    expected_to_fail: bool = False
    asked_for: bool = True  # False: noise that goes beyond what is promised

    @property
    def settings(self) -> JudgeSettings:
        return JudgeSettings(planned_looks=self.service.looks)


EVEN = Service(requests=1000, share=0.5, replicas=4, candidates=4, looks=LOOKS, step_s=10.0, errors=0.01)
SLIM = replace(EVEN, share=0.05, candidates=1)
NOISY = replace(EVEN, past=PAST)
LEVELS = replace(EVEN, past=PAST, level_sd=10.0, level_offset=2.0)
STRICT = replace(GAUGE, margin=0.0, floor=0.0)
# the candidate gets more of the route that fails more: every route is as good as before
MIX = (Route("api", 0.8, 0.5), Route("search", 0.2, 0.5, 5.0))


def _counts() -> dict[str, Scenario]:
    return {
        f"counts_{name}_{split}": Scenario(service=replace(service, errors=errors, swing=0.5, shared=DAY))
        for name, errors in (("1pct", 0.01), ("01pct", 0.001))
        for split, service in (("50_50", EVEN), ("5_95", SLIM))
    }


def _bursty() -> dict[str, Scenario]:
    return {
        f"bursty_v{v_name}_ar{ar_name}_{per}_{requests}": Scenario(
            service=replace(NOISY, noise_v=v, noise_ar=ar, noise_per=per, requests=requests)
        )
        for v_name, v in (("01", 0.1), ("05", 0.5))
        for ar_name, ar in (("0", 0.0), ("08", 0.8))
        for per in (NoisePer.ARM, NoisePer.REPLICA)
        for requests in (1000, 20_000)
    }


def _beyond() -> dict[str, Scenario]:
    """Noise of shapes that no test assumes, and unchanged rates at the very edge of the margin."""
    found = {
        f"bursty_v05_{law}_{per}_1000": Scenario(
            service=replace(NOISY, noise_v=0.5, noise_law=law, noise_per=per), asked_for=False
        )
        for law in (NoiseLaw.BURSTS, NoiseLaw.HEAVY)
        for per in (NoisePer.ARM, NoisePer.REPLICA)
    }
    for requests in (1000, 20_000):
        for per in NoisePer:  # a client stays on its replica, on its arm, or is routed anew with every request
            clients = replace(NOISY, requests=requests, client_share=0.7, client_per=per)
            found[f"clients_{per}_{requests}"] = Scenario(service=clients, asked_for=per is not NoisePer.ARM)
    found["counts_at_the_margin"] = Scenario(service=replace(EVEN, factor=1.25), asked_for=False)
    found["counts_no_past_v005_replica"] = Scenario(service=replace(EVEN, noise_v=0.05), asked_for=False)
    return found


def _levels() -> dict[str, Scenario]:
    found = {}
    for phi_name, phi in (("0", 0.0), ("05", 0.5), ("08", 0.8), ("095", 0.95)):
        for law, df in (("", None), ("_t4", 4.0)):
            service = replace(LEVELS, level_phi=phi, level_df=df)
            found[f"gauge_phi{phi_name}{law}"] = Scenario(service=service, metrics=(GAUGE,))
            found[f"gauge_margin0_phi{phi_name}{law}"] = Scenario(service=service, metrics=(STRICT,), asked_for=False)
    without = replace(LEVELS, level_phi=0.95, past=0)
    found["gauge_phi095_no_past"] = Scenario(service=without, metrics=(GAUGE,), asked_for=False)
    return found


def _together() -> dict[str, Scenario]:
    ratios = tuple(MetricSpec(name=f"errors_{i}", kind=Kind.RATIO, critical=i == 0) for i in range(3))
    gauges = tuple(
        MetricSpec(name=f"level_{i}", kind=Kind.GAUGE, direction=Direction.EITHER if i > 1 else Direction.UP_IS_BAD)
        for i in range(4)
    )
    ten = (*ratios, *gauges, LATENCY, replace(LATENCY, name="latency_db"), ORDERS)
    crowd = replace(LEVELS, noise_v=0.1, noise_ar=0.5, correlation=0.7, level_phi=0.5, latency_noise=0.05)
    return {
        "ten_metrics": Scenario(service=crowd, metrics=ten),
        "latency_50_50": Scenario(service=replace(EVEN, swing=0.5), metrics=(LATENCY,)),
        "latency_5_95": Scenario(service=replace(SLIM, swing=0.5), metrics=(LATENCY,)),
        "latency_noisy_replicas": Scenario(
            service=replace(NOISY, latency_noise=0.1, noise_ar=0.5), metrics=(LATENCY,), asked_for=False
        ),
        "mix_strata": Scenario(service=replace(EVEN, routes=MIX, swing=0.5)),
        "mix_pooled": Scenario(service=replace(EVEN, routes=MIX, swing=0.5), pooled=True, expected_to_fail=True),
        "counts_1pct_50_50_1800_looks": Scenario(service=replace(EVEN, swing=0.5, looks=1800)),
    }


SCENARIOS: Mapping[str, Scenario] = {**_counts(), **_bursty(), **_levels(), **_together(), **_beyond()}
