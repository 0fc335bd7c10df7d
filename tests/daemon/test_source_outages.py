"""A real Prometheus behind a proxy with faults: however its answers fail, for however long, nothing is rolled back.

The same road, judge and ledger as in production; time is simulated, and the samples lie in Prometheus' own storage.
"""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from analysis.result import SourceStatus
from tests import servers
from tests.fakes import FakeClock, FakeHook
from tests.fault_proxy import BLIND, HUGE_BYTES, Fault, FaultProxy, fault_proxy
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.ledger import open_ledger
from watchdog.model import FINAL, MessageKind, Severity, State, Watch
from watchdog.pipeline import Pipeline
from watchdog.ports import Ledger
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_options import PrometheusOptions
from watchdog.telling import message

STEP_S, LOOKS, PAST = 5, 15, 20
SEEING_LOOKS = 3  # before the outage
TOLD_WITHIN = 3  # looks
PATIENT_S, IMPATIENT_S = 20.0, 0.4
HEALTHY, BAD = "healthy", "bad"
VERSIONS = {HEALTHY: "v2", BAD: "v3"}
OUTAGES = {
    "refuse": [Fault.REFUSE],
    "hang": [Fault.HANG],
    "drip": [Fault.DRIP],
    "200 MB": [Fault.HUGE],
    "skewed": [Fault.SKEWED],
    "each look another error": [
        Fault.ERROR_500,
        Fault.ERROR_502,
        Fault.ERROR_503,
        Fault.HTML,
        Fault.CUT,
        Fault.HANG_UP,
    ],
    "each look another lack": [Fault.PARTIAL, Fault.WARNINGS, Fault.NAN, Fault.INFINITE, Fault.GAP],
}


class SteeredClock(FakeClock):
    """Wall time as the test says; deadlines are kept in real time, for the network is real."""

    def monotonic(self) -> float:
        return time.monotonic()


def openmetrics() -> str:
    """v1 on three instances, a healthy v2, and a v3 that fails from the first look of the outage on. v2's counter
    begins anew in between, and one instance of v1 misses two scrapes."""
    draw = random.Random(11)
    lines = ["# TYPE shop_requests_total unknown"]
    for version, instances in {"v1": "abc", "v2": "d", "v3": "e"}.items():
        for instance in instances:
            counted = {"200": 0, "500": 0}
            points: list[tuple[str, int, int]] = []
            for second in range(-STEP_S * (PAST + 4), (LOOKS + 20) * STEP_S, STEP_S):
                if (version, second) == ("v2", 7 * STEP_S):
                    counted = {"200": 0, "500": 0}
                failing = version == "v3" and second > SEEING_LOOKS * STEP_S
                requests = 450 if version == "v1" else 150
                bad = sum(draw.random() < (0.08 if failing else 0.008) for _ in range(requests))
                counted = {"200": counted["200"] + requests - bad, "500": counted["500"] + bad}
                if instance != "b" or second not in (30, 35):
                    points += [(code, second, number) for code, number in counted.items()]
            for code, second, number in sorted(points, key=lambda point: point[0]):
                told = f'job="shop",version="{version}",instance="{instance}",code="{code}"'
                lines.append(f"shop_requests_total{{{told}}} {number} {DEPLOYED_AT + second:.0f}")
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    blocks = servers.backfill(openmetrics(), tmp_path_factory.mktemp("prometheus"))
    with servers.prometheus(blocks=blocks) as server:
        yield server.url


@dataclass
class World:
    """Two deploys under one roof, and the proxy before their metrics."""

    ledger: Ledger
    clock: SteeredClock
    road: Pipeline
    hook: FakeHook
    proxy: FaultProxy

    def walk(self, looks: int, *faults: Fault) -> None:
        """Go on for so many looks while the answers suffer these faults in turn."""
        for look in range(looks):
            fault = faults[look % len(faults)]
            self.proxy.suffer(fault)
            wait_s = IMPATIENT_S if fault in (Fault.HANG, Fault.DRIP) else PATIENT_S
            self.clock.advance(STEP_S)
            replace(self.road, fetch_deadline_s=wait_s).tick()

    def standing(self) -> Mapping[str, Watch]:
        return {name: watch for name in VERSIONS if (watch := self.ledger.watch(name)) is not None}

    def evidence(self, name: str) -> float:
        return self.ledger.verdicts(name, last=1)[0].log_evidence

    def told(self, name: str) -> list[MessageKind]:
        return [row.message.kind for row, _ in self.ledger.messages(name)]


