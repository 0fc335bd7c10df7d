"""Bugs to plant: the faults that a daemon like this one has in practice, each with the invariant that must find it.

A simulator that does not find a planted bug is decoration. `make simulate BUGS=all` plants each of them.
"""

from tests.simulator.planted import acting, claiming, deciding, telling
from tests.simulator.planted.bug import PlantedBug

BUGS: dict[str, PlantedBug] = {
    bug.name: bug for part in (acting, claiming, deciding, telling) for bug in part.FOUND.bugs
}
