"""Simulated services: the same arrays in both forms, seeded, and with the noise, load and faults they claim."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import Decoded, decode
from analysis.result import Arm, Design, Direction, Kind, MetricSpec
from analysis.simulate import (
    ERRORS,
    GAUGE,
    LATENCY,
    ORDERS,
    Fault,
    Route,
    Service,
    autoregressive,
    client_errors,
    draw,
    faulty,
    rate_factors,
)

ALL = (ERRORS, ORDERS, LATENCY, GAUGE)
ROUTES = (Route("a", 0.8, 0.5), Route("b", 0.2, 0.5, 5.0))
SERVICES: Mapping[str, Service] = {
    "plain": Service(looks=4),
    "history": Service(looks=4, past=3, noise_v=0.1, noise_ar=0.8, correlation=0.5),
    "routes": Service(looks=4, past=3, routes=ROUTES),
    "before-after": Service(looks=4, past=3, design=Design.BEFORE_AFTER),
    "absent": Service(looks=4, past=2, absent=True, onset=2),
    "clients": Service(looks=4, past=2, client_share=0.7),
}


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_arrays_and_cells_of_one_draw_are_the_same_bits(service: Service) -> None:
    """Decoding a drawn watch's cells gives its arrays back, bit for bit, for every kind of metric."""
    watches = draw(service, np.random.default_rng(3), 2, ALL)
    for made, observation in zip(watches.decoded(), watches.observations(), strict=True):
        _same(made, decode(observation))


def _same(made: Decoded, read: Decoded) -> None:
    assert (made.design, made.step_s, made.looks, made.share) == (read.design, read.step_s, read.looks, read.share)
    assert made.facts == read.facts
    np.testing.assert_array_equal(made.usable, read.usable)
    for ours, theirs in zip(made.metrics, read.metrics, strict=True):
        assert (ours.spec, ours.strata, ours.first) == (theirs.spec, theirs.strata, theirs.first)
        assert list(ours.panels) == list(theirs.panels)
        np.testing.assert_array_equal(ours.le, theirs.le)
        for arm, panel in ours.panels.items():
            assert panel.value.tobytes() == theirs.panels[arm].value.tobytes()
            np.testing.assert_array_equal(panel.total, theirs.panels[arm].total)


def test_a_seed_gives_the_same_watches_again() -> None:
    """The same seed draws the same arrays, another seed other ones."""
    first, again, other = (
        next(draw(SERVICES["history"], np.random.default_rng(seed), 2, ALL).decoded()) for seed in (5, 5, 6)
    )
    _same(first, again)
    assert not np.array_equal(
        first.metrics[0].panel(Arm.BASELINE).value, other.metrics[0].panel(Arm.BASELINE).value, equal_nan=True
    )


@pytest.mark.parametrize("law", ["lognormal", "gamma", "bursts", "heavy"])
@pytest.mark.parametrize("v", [0.1, 0.5])
def test_rate_noise_has_mean_one_and_the_stated_variation(law: str, v: float) -> None:
    """400 000 factors of each law: mean 1, squared variation v (loosely for the power-law tail)."""
    factors = rate_factors(np.random.default_rng(1).standard_normal(400_000), v, law)
    assert factors.min() > 0
    assert factors.mean() == pytest.approx(1.0, abs=0.01)
    assert factors.var() == pytest.approx(v, rel=0.35 if law == "heavy" else 0.05)


@pytest.mark.parametrize("df", [None, 4.0])
def test_autoregressive_noise_has_unit_variance_and_its_lag(df: float | None) -> None:
    """Variance 1 and lag-one correlation 0.8, with normal and with Student innovations."""
    z = autoregressive(np.random.default_rng(2), (400, 500), 0.8, df)
    assert z.var() == pytest.approx(1.0, rel=0.06)
    assert (z[:, 1:] * z[:, :-1]).mean() == pytest.approx(0.8, rel=0.06)