@pytest.fixture
def world(url: str, tmp_path: Path) -> Iterator[World]:
    clock = SteeredClock(DEPLOYED_AT)
    ledger = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    with fault_proxy(url, clock.now) as proxy:
        source = PrometheusSource(name="prom", options=PrometheusOptions(url=proxy.url), clock=clock)
        source.start()
        hook = FakeHook(live=VERSIONS[BAD])
        road = a_road(ledger, clock, source, {"back": hook})
        for name, version in VERSIONS.items():
            watch = a_watch(deploy_id=name)
            plan = replace(a_plan(planned_looks=LOOKS), baseline_looks=PAST)
            watch = replace(watch, plan=plan, deploy=replace(watch.deploy, service=name, version=version))
            ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
        clock.advance(1.0)  # the settle delay
        yield World(ledger, clock, road, hook, proxy)
        source.close()
    ledger.close()


def test_every_fault_is_suffered() -> None:
    """None of them only has a name."""
    assert {fault for faults in OUTAGES.values() for fault in faults} == set(Fault) - {Fault.NONE}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_in_the_middle_rolls_nothing_back_and_spends_nothing(world: World, outage: str) -> None:
    """Said and told within three looks, no evidence from what was not seen; afterwards only the bad one goes back."""
    world.walk(SEEING_LOOKS, Fault.NONE)
    before = {name: world.evidence(name) for name in VERSIONS}
    faults = OUTAGES[outage]
    is_blind = set(faults) <= BLIND
    outage_looks = max(TOLD_WITHIN, len(faults))
    world.walk(TOLD_WITHIN, *faults)
    assert not is_blind or all(MessageKind.SOURCE_DOWN in world.told(name) for name in VERSIONS)
    world.walk(outage_looks - TOLD_WITHIN, *faults[TOLD_WITHIN:])
    for name, watch in world.standing().items():
        assert (watch.state, watch.verdict) == (State.WATCHING, "INCONCLUSIVE"), watch.sentence
        assert world.evidence(name) <= before[name] + 1e-9
        assert not is_blind or watch.reason == "SOURCE_DOWN", watch.sentence
    assert world.hook.effects == 0
    world.walk(LOOKS - SEEING_LOOKS - outage_looks, Fault.NONE)
    ended = world.standing()
    assert ended[HEALTHY].state is State.PASSED, ended[HEALTHY].sentence
    assert (world.hook.effects, world.hook.live) == (1, "v1"), ended[BAD].sentence
    assert not is_blind or MessageKind.SOURCE_BACK in world.told(HEALTHY)


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.NAN])
def test_an_outage_to_the_end_ends_as_nobody_can_tell(world: World, fault: Fault) -> None:
    """Longer than the watch: inconclusive with the reason, told, and no rollback."""
    world.walk(SEEING_LOOKS, Fault.NONE)
    world.walk(LOOKS, fault)
    for name, watch in world.standing().items():
        assert watch.state is State.INCONCLUSIVE, watch.sentence
        assert MessageKind.ENDED in world.told(name)
    assert world.hook.calls == []


def test_a_clock_that_is_wrong_is_said(world: World) -> None:
    """By how much, and what to do about it."""
    world.walk(1, Fault.SKEWED)
    [look] = world.ledger.looks(HEALTHY)
    assert look.facts.status is SourceStatus.DOWN
    assert "its clock is 3" in look.facts.detail
    assert "s ahead of this daemon's" in look.facts.detail
    assert "set the clocks right" in look.facts.detail


def test_a_flood_is_not_read_to_its_end(world: World) -> None:
    """Of each answer of 200 MB no more is taken than the limit and what a full socket holds."""
    world.walk(1, Fault.HUGE)
    [look] = world.ledger.looks(HEALTHY)
    assert "larger than 5,000,000 bytes" in look.facts.detail
    assert world.proxy.sent_bytes < world.proxy.asked * HUGE_BYTES / 4


def test_the_worlds_ends_are_final(world: World) -> None:
    """Without any fault: the healthy one passes, the bad one goes back."""
    world.walk(LOOKS, Fault.NONE)
    assert world.standing()[HEALTHY].state in FINAL
    assert world.hook.effects == 1
