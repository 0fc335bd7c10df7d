"""The one of three daemons that has the work dies or hangs at a named point; how soon does another one go on?"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.crash.brakes_and_fences import until
from tests.crash.replicas import Replica, Trio
from watchdog.model import FINAL

POINTS = (
    "tick-claimed", "tick-fetched", "tick-before-judge", "tick-before-commit", "ledger-change-before-commit",
    "tick-committed", "action-before-probe", "action-before-claim", "ledger-claim-before-commit", "action-claimed",
    "hook-before-start", "hook-returned", "outcome-before-commit", "outcome-committed", "verify-before-commit",
)  # fmt: skip
AFTER_CLAIM = frozenset(
    {"action-claimed", "hook-before-start", "hook-returned", "hook-probed", "outcome-before-commit"}
)
WAYS = ("kill", "stop", "cut", "restart")
TAKEOVER_S = 20.0


@dataclass(slots=True)
class Failover:
    """One of them."""

    point: str
    way: str
    took_s: float = 0.0  # from the death to the next thing that another daemon recorded of the deploy
    outcome: str = ""
    effects: int = 0

    @property
    def is_wrong(self) -> bool:
        return self.outcome != "ROLLED_BACK" or self.effects != 1 or self.took_s >= TAKEOVER_S

    def __str__(self) -> str:
        return f"{self.point} {self.way}: {self.outcome}, {self.effects} effects, taken over after {self.took_s:.1f} s"


@dataclass(slots=True)
class Failovers:
    """All of them."""

    done: list[Failover] = field(default_factory=list)

    def slowest(self, *, after_claim: bool) -> float:
        """The longest takeover, of looks and recorded intents, or of attempts that had begun."""
        return max((one.took_s for one in self.done if (one.point in AFTER_CLAIM) is after_claim), default=0.0)


def planned(count: int, dice: random.Random) -> Iterator[tuple[str, str]]:
    """Every point in turn, every way in turn, from a place of the dice."""
    first = dice.randrange(len(POINTS))
    for number in range(count):
        yield POINTS[(first + number) % len(POINTS)], WAYS[number % len(WAYS)]


async def fail_over(trio: Trio, count: int, dice: random.Random, say: Callable[[str], None]) -> Failovers:
    """One deploy after the other, each with a daemon that fails in the middle of it."""
    found = Failovers()
    for number, (point, way) in enumerate(planned(count, dice)):
        one = await _failed_over(trio, f"deploy-{number}", Failover(point, way), trio.replicas[number % 3])
        found.done.append(one)
        say(f"{number + 1} of {count}: {one}")
    return found


async def _failed_over(trio: Trio, name: str, one: Failover, leader: Replica) -> Failover:
    """The others are frozen until the leader fails, so that it surely has the work."""
    others = [replica for replica in trio.replicas if replica is not leader]
    for replica in others:
        if not replica.alive:
            replica.start()
    leader.kill()
    leader.start(f"{one.point}:{2 if one.point == 'tick-claimed' else 1}:{'kill' if one.way == 'kill' else 'stop'}")
    for replica in others:
        replica.freeze()
    deployed = asyncio.create_task(trio.deploy(name))
    await until(lambda: leader.frozen or not leader.alive, f"the failure of {one}")
    for replica in others:
        replica.thaw()
    failed_at = time.monotonic()
    _make_worse(trio, one.way)
    await deployed
    before = _standing(trio, name)
    await until(lambda: _standing(trio, name) != before, f"a takeover of {one}, {before}")
    one.took_s = time.monotonic() - failed_at
    leader.thaw()
    await until(lambda: _standing(trio, name)[0] in FINAL, f"the end of {one}")
    one.outcome = str(_standing(trio, name)[0])
    effects = trio.effects()
    one.effects = sum(effects[str(row[0])] for row in trio.query(f"SELECT id FROM actions WHERE watch_id = '{name}'"))
    return one


def _make_worse(trio: Trio, way: str) -> None:
    """What else happens to the one that hangs, or to all."""
    if way == "cut":
        trio.server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'deploy-watchdog'"
        )
    elif way == "restart":
        trio.server.stop_at_once()
        trio.server.start()


def _standing(trio: Trio, name: str) -> tuple[object, ...]:
    """Where a deploy stands: state, looks, and its action."""
    found = trio.query(
        "SELECT w.state, w.looks, a.state, a.attempt FROM watches w LEFT JOIN actions a ON a.watch_id = w.id "
        f"WHERE w.id = '{name}'"
    )
    return found[0] if found else ()