def test_failing_clients_bring_the_stated_errors_and_stay_on_one_replica() -> None:
    """Over 1 000 looks; a look's expectation depends on the one before, and not on the next replica's."""
    found = client_errors(Service(), np.random.default_rng(4), 20, 3, 1000, 6.0)
    assert found.mean() == pytest.approx(6.0, rel=0.05)
    centred = found - found.mean()
    power = (centred**2).mean()
    assert (centred[..., 1:] * centred[..., :-1]).mean() > 0.7 * power
    assert abs((centred[:, 0] * centred[:, 1]).mean()) < 0.1 * power


def _rate(watches: object, spec: MetricSpec, arm: Arm, looks: slice = slice(None), bound: int = 0) -> float:
    metric = next(m for m in watches.metrics if m.spec is spec)  # type: ignore[attr-defined]
    panel = metric.panels[arm]
    return float(np.nansum(panel.value[:, :, :, bound, looks]) / np.nansum(panel.total[..., looks]))


def test_faults_change_their_own_metric_from_their_onset_in_the_candidate_only() -> None:
    """Errors, lost orders, a shifted and a tailed latency: before the onset and in the baseline nothing changes."""
    calm = Service(looks=10, requests=20_000, share=0.5, errors=0.01)
    late, early = slice(5, None), slice(0, 5)

    def drawn(fault: Fault, size: float) -> object:
        return draw(faulty(calm, fault, size, onset=5), np.random.default_rng(7), 20, ALL)

    errors = drawn(Fault.ERRORS, 3.0)
    assert _rate(errors, ERRORS, Arm.CANDIDATE, late) == pytest.approx(0.03, rel=0.05)
    assert _rate(errors, ERRORS, Arm.CANDIDATE, early) == pytest.approx(0.01, rel=0.05)
    assert _rate(errors, ERRORS, Arm.BASELINE, late) == pytest.approx(0.01, rel=0.05)
    lost = drawn(Fault.LOST_ORDERS, 0.2)
    assert _rate(lost, ORDERS, Arm.CANDIDATE, late) == pytest.approx(0.04, rel=0.05)
    slow = drawn(Fault.SLOW, 2.0)  # bound 4 is 0.05 s, the old median
    assert _rate(slow, LATENCY, Arm.CANDIDATE, early, 3) == pytest.approx(0.5, rel=0.02)
    assert _rate(slow, LATENCY, Arm.CANDIDATE, late, 3) == pytest.approx(0.161, rel=0.05)
    tail = drawn(Fault.TAIL, 0.02)  # bound 9 is 1 s
    assert 1 - _rate(tail, LATENCY, Arm.CANDIDATE, late, 9) == pytest.approx(0.02, rel=0.1)
    assert 1 - _rate(tail, LATENCY, Arm.CANDIDATE, early, 9) < 0.001


@pytest.mark.parametrize(("fault", "last"), [(Fault.LEVEL, 4.0), (Fault.LEAK, 4.0 * 4)])
def test_levels_shift_or_leak(fault: Fault, last: float) -> None:
    """A shift adds its size at once, a leak its slope with every look."""
    watches = draw(
        faulty(Service(looks=10, level_sd=0.1), fault, 4.0, onset=5), np.random.default_rng(8), 200, (GAUGE,)
    )
    level = watches.metrics[0].panels[Arm.CANDIDATE].value.mean(axis=(0, 1, 2, 3))
    assert level[:5] == pytest.approx(50.0, abs=0.05)
    assert level[-1] == pytest.approx(50.0 + 0.1 * last, abs=0.05)


def test_an_absent_candidate_brings_nothing_and_its_instances_are_down() -> None:
    """From the onset on no cells of the candidate, and positive proof that it is down."""
    decoded = next(draw(SERVICES["absent"], np.random.default_rng(1), 1).decoded())
    candidate = decoded.metrics[0].panel(Arm.CANDIDATE).value[..., 2:]
    assert not np.isnan(candidate[..., :2]).any()
    assert np.isnan(candidate[..., 2:]).all()
    assert [facts.candidate_down for facts in decoded.facts] == [0, 0, 1, 1]


