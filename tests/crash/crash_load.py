"""Kills at random times while CI keeps telling of deploys: whatever was answered with 2xx is on record."""

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.ci_client import ON_RECORD, tell
from tests.crash.crash_plan import Schedule
from tests.crash.crash_world import TOKEN, World

SENDERS = 6
LONGEST_LIFE_S = 1.5  # of a daemon that has begun to take deploys
AGAIN = 0.2  # of what is on record is told once more


@dataclass(slots=True)
class Told:
    """What CI was promised, and what was found afterwards."""

    kills: int = 0
    acknowledged: set[str] = field(default_factory=set)
    answers: int = 0
    unanswered: int = 0
    missing: set[str] = field(default_factory=set)


async def loaded(folder: Path, *, port: int, shop_port: int, kills: int, dice: random.Random) -> Told:
    """One ledger, so many daemons one after the other, all of them under load."""
    world, told = World(folder, Schedule("probe", ()), port=port, shop_port=shop_port), Told()
    over = asyncio.Event()
    senders = [asyncio.create_task(_send(port, number, told, dice, over)) for number in range(SENDERS)]
    try:
        for _ in range(kills):
            await _taken(world, told)
            await asyncio.sleep(dice.uniform(0.0, LONGEST_LIFE_S))
            world.kill()
            told.kills += 1
        await _taken(world, told)
        over.set()
        await asyncio.gather(*senders)
    finally:
        world.kill()
    with closing(sqlite3.connect(f"file:{folder}/watchdog.db?mode=ro", uri=True)) as ledger:
        stored = {row[0] for row in ledger.execute("SELECT w.id FROM watches w JOIN deploys d ON d.id = w.deploy_id")}
    told.missing = told.acknowledged - stored
    world.check_ledger()
    told.missing |= set(world.played.wrong)
    return told


async def _taken(world: World, told: Told) -> None:
    """Wait until the daemon of now has taken a deploy."""
    before = told.answers
    while told.answers == before:
        await world.glance()


async def _send(port: int, sender: int, told: Told, dice: random.Random, over: asyncio.Event) -> None:
    """Deploys of an environment of its own, each told until it is on record, and sometimes once more."""
    number = 0
    while not over.is_set():
        name = f"deploy-{sender}-{number}"
        deploy = {
            "id": name,
            "service": "shop",
            "environment": f"e{sender}",
            "version": f"v{number + 2}",
            "previous_version": f"v{number + 1}",
        }
        status = await tell(port, TOKEN, deploy)
        if status in ON_RECORD:
            told.acknowledged.add(name)
            told.answers += 1
            number += dice.random() > AGAIN
        else:
            told.unanswered += 1
            await asyncio.sleep(0.1)
