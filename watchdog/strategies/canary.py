"""Canary: both versions serve at the same time, told apart by the version label."""

from typing import ClassVar

from analysis.result import Arm, Design
from watchdog.model import Watch
from watchdog.ports import ArmWindow
from watchdog.strategies.window import arm_window, version_labels


class Canary:
    """Baseline and candidate side by side; before the deploy, the old version's own past."""

    design: ClassVar[Design] = Design.CONCURRENT
    needs_previous_version: ClassVar[bool] = True

    def arms(self, watch: Watch, interval: int) -> tuple[ArmWindow, ...]:
        old = version_labels(watch, watch.deploy.previous_version)
        if interval < 0:
            return (arm_window(watch, interval, Arm.HISTORY, old, announced=Arm.BASELINE),)
        new = version_labels(watch, watch.deploy.version)
        return (
            arm_window(watch, interval, Arm.BASELINE, old, announced=Arm.BASELINE),
            arm_window(watch, interval, Arm.CANDIDATE, new, announced=Arm.CANDIDATE),
        )
