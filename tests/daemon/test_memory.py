"""What is remembered from look to look changes nothing but the work."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from analysis.growing import Growing
from analysis.prepare import Cells, LookFacts
from analysis.result import Design, Direction, Kind, MetricSpec, Reason, SourceStatus
from tests.daemon.test_pipeline import Shop, begin, road
from tests.fakes import FakeClock, FakeHook, FakeSource
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.blast_radius import radius_fields
from watchdog.judging import observation
from watchdog.ledger import open_ledger
from watchdog.memory import Memory, Recollection
from watchdog.model import Metric, Plan, StoredLook, Watch
from watchdog.selector import parse_selector
from watchdog.tally import Tally

BOUNDS = (0.1, 0.5, float("inf"))


def metric(name: str, kind: Kind, direction: Direction = Direction.UP_IS_BAD) -> Metric:
    return Metric(spec=MetricSpec(name=name, kind=kind, direction=direction), series={"x": parse_selector("x")})


METRICS = (
    metric("cpu", Kind.GAUGE),
    metric("slow", Kind.LATENCY),
    metric("errors", Kind.RATIO),
    metric("orders", Kind.RATE, Direction.DOWN_IS_BAD),
    metric("conversion", Kind.RATIO, Direction.DOWN_IS_BAD),
)


def a_look(rng: np.random.Generator, interval: int) -> StoredLook:
    """Any look: arms and metrics may be missing, bounds come and go, counts need not be whole numbers."""
    arms = ("history", "baseline") if interval < 0 else ("baseline", "baseline", "candidate", "control")
    cells: dict[str, Cells] = {}
    for own in METRICS:
        rows = []
        for at, arm in enumerate(arms):
            if rng.random() < 0.2:
                continue
            total = float(rng.uniform(50, 400))
            if own.spec.kind is Kind.LATENCY:
                bounds = [le for le in BOUNDS if rng.random() < 0.9]
                rows += [(arm, f"r{at}", "", le, total * (i + 1) / 3, total) for i, le in enumerate(bounds)]
            else:
                rows.append((arm, f"r{at}", "", float("nan"), float(rng.uniform(0, 20)), total))
        if rows:
            cells[own.spec.name] = Cells(*zip(*rows, strict=True))
    status = (SourceStatus.OK, SourceStatus.OK, SourceStatus.PARTIAL)[rng.integers(3)]
    return StoredLook(interval=interval, facts=LookFacts(status=status), cells=cells)


@pytest.mark.parametrize("seed", range(12))
def test_a_tally_says_what_the_looks_say(seed: int) -> None:
    """The blast radius by every deciding metric, and of an absent candidate: equal to the last bit."""
    rng = np.random.default_rng(seed)
    plan: Plan = replace(
        a_plan(design=Design.BEFORE_AFTER if seed % 4 == 3 else Design.CONCURRENT), metrics=METRICS[seed % 2 :]
    )
    watch = replace(a_watch(), plan=plan)
    tally, looks = Tally(plan), []
    for interval in range(-4, 12):
        looks.append(a_look(rng, interval))
        tally.add(looks[-1])
        for deciding in (None, "errors", "slow", "orders", "cpu", "conversion"):
            for reason in (None, Reason.CANDIDATE_ABSENT.value):
                judged = replace(watch, metric=deciding, reason=reason)
                assert tally.radius_fields(judged) == radius_fields(judged, looks), (interval, deciding, reason)


def remembered(watch: Watch, looks: int) -> Recollection:
    rng = np.random.default_rng(1)
    history = [replace(a_look(rng, i), facts=LookFacts()) for i in range(looks)]
    return Recollection(Growing(observation(watch, history)), Tally.of(watch.plan, history))


def test_memory_is_used_only_where_the_ledger_ends_at_the_same_look() -> None:
    """Another replica's look, or one that was never written, makes it worthless; it is handed out once."""
    watch = replace(a_watch(), plan=replace(a_plan(), metrics=METRICS))
    for looks in (2, 4):
        memory = Memory()
        memory.keep(watch, remembered(watch, 3), now=0.0)
        assert memory.recall(replace(watch, looks=looks)) is None
    memory = Memory()
    memory.keep(watch, remembered(watch, 3), now=0.0)
    assert memory.recall(replace(watch, looks=3)) is not None
    assert memory.recall(replace(watch, looks=3)) is None
    assert memory.nbytes == 0


