"""Who is alive, by what Prometheus' own `up` says about its targets."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.result import Arm
from watchdog.ports import ArmWindow, LookRequest
from watchdog.selector import Matcher, Selector, label_name
from watchdog.sources.promql import LOOK_BACK, Dialect, any_instance, any_of, bounds_ms
from watchdog.sources.questions import Series, is_named

FRESH_S = 60.0  # an `up` older than this before the interval says nothing about it
UP, GONE = 1.0, -1.0
Roster = Mapping[tuple[str, ...], Sequence[Series]]
_JUDGED = (Arm.BASELINE, Arm.CANDIDATE)


@dataclass(frozen=True, slots=True)
class Roll:
    """One `up` query: by label names where these are given, else by announced instance names."""

    end_ms: int
    start_ms: int
    names: tuple[str, ...] = ()


def rolls(requests: Iterable[LookRequest]) -> dict[Roll, list[ArmWindow]]:
    """Which `up` queries are needed, and the arms each is about."""
    wanted: dict[Roll, list[ArmWindow]] = {}
    for request in requests:
        for window in judged_arms(request):
            for roll in rolls_of(window):
                wanted.setdefault(roll, []).append(window)
    return wanted


def judged_arms(request: LookRequest) -> list[ArmWindow]:
    """The arms whose presence counts; nobody is called absent for the time before the deploy."""
    return [window for window in request.arms if window.arm in _JUDGED] if request.interval >= 0 else []


def rolls_of(window: ArmWindow) -> list[Roll]:
    """By labels, and by name where instances were announced."""
    start_ms, end_ms = bounds_ms(window.start, window.end)
    by_label = [Roll(end_ms, start_ms, tuple(sorted(window.labels)))] if window.labels else []
    return by_label + ([Roll(end_ms, start_ms)] if window.instances else [])


def query(roll: Roll, windows: Sequence[ArmWindow], dialect: Dialect) -> str:
    """Render an `up` query. Announced instances that Prometheus knew within the last hour and lost count as -1."""
    instance_label = dialect.instance_label
    if roll.names:
        matchers = [any_of(name, (window.labels[name] for window in windows)) for name in roll.names]
        labels = map(label_name, dict.fromkeys([*roll.names, instance_label]))
        return f"max by ({', '.join(labels)}) ({_fresh(roll, matchers)})"
    matchers = [any_instance(instance_label, (name for window in windows for name in window.instances))]
    known = Selector("up", tuple(matchers)).render()
    return f"max by ({instance_label}) ({_fresh(roll, matchers)} or last_over_time({known}[{LOOK_BACK}]) * 0 - 1)"


def roster(roll: Roll, series: Iterable[Series], instance_label: str) -> Roster:
    """What one `up` query told, by what it is looked up by: the values of its labels, or an instance's name with and
    without its port."""
    found: dict[tuple[str, ...], list[Series]] = {}
    for one in series:
        if not math.isfinite(one.value):
            continue
        if roll.names:
            keys = {tuple(one.labels.get(name, "") for name in roll.names)}
        else:
            instance = one.labels.get(instance_label, "")
            keys = {(instance,), (instance.rpartition(":")[0],)}
        for key in keys:
            found.setdefault(key, []).append(one)
    return found


def present(
    request: LookRequest, rosters: Mapping[Roll, Roster], instance_label: str
) -> dict[str, dict[str, float] | None]:
    """Each arm's instances with 1 (up), 0 (down) or -1 (gone); None for an arm nobody can tell anything about."""
    arms = judged_arms(request)
    found = {window.arm: _instances(window, rosters, instance_label) for window in arms}
    seen_names = {tuple(sorted(w.labels)) for w in arms if w.labels and _by_label(w, rosters, instance_label)}
    told: dict[str, dict[str, float] | None] = {}
    for window in arms:
        labels_are_carried = tuple(sorted(window.labels)) in seen_names
        told[window.arm] = found[window.arm] if found[window.arm] or labels_are_carried else None
    return told


def _fresh(roll: Roll, matchers: Sequence[Matcher]) -> str:
    up = Selector("up", tuple(matchers)).render()
    oldest_s = (roll.end_ms - roll.start_ms) / 1000 + FRESH_S
    return f"({up} and timestamp({up}) >= time() - {oldest_s:.3f})"  # no absolute time: equal for every interval


def _instances(window: ArmWindow, rosters: Mapping[Roll, Roster], label: str) -> dict[str, float]:
    found = _by_label(window, rosters, label)
    for roll in rolls_of(window):
        if roll.names:
            continue
        for name in window.instances:
            for series in rosters.get(roll, {}).get((name,), ()):
                instance = series.labels.get(label, "")
                found[instance] = max(series.value, found.get(instance, GONE))
    return found


def _by_label(window: ArmWindow, rosters: Mapping[Roll, Roster], label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for roll in rolls_of(window):
        if not roll.names:
            continue
        for series in rosters.get(roll, {}).get(tuple(window.labels[name] for name in roll.names), ()):
            instance = series.labels.get(label, "")
            if not window.instances or any(is_named(name, instance) for name in window.instances):
                found[instance] = series.value
    return found
