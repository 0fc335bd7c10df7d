"""Who is alive, by what Prometheus' own `up` says about its targets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.result import Arm
from watchdog.ports import ArmWindow, LookRequest
from watchdog.selector import Matcher, Selector
from watchdog.sources.promql import LOOK_BACK, Dialect, any_instance, any_of, milliseconds
from watchdog.sources.questions import Series, is_named

FRESH_S = 60.0  # an `up` older than this before the interval says nothing about it
UP, GONE = 1.0, -1.0
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
    bounds = (milliseconds(window.end), milliseconds(window.start))
    by_label = [Roll(*bounds, tuple(sorted(window.labels)))] if window.labels else []
    return by_label + ([Roll(*bounds)] if window.instances else [])


def query(roll: Roll, windows: Sequence[ArmWindow], dialect: Dialect) -> str:
    """Render an `up` query. Announced instances that Prometheus knew within the last hour and lost count as -1."""
    instance_label = dialect.instance_label
    if roll.names:
        matchers = [any_of(name, (window.labels[name] for window in windows)) for name in roll.names]
        return f"max by ({', '.join(dict.fromkeys([*roll.names, instance_label]))}) ({_fresh(roll, matchers)})"
    matchers = [any_instance(instance_label, (name for window in windows for name in window.instances))]
    known = Selector("up", tuple(matchers)).render()
    return f"max by ({instance_label}) ({_fresh(roll, matchers)} or last_over_time({known}[{LOOK_BACK}]) * 0 - 1)"


def present(
    request: LookRequest, answers: Mapping[Roll, Sequence[Series]], instance_label: str
) -> dict[str, dict[str, float] | None]:
    """Each arm's instances with 1 (up), 0 (down) or -1 (gone); None for an arm nobody can tell anything about."""
    arms = judged_arms(request)
    found = {window.arm: _instances(window, answers, instance_label) for window in arms}
    seen_names = {tuple(sorted(w.labels)) for w in arms if w.labels and _by_label(w, answers, instance_label)}
    told: dict[str, dict[str, float] | None] = {}
    for window in arms:
        labels_are_carried = tuple(sorted(window.labels)) in seen_names
        told[window.arm] = found[window.arm] if found[window.arm] or labels_are_carried else None
    return told


def _fresh(roll: Roll, matchers: Sequence[Matcher]) -> str:
    up = Selector("up", tuple(matchers)).render()
    oldest_s = (roll.end_ms - roll.start_ms) / 1000 + FRESH_S
    return f"({up} and timestamp({up}) >= time() - {oldest_s:.3f})"  # no absolute time: equal for every interval


def _instances(window: ArmWindow, answers: Mapping[Roll, Sequence[Series]], label: str) -> dict[str, float]:
    found = _by_label(window, answers, label)
    for roll in rolls_of(window):
        for series in answers.get(roll, ()) if not roll.names else ():
            instance = series.labels.get(label, "")
            if any(is_named(name, instance) for name in window.instances):
                found[instance] = max(series.value, found.get(instance, GONE))
    return found


def _by_label(window: ArmWindow, answers: Mapping[Roll, Sequence[Series]], label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for roll in rolls_of(window):
        for series in answers.get(roll, ()) if roll.names else ():
            instance = series.labels.get(label, "")
            mine = all(series.labels.get(name, "") == value for name, value in window.labels.items())
            named = not window.instances or any(is_named(name, instance) for name in window.instances)
            if mine and named:
                found[instance] = series.value
    return found