def test_the_load_swings_and_the_share_holds() -> None:
    """Both arms' requests follow the sinusoid; the candidate's part of them stays."""
    watches = draw(Service(looks=40, swing=0.5, period=40, requests=4000), np.random.default_rng(1), 50)
    totals = {arm: panel.total.sum(axis=(1, 2)).mean(axis=0) for arm, panel in watches.metrics[0].panels.items()}
    both = totals[Arm.BASELINE] + totals[Arm.CANDIDATE]
    assert both[10] == pytest.approx(6000, rel=0.01)
    assert both[30] == pytest.approx(2000, rel=0.02)
    assert (totals[Arm.CANDIDATE] / both) == pytest.approx(0.1, rel=0.05)


def test_a_changed_mix_worsens_the_pooled_rate_and_no_route() -> None:
    """Every route is as good as before, while the rate over all routes rises by two thirds."""
    watches = draw(Service(requests=20_000, share=0.5, errors=0.01, routes=ROUTES), np.random.default_rng(1), 20)
    panels, pooled = watches.metrics[0].panels, watches.metrics[0].pooled().panels
    by_route = {arm: p.value.sum(axis=(0, 1, 3, 4)) / p.total.sum(axis=(0, 1, 3)) for arm, p in panels.items()}
    assert by_route[Arm.CANDIDATE] == pytest.approx(by_route[Arm.BASELINE], rel=0.05)
    rates = {arm: p.value.sum() / p.total.sum() for arm, p in pooled.items()}
    assert rates[Arm.CANDIDATE] / rates[Arm.BASELINE] == pytest.approx(3.0 / 1.8, rel=0.05)


def test_noise_of_an_arm_is_shared_by_its_replicas_and_noise_of_all_by_both_arms() -> None:
    """Correlations between the four replicas' error counts say whose noise it is."""
    noisy = Service(looks=60, requests=200_000, share=0.5, replicas=2, candidates=2, errors=0.05, noise_v=0.5)

    def rates(per: str) -> np.ndarray:
        panels = draw(replace(noisy, noise_per=per), np.random.default_rng(2), 4).metrics[0].panels
        both = np.concatenate([panels[Arm.BASELINE].value, panels[Arm.CANDIDATE].value], axis=1)
        rows = np.moveaxis(both[:, :, 0, 0], 1, 0).reshape(4, -1)
        return np.asarray(np.corrcoef(rows))

    assert np.abs(rates("replica")[np.triu_indices(4, 1)]).max() < 0.3
    of_arms = rates("arm")
    assert of_arms[0, 1] > 0.9
    assert of_arms[2, 3] > 0.9
    assert abs(of_arms[0, 2]) < 0.3
    assert rates("all").min() > 0.9


def test_clients_routed_by_request_fail_in_both_arms_alike_and_sticky_ones_do_not() -> None:
    """Correlation of the arms' errors over 200 looks, both arms with the same share."""
    clients = Service(looks=200, requests=20_000, share=0.5, replicas=2, candidates=2, errors=0.05)
    clients = replace(clients, client_share=0.9, client_errors=50.0)

    def alike(per: str) -> float:
        panels = draw(replace(clients, client_per=per), np.random.default_rng(3), 10).metrics[0].panels
        arms = [panels[arm].value.sum(axis=(1, 2, 3)).ravel() for arm in (Arm.BASELINE, Arm.CANDIDATE)]
        return float(np.corrcoef(arms)[0, 1])

    assert alike("all") > 0.8
    assert abs(alike("arm")) < 0.2
    assert abs(alike("replica")) < 0.2


def test_metrics_of_one_service_are_correlated() -> None:
    """Three levels drawn with correlation 0.7 have it."""
    metrics = tuple(MetricSpec(name=f"g{i}", kind=Kind.GAUGE, direction=Direction.EITHER) for i in range(3))
    watches = draw(Service(looks=200, correlation=0.7), np.random.default_rng(1), 5, metrics)
    rows = np.stack([m.panels[Arm.BASELINE].value.ravel() for m in watches.metrics])
    assert np.asarray(np.corrcoef(rows))[np.triu_indices(3, 1)] == pytest.approx(0.7, abs=0.05)


def test_levels_cannot_be_pooled() -> None:
    """A level has no strata: asking for their sum is refused."""
    with pytest.raises(ValueError, match="cpu: levels cannot be pooled"):
        draw(Service(), np.random.default_rng(1), 1, (GAUGE,)).metrics[0].pooled()
