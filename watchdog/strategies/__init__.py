"""One way to ship a file: where each arm's samples come from. To add one: a file, and a line here."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from analysis.result import Design
from watchdog.model import Strategy, Watch
from watchdog.ports import ArmWindow
from watchdog.strategies.blue_green import BlueGreen
from watchdog.strategies.canary import Canary
from watchdog.strategies.direct import Direct
from watchdog.strategies.flag import Flag
from watchdog.strategies.rolling import Rolling


class StrategyRules(Protocol):
    """What a strategy decides: how the arms relate in time, and where each is found in one interval."""

    design: ClassVar[Design]
    needs_previous_version: ClassVar[bool]

    def arms(self, watch: Watch, interval: int) -> tuple[ArmWindow, ...]: ...


STRATEGIES: Mapping[Strategy, StrategyRules] = {
    Strategy.CANARY: Canary(),
    Strategy.DIRECT: Direct(),
    Strategy.BLUE_GREEN: BlueGreen(),
    Strategy.FLAG: Flag(),
    Strategy.ROLLING: Rolling(),
}


def rules_of(watch: Watch) -> StrategyRules:
    """How a watch is looked at: what bakes is all of the traffic by then, however it was shipped."""
    return STRATEGIES[Strategy.DIRECT if watch.plan.bakes else watch.deploy.strategy]
