"""The demo's scenarios as one table: what is deployed, what happens, how it must end.

Settings of the judge are the shipped ones; only times are shortened.
"""

from watchdog.demo.database_scenarios import DATABASE_SCENARIOS
from watchdog.demo.fault_scenarios import FAULT_SCENARIOS
from watchdog.demo.road_scenarios import ROAD_SCENARIOS
from watchdog.demo.scenario import Scenario
from watchdog.demo.strategy_scenarios import STRATEGY_SCENARIOS

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (*ROAD_SCENARIOS, *FAULT_SCENARIOS, *STRATEGY_SCENARIOS, *DATABASE_SCENARIOS)
}


def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises
    ------
    ValueError
        Naming the known ones.
    """
    if name not in SCENARIOS:
        raise ValueError(f"there is no scenario {name!r}; known are {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
