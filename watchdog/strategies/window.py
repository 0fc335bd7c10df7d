"""Intervals of a watch in wall-clock time, and one arm in one of them."""

import math
from collections.abc import Mapping

from analysis.result import Arm
from watchdog.model import Watch
from watchdog.ports import ArmWindow


def interval_bounds(watch: Watch, interval: int) -> tuple[float, float]:
    """Start and end of an interval, in Unix seconds; interval 0 begins when the new version takes traffic."""
    start = watch.live_at + interval * watch.plan.step_s
    return start, start + watch.plan.step_s


def closes_at(watch: Watch, interval: int) -> float:
    """When an interval may be looked at: it has ended, and what may still come in has come.

    Intervals of whole seconds are closed with the next whole second, so that all watches of a second ask together.
    """
    end = interval_bounds(watch, interval)[1]
    if watch.plan.step_s.is_integer():
        end = math.ceil(round(end, 3))
    return end + watch.plan.settle_s


def arm_window(watch: Watch, interval: int, arm: Arm, labels: Mapping[str, str], *, announced: Arm) -> ArmWindow:
    """One arm's window. `announced` names the arm of the deploy event whose instances belong to it."""
    start, end = interval_bounds(watch, interval)
    return ArmWindow(
        arm=arm.value,
        start=start,
        end=end,
        labels={**watch.plan.selector_labels, **labels},
        instances=watch.deploy.instances.get(announced.value, ()),
    )


def control_window(watch: Watch, interval: int) -> ArmWindow:
    """What the deploy cannot have touched, over the same time."""
    start, end = interval_bounds(watch, interval)
    return ArmWindow(arm=Arm.CONTROL.value, start=start, end=end, labels=watch.plan.control_labels)


def version_labels(watch: Watch, version: str | None) -> dict[str, str]:
    """The label condition that picks one version's series."""
    return {watch.plan.version_label: version} if version is not None else {}
