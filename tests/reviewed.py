"""Ledgers for those who review: one that a bad canary left, and whether the verdicts in a folder's ledgers replay."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis import review
from analysis.prepare import Cells
from analysis.result import Arm
from analysis.review.database import is_ledger
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.ledger import open_ledger
from watchdog.model import FINAL, MessageKind, Severity
from watchdog.ports import LookRequest
from watchdog.telling import message


def bad_canary(address: str) -> str:
    """Write the ledger; returns its address."""
    clock, hook = FakeClock(DEPLOYED_AT), FakeHook()
    opened = open_ledger(address, clock=clock, owner="me", sinks_for=lambda service: ("log",), max_skew_s=math.inf)
    watch = a_watch()
    opened.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    road = a_road(opened, clock, FakeSource(lambda request: _samples(request, hook)), {"back": hook})
    for _ in range(300):
        clock.advance(1.0)
        road.tick()
        ended = opened.watch("d1")
        if ended is not None and ended.state in FINAL:
            break
    opened.close()
    return address


def replayed_otherwise(folder: Path) -> list[str]:
    """The verdicts in the ledgers of a folder and below it that are not the same when they are judged again.

    Only where a test made the judge itself break is there nothing to judge again.
    """
    found = []
    for file in filter(is_ledger, folder.rglob("*.db")):
        again = review.recompute(review.open(file))
        broken = again["sentence"].str.startswith("the samples cannot be judged (RuntimeError: thirteen)")
        other = again[~again["same"] & ~broken]
        for place, now in zip(other.index, other["now_sentence"], strict=True):
            found.append(f"{file.name}, {place}: {now}")
    return found


def _samples(request: LookRequest, hook: FakeHook) -> Mapping[str, Cells]:
    rng = np.random.default_rng(request.interval + 1000)
    rows = []
    for window in request.arms:
        if window.arm == Arm.CANDIDATE.value and hook.live == "v2":
            rows.append((window.arm, "v2-0", float(rng.binomial(150, 0.06)), 150.0))
        elif window.arm != Arm.CANDIDATE.value:
            rows += [(window.arm, f"v1-{i}", float(rng.binomial(450, 0.008)), 450.0) for i in range(3)]
    return {"errors": counts(rows)}
