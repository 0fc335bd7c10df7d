"""What a demo scenario is: what is deployed and how, what happens meanwhile, and how it must end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from watchdog.demo.faults import Fault

RATE = 250.0  # visitors per second
LOOK_S = 5.0  # the shipped rhythm where metrics pages are read
OLD, NEW = "v1", "v2"
STEPS = (0.05, 0.10, 0.25, 0.50, 1.0)  # of a canary that grows by itself


class Actor(StrEnum):
    """Who does something while the watch runs."""

    SHOP = "shop"  # the processes of some versions change their behaviour
    VISITORS = "visitors"  # more of them, or others
    FRONT = "front"  # another part of a route's requests goes to the new version
    PAYMENTS = "payments"  # the third party that takes the money
    ROLL_OUT = "roll_out"  # the next server gets the new version


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Something that happens while the watch runs."""

    after_s: float  # since the new version takes traffic
    says: str
    actor: Actor = Actor.SHOP
    versions: tuple[str, ...] = ()  # of the shop
    changes: Mapping[str, Any]  # SHOP: values of Fault · the others: what their admin page takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One story with its known end."""

    name: str
    story: str
    outcome: str  # the word it must end with
    verdict: str | None  # None: nothing was judged
    reason: str | None = None
    hold: str | None = None  # why it is held, where it is
    strategy: str = "canary"
    share: float = 0.10  # of the traffic, for the new version
    usual: Fault = field(default_factory=Fault)  # of the old version, and of the new one before its own fault
    fault: Fault = field(default_factory=Fault)  # of the new version
    server_faults: Mapping[str, Fault] = field(default_factory=dict)  # of single instances of the new version
    turns: tuple[Turn, ...] = ()
    rate: float = RATE
    mix: Mapping[str, float] = field(default_factory=dict)  # what visitors come for, where it is not the usual mix
    metrics: tuple[str, ...] = ()  # beside errors and latency
    migration: str = "none"  # what the deploy event says
    migrates: str = ""  # what is done to the orders' database with the deploy; see migration.py
    payments: bool = False  # whether checkouts ask a third party for the money
    steps: bool = False  # whether the share grows by itself
    bake_s: float = 15.0
    switched: bool = False  # whether the watchdog makes the switch, after a smoke test
    look_s: float = 0.0  # seconds between two looks; 0 is the shipped rhythm
    watch_s: float = 100.0
    warm_s: float = 6.0  # traffic before the deploy
    baseline_s: float = 900.0  # how far back the daemon may look; it has only seen warm_s
    act_uncalibrated: bool = False
    deadline_s: float = 150.0  # the demo gives up that long after the deploy

    @property
    def rhythm_s(self) -> float:
        """Seconds between two looks."""
        return self.look_s or LOOK_S

    @property
    def instances(self) -> Mapping[str, str]:
        """Every process of the shop, and the version it runs."""
        if self.strategy == "flag":
            return {"shop-a": "", "shop-b": ""}  # both variations live in the same processes
        if self.strategy == "rolling":
            return {f"{version}-{server}": version for version in (OLD, NEW) for server in "abcd"}
        return {"v1-a": OLD, "v1-b": OLD, "v2-a": NEW}  # two of the old, so that their noise can be told

    @property
    def variation_label(self) -> str:
        """The label that tells the arms apart."""
        return "variation" if self.strategy == "flag" else "version"

    def of_version(self, version: str) -> list[str]:
        """The instances that serve a version; of a flag, all serve both variations."""
        return [name for name, its in self.instances.items() if its in (version, "")]