def test_memory_is_bounded_and_nobody_pushes_out_whom_is_asked_for_next() -> None:
    """What does not fit is not remembered; what nobody asks for any more makes room."""
    watches = [replace(a_watch(deploy_id=f"d{i}"), plan=replace(a_plan(), metrics=METRICS), looks=3) for i in range(9)]
    one = remembered(watches[0], 3).growing.nbytes + 6_000
    memory = Memory(most_bytes=3 * one)
    for watch in watches:
        memory.keep(watch, remembered(watch, 3), now=0.0)
        assert memory.nbytes <= 3 * one
    assert [memory.recall(watch) is not None for watch in watches] == [True] * 3 + [False] * 6
    for watch in watches[:3]:
        memory.keep(watch, remembered(watch, 3), now=0.0)
    memory.keep(watches[8], remembered(watches[8], 3), now=1000.0)
    assert memory.recall(watches[8]) is not None


def stored(path: Path) -> list[list[tuple[object, ...]]]:
    """Everything a run has written that could tell how it was computed."""
    ledger = open_ledger(str(path), clock=FakeClock(), owner="reader", sinks_for=lambda service: ())
    queries = [
        "SELECT watch_id, look, kind, reason, metric, log_evidence, sentence, payload FROM verdicts ORDER BY id",
        "SELECT id, state, sentence, exposed_requests, affected_requests, total_requests FROM watches ORDER BY id",
        "SELECT watch_id, interval, metric, cells FROM samples ORDER BY 1, 2, 3",
        "SELECT watch_id, event, why FROM audit ORDER BY id",
    ]
    with ledger._database.read() as connection:
        found = [[tuple(row) for row in connection.execute(text(query))] for query in queries]
    ledger.close()
    return found


@pytest.mark.parametrize("errors", [0.008, 0.03])
def test_with_and_without_memory_and_over_restarts_the_same_is_written(tmp_path: Path, errors: float) -> None:
    """Three watches to their end: remembered, never remembered, and by a daemon that starts anew every few looks."""

    def run(name: str, memory: Callable[[], Memory], new_every_s: int = 10_000) -> list[list[tuple[object, ...]]]:
        clock, hook = FakeClock(DEPLOYED_AT), FakeHook()
        source = FakeSource(Shop(hook, candidate_errors=errors, fails_after=4))
        ledger = open_ledger(str(tmp_path / name), clock=clock, owner="me", sinks_for=lambda service: ())
        for i in range(3):
            watch = a_watch(deploy_id=f"d{i}")
            begin(ledger, replace(watch, deploy=replace(watch.deploy, service=f"shop-{i}")))
        pipeline = replace(road(ledger, clock, source, hook), memory=memory())
        for second in range(130):
            clock.advance(1.0)
            if second % new_every_s == new_every_s - 1:
                pipeline = replace(pipeline, memory=memory())
            pipeline.tick()
            if second == 40:
                assert (pipeline.memory.nbytes > 0) == (name != "never.db")
        assert pipeline.memory.nbytes == 0, "what has ended is forgotten"
        ledger.close()
        return stored(tmp_path / name)

    written = run("remembered.db", Memory)
    assert len(written[0]) >= 3 * 6
    assert json.loads(str(written[0][0][-1]))["evidence"]
    assert run("never.db", lambda: Memory(most_bytes=0)) == written
    assert run("restarted.db", Memory, new_every_s=7) == written
