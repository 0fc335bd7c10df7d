"""Where the processor time of a look goes: so many watches in this process, tick by tick, part by part.

Run: python -m benchmarks.load.look [--watches 500] [--looks 12] [--profile 40]

The daemon's pipeline on a new SQLite ledger, by a clock that this program moves, against the pretended Prometheus in a
process of its own. Parts are in milliseconds of processor time a watch and look; `held` is what the memory of a watch
takes, by its own estimate and by tracemalloc where --memory is given. Compare figures of one run with each other, or
with those of another version that ran beside it.
"""

import argparse
import cProfile
import gc
import os
import pstats
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.load.stage import PAGE
from benchmarks.load.town import TOKEN_ENV, TOKENS, WEBHOOK_ENV, Town
from watchdog import judging
from watchdog.app import App, build, load_config
from watchdog.collecting import Collecting
from watchdog.deploy_request import DeployRequest
from watchdog.ledger import SqlLedger
from watchdog.pipeline import Pipeline

LOOK_S, SETTLE_S = 10, 5
PARTS: Sequence[tuple[Any, str, str]] = (  # what is timed, and what it is called; none of them is within another
    (SqlLedger, "claim_due", "claim"),
    (Collecting, "_fetched", "fetch"),
    (Pipeline, "_see", "arrays"),
    (judging, "judge_decoded", "judge"),
    (Pipeline, "_looked", "decide"),
    (Pipeline, "_record", "commit"),
    (Pipeline, "_release", "release"),
    (Pipeline, "act", "act"),
)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1.7e9
        self._ids = count()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def new_id(self) -> str:
        return f"{next(self._ids):032x}"

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Times:
    """Processor time by part."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        for owner, name, part in PARTS:
            setattr(owner, name, self._timed(getattr(owner, name), part))

    def _timed(self, real: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return real(*args, **named)
            finally:
                self.spent[part] += time.process_time() - began  # type: ignore[assignment]

        return timed


@contextmanager
def daemon(town: Town, folder: Path, clock: Clock) -> Iterator[App]:
    """Wired as `make load` configures it, its sources started and nothing else."""
    asked = [sys.executable, "-m", "benchmarks.load.prometheus"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE) as prometheus:
        assert prometheus.stdout is not None
        url = f"http://127.0.0.1:{int(prometheus.stdout.readline())}"
        env = {f"{TOKEN_ENV}_{at}": f"{at}" * 32 for at in range(TOKENS)} | {WEBHOOK_ENV: "whsec_" + "A" * 43 + "="}
        text = town.config(
            listen="127.0.0.1:1", prometheus=url, ledger=folder / "w.db", look_s=LOOK_S, watch_s=900, baseline_s=60
        )
        told = f'url = "{url}"'
        (folder / "config.toml").write_text(text.replace(told, f"{told}\nmax_clock_skew_s = 0"))  # ours is not real
        app = build(load_config(folder / "config.toml", env), clock=clock, env=env)
        for source in app.sources.values():
            source.start()
        try:
            yield app
        finally:
            for source in app.sources.values():
                source.close()
            app.ledger.close()
            prometheus.kill()


def begin(app: App, town: Town, clock: Clock) -> None:
    """The deploys, at moments of their own over the time of one look."""
    began = clock.at
    for number in range(town.watches):
        clock.at = began + 0.1 + number * (LOOK_S - 0.2) / town.watches
        (service, environment), (old, new) = town.place(number), town.versions(number)
        asked = DeployRequest(service=service, environment=environment, version=new, previous_version=old, share=0.3)
        app.intake.receive(asked, actor="load")
    clock.at = began + LOOK_S


def ticks(app: App, clock: Clock, number: int) -> int:
    """So many ticks a second apart; how many looks they were."""
    looks = 0
    for _ in range(number):
        clock.at += 1.0
        looks += app.pipeline.tick()
    return looks


def rss_mb() -> float:
    return int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1]) * PAGE / 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=500)
    parser.add_argument("--looks", type=int, default=12)
    parser.add_argument("--profile", type=int, default=0, metavar="LINES", help="of cProfile, by cumulative time")
    parser.add_argument("--sort", default="cumulative")
    parser.add_argument("--memory", type=int, default=0, metavar="LINES", help="of tracemalloc, the largest first")
    given = parser.parse_args(arguments)
    clock, town = Clock(), Town(watches=given.watches, services=min(500, given.watches))
    profile, times = cProfile.Profile(), Times()
    with tempfile.TemporaryDirectory(prefix="watchdog-look-") as name, daemon(town, Path(name), clock) as app:
        before_mb = rss_mb()
        if given.memory:
            tracemalloc.start(1)
        begin(app, town, clock)
        ticks(app, clock, SETTLE_S + LOOK_S)  # the first look, with the time before
        gc.collect()
        first_mb = rss_mb()
        times.spent.clear()
        began = time.process_time()
        if given.profile:
            profile.enable()
        looks = ticks(app, clock, given.looks * LOOK_S)
        profile.disable()
        spent = time.process_time() - began
        gc.collect()
        if given.memory:
            for stat in tracemalloc.take_snapshot().statistics("lineno")[: given.memory]:
                print(stat)
        print(
            f"RSS {before_mb:.0f} MB before, {first_mb:.0f} MB after the first looks, {rss_mb():.0f} MB now; "
            f"remembered {app.pipeline.memory.nbytes / max(1, given.watches) / 1e3:.1f} KB a watch"
        )
    parts = {part: 1000 * times.spent[part] / looks for _, _, part in PARTS}
    parts["rest"] = 1000 * spent / looks - sum(parts.values())
    each = 1000 * spent / looks
    print(f"{looks} looks: {each:.2f} ms each, {each - parts['judge']:.2f} without the judge")
    print(", ".join(f"{part} {ms:.2f}" for part, ms in parts.items()))
    if given.profile:
        pstats.Stats(profile).sort_stats(given.sort).print_stats(given.profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
