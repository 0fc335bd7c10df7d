"""Schedules of SIGKILLs against the real daemon, several worlds side by side; then kills while CI keeps telling.

    python -m tests.crash.crash_run --schedules 2000        # or: make crash N=2000

The last line is a JSON object; the exit status says whether nothing was lost and nothing done twice.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.crash import fake_shop, forked
from tests.crash.crash_load import Told, loaded
from tests.crash.crash_plan import Schedule, named_points, schedules
from tests.crash.crash_world import Played, World
from watchdog.demo.processes import free_ports

PROGRESS = 100
KILLS_OF_ONE_LEDGER = 10


class Run:
    """Plays schedules and keeps count."""

    def __init__(self, root: Path, shop_port: int, *, anew_every: int, keep: bool) -> None:
        self._root, self._shop_port, self._anew_every, self._keep = root, shop_port, anew_every, keep
        self.played: list[Played] = []
        self.loads: list[Told] = []
        self.passed: set[str] = set()

    async def loaded(self, kills: int, seed: int) -> None:
        """Kills at random times under the load of deploy events, ten for a ledger, two ledgers side by side."""
        dice = random.Random(seed)
        sizes = iter([min(KILLS_OF_ONE_LEDGER, kills - done) for done in range(0, kills, KILLS_OF_ONE_LEDGER)])

        async def one_after_the_other() -> None:
            port = free_ports(1)[0]
            for size in sizes:
                folder = self._root / f"load{len(self.loads)}-{port}"
                told = await loaded(folder, port=port, shop_port=self._shop_port, kills=size, dice=dice)
                self.loads.append(told)
                if told.missing:
                    print(f"{folder.name}: not on record: {sorted(told.missing)}", file=sys.stderr, flush=True)
                elif not self._keep:
                    shutil.rmtree(folder)

        await asyncio.gather(one_after_the_other(), one_after_the_other())

    async def worker(self, jobs: Iterator[tuple[int, Schedule]]) -> None:
        """One world after the other, on a port of its own."""
        port = free_ports(1)[0]
        for number, schedule in jobs:
            anew = self._anew_every > 0 and number % self._anew_every == 0
            world = World(self._root / f"w{number}", schedule, port=port, shop_port=self._shop_port, anew=anew)
            played = await world.play()
            self.played.append(played)
            self.passed |= set((world.folder / "passed").read_text().split())
            if played.wrong:
                print(f"#{number} {schedule}: {'; '.join(played.wrong)}", file=sys.stderr, flush=True)
            if not played.wrong and not self._keep:
                shutil.rmtree(world.folder)
            if len(self.played) % PROGRESS == 0:
                print(self.sentence(), file=sys.stderr, flush=True)

    def figures(self) -> dict[str, object]:
        """What was seen."""
        outcomes = Counter(one.outcome for one in self.played)
        return {
            "schedules": len(self.played),
            "kills": sum(one.kills for one in self.played),
            "lost": sum(one.lost for one in self.played),
            "doubled": sum(one.doubled for one in self.played),
            "otherwise_wrong": sum(bool(one.wrong) and not one.lost and not one.doubled for one in self.played),
            "outcomes": dict(outcomes.most_common()),
            "unknown_paged": f"{sum(one.paged for one in self.played)} of {outcomes['UNKNOWN']}",
            "hook_calls": sum(one.calls for one in self.played),
            "effects": sum(one.effects for one in self.played),
            "copies_of_messages": sum(one.copies for one in self.played),
            "load_kills": sum(one.kills for one in self.loads),
            "acknowledged": sum(len(one.acknowledged) for one in self.loads),
            "unanswered": sum(one.unanswered for one in self.loads),
            "acknowledged_and_missing": sum(len(one.missing) for one in self.loads),
            "points_passed": f"{len(self.passed)} of {len(named_points())}",
        }

    def sentence(self) -> str:
        found = self.figures()
        return (
            f"{found['schedules']} schedules, {found['kills']} kills: {found['lost']} lost, {found['doubled']} doubled"
            f", UNKNOWN paged {found['unknown_paged']}, outcomes {found['outcomes']}; {found['load_kills']} kills "
            f"under load: {found['acknowledged']} acknowledged, {found['acknowledged_and_missing']} of them missing"
        )


async def play(run: Run, wanted: list[Schedule], asked: argparse.Namespace) -> None:
    """All schedules, then the load."""
    jobs = iter(list(enumerate(wanted)))
    await asyncio.gather(*(run.worker(jobs) for _ in range(asked.side_by_side)))
    await run.loaded(asked.schedules // 10 if asked.load_kills is None else asked.load_kills, asked.seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=40)
    parser.add_argument("--load-kills", type=int, help="kills while CI keeps telling of deploys; default: a tenth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", metavar="DEATH", help="one schedule: a hook's mode, then its deaths")
    parser.add_argument("--side-by-side", type=int, default=2, help="worlds at the same time")
    parser.add_argument("--anew-every", type=int, default=50, help="every so many worlds start python anew; 0: never")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave every world's files in a new folder")
    asked = parser.parse_args()
    wanted = list(schedules(asked.schedules, asked.seed))
    if asked.only:
        wanted = [Schedule(asked.only[0], tuple(asked.only[1:]))]
    root = asked.keep or Path(tempfile.mkdtemp(prefix="crash"))
    root.mkdir(exist_ok=True)
    forked.import_everything()
    began = time.monotonic()
    with fake_shop.running(root) as shop_port:
        run = Run(root.resolve(), shop_port, anew_every=asked.anew_every, keep=asked.keep is not None)
        asyncio.run(play(run, wanted, asked))
    figures = run.figures()
    good = all(figures[name] == 0 for name in ("lost", "doubled", "otherwise_wrong", "acknowledged_and_missing"))
    if good and asked.keep is None:
        shutil.rmtree(root)
    elif not good:
        print(f"what went wrong is in {root}", file=sys.stderr)
    seconds = time.monotonic() - began
    print(f"{run.sentence()}; {seconds:.0f} s")
    missed = sorted(set(named_points()) - run.passed)
    print(json.dumps({**figures, "points_missed": missed, "seconds": round(seconds, 1), "held": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
