"""Which daemon is killed where: every named point of the code, points inside the hook, and times nobody named."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
POINT = re.compile(r'failpoint\("([a-z-]+)"\)')
MODES = ("probe", "idempotent", "bare")
TRAPS = (
    "daemon-before", "daemon-long-before", "daemon-after", "hook-before", "hook-after", "both-before", "both-after",
)  # fmt: skip
LATEST = {  # up to which passing a daemon of these short watches is killed there; others at the first only
    "tick-claimed": 3, "tick-fetched": 3, "tick-released": 4, "tick-before-judge": 2, "tick-before-commit": 2,
    "tick-committed": 2, "ledger-change-before-commit": 6, "ledger-change-committed": 6, "verify-before-commit": 3,
    "action-before-probe": 2, "action-before-claim": 2, "message-before-send": 5, "message-sent": 5,
    "message-recorded": 5,
}  # fmt: skip
RANDOM_UNTIL_S = 4.0
LOOP_EVERY = 40
LOOP = ("adopt-before-probe:1",) * 19  # a daemon that cannot even take up what its forerunner left


@dataclass(frozen=True, slots=True)
class Schedule:
    """One world: how its hook behaves, and how each of its daemons dies; the last one lives.

    A death is `name:n`, the n-th passing of a named point; `hook:TRAP`, inside the hook; or `at:S`, after some seconds.
    """

    mode: str
    deaths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.mode} {' '.join(self.deaths) or 'unharmed'}"


def named_points() -> list[str]:
    """Every named point of the daemon's code."""
    return sorted({name for path in (ROOT / "watchdog").rglob("*.py") for name in POINT.findall(path.read_text())})


def deaths() -> list[str]:
    """Every place where a daemon is killed."""
    at_points = [f"{name}:{n}" for name in named_points() for n in range(1, LATEST.get(name, 1) + 1)]
    return at_points + [f"hook:{trap}" for trap in TRAPS]


def schedules(count: int, seed: int) -> Iterator[Schedule]:
    """The first ones go through all places once, with every kind of hook in turn; then pairs, some at random times. Now
    and then a daemon dies again and again in the middle of its work."""
    dice = random.Random(seed)
    singles = deaths()
    dice.shuffle(singles)
    for number in range(count):
        mode = MODES[number % len(MODES)]
        if number % LOOP_EVERY == LOOP_EVERY - 1:
            yield Schedule("probe", ("action-claimed:1", *LOOP))
            continue
        first = singles[number % len(singles)] if number % 10 else f"at:{dice.uniform(0, RANDOM_UNTIL_S):.3f}"
        second = dice.choice(singles) if dice.random() < 0.9 else f"at:{dice.uniform(0, RANDOM_UNTIL_S):.3f}"
        yield Schedule(mode, (first, second))
