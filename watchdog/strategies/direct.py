"""Direct: everyone is on the new version at once, so the baseline is the time before the deploy."""

from typing import ClassVar

from analysis.result import Arm, Design
from watchdog.model import Watch
from watchdog.ports import ArmWindow
from watchdog.strategies.window import arm_window, control_window


class Direct:
    """Before against after, over the whole service: after a direct deploy every series belongs to the candidate,
    and the version label would only lose what old instances served meanwhile."""

    design: ClassVar[Design] = Design.BEFORE_AFTER
    needs_previous_version: ClassVar[bool] = False

    def arms(self, watch: Watch, interval: int) -> tuple[ArmWindow, ...]:
        arm = Arm.BASELINE if interval < 0 else Arm.CANDIDATE
        own = arm_window(watch, interval, arm, {}, announced=arm)
        return (own, control_window(watch, interval)) if watch.plan.control_labels else (own,)
