"""What happens in a run besides faults: who deploys what and when, and what operators do meanwhile."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.simulator.inbox import SINKS
from tests.simulator.production import TRAITS
from tests.simulator.settings import MODES, service_name
from tests.simulator.traffic import Truth, draw_truth

LAST_EVENT_S = 90.0
ECHOES = 0.3
AMBUSHES = 0.25


class Verb(StrEnum):
    APPROVE = "approve"
    DENY = "deny"
    CANCEL = "cancel"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    RESUME = "resume"
    DEPLOY = "deploy"  # of the same service; not an order, but CI's doing


ORDERS = tuple(verb for verb in Verb if verb is not Verb.DEPLOY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """CI says that a version is live; `tries`: how often it says so at least."""

    at_s: float
    id: str
    service: str
    version: str
    truth: Truth
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    at_s: float
    verb: Verb
    deploy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    replicas: int
    shared: bool
    sinks: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    orders: tuple[Order, ...]
    ambush: Verb | None  # what an operator does in the very moment in which a rollback is about to be claimed
    echo: Truth | None  # CI announces what a rollback made live as a deploy of its own, and it seems to be like this


def draw_story(random: Random) -> Story:
    replicas = random.choice((1, 1, 1, 2, 2, 3))
    arrivals = _arrivals(random)
    return Story(
        replicas=replicas,
        shared=replicas > 1 or random.random() < 0.2,
        sinks=SINKS if random.random() < 0.3 else SINKS[:1],
        arrivals=arrivals,
        orders=_orders(random, [arrival.id for arrival in arrivals]),
        ambush=random.choice((Verb.PAUSE, Verb.PAUSE, Verb.CANCEL, Verb.DEPLOY))
        if random.random() < AMBUSHES
        else None,
        echo=draw_truth(random) if random.random() < ECHOES else None,
    )


def _arrivals(random: Random) -> tuple[Arrival, ...]:
    found = []
    for _ in range(random.choice((1, 1, 2, 3))):
        hook = random.choice(sorted(TRAITS))
        service = service_name(hook, random.choice(("auto", "auto", "auto", random.choice(MODES))))
        at_s = random.random() * 10.0
        for number in range(random.choice((1, 1, 1, 2))):
            found.append(
                Arrival(
                    at_s=at_s,
                    id=f"{service}-{number + 2}",
                    service=service,
                    version=f"v{number + 2}",
                    truth=draw_truth(random),
                    tries=random.choice((1, 1, 2)),
                )
            )
            at_s += 2.0 + random.random() * 60.0
    unique = {arrival.id: arrival for arrival in found}
    return tuple(sorted(unique.values(), key=lambda arrival: arrival.at_s))


def _orders(random: Random, deploys: list[str]) -> tuple[Order, ...]:
    if random.random() < 0.5:
        return ()
    orders = [
        Order(at_s=random.random() * LAST_EVENT_S, verb=random.choice(ORDERS), deploy=random.choice(deploys))
        for _ in range(random.choice((1, 2, 4)))
    ]
    paused = [order for order in orders if order.verb is Verb.PAUSE]
    orders += [Order(at_s=LAST_EVENT_S + 10.0, verb=Verb.RESUME, deploy="") for _ in paused[:1]]
    return tuple(sorted(orders, key=lambda order: order.at_s))
