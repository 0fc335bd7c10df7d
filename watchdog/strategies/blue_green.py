"""Blue-green: all traffic moves at once to a colour that stood idle, so the baseline is the time before the switch."""

from typing import ClassVar

from watchdog.strategies.direct import Direct


class BlueGreen(Direct):
    """Before against after over the whole service; the old colour stands ready, and is told by its version."""

    needs_previous_version: ClassVar[bool] = True
