"""Recorded levels with every tunable constant of their judge chosen without the dataset that is judged.

`python -m benchmarks.leave_one_out --cases DIR`: judges all cases under every setting of a small grid, then takes, for
each dataset, the setting that finds most faults in the others while their false alarms stay within a share.
Minutes, on every core.
"""

import argparse
import itertools
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from analysis import weigh
from analysis.judge import judge
from analysis.methods import gauge, windows
from analysis.result import JudgeSettings
from watchdog.app import recorded_cases
from watchdog.backtest import Judged, trials

GRID = {"CLIP": (3.5, 4.5), "TAIL": (3.0, 4.0), "NOISE": (2.0, 3.0), "LEVELS_FROM_THE_START": (0.25, 0.75)}
MOST_FALSE = 7 / 616
OWNERS = {"CLIP": gauge, "TAIL": windows, "NOISE": windows, "LEVELS_FROM_THE_START": weigh}


def main() -> None:
    """Print the pooled figures of the settings that were chosen blindly, and each setting's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True)
    folder = parser.parse_args().cases
    settings = list(itertools.product(*GRID.values()))
    tables = {}
    with ProcessPoolExecutor() as pool:
        for values, table in zip(settings, pool.map(_judged_under, settings, itertools.repeat(folder)), strict=True):
            tables[values] = table
            print(dict(zip(GRID, values, strict=True)), dict(sum(table.values(), Counter())), flush=True)
    _choose(tables)


def _judged_under(values: tuple[float, ...], folder: Path) -> dict[str, Counter[str]]:
    """All cases, judged by constants of which this process keeps no others."""
    for name, value in zip(GRID, values, strict=True):
        setattr(OWNERS[name], name, value)
    judged = []
    for case in recorded_cases(folder):
        said = judge([case.unlabelled().observation()], [JudgeSettings()])[0]
        at = None if said.alarm_look is None else (said.alarm_look + 1) * case.step_s
        judged.append(
            Judged(id=case.id, verdict=said.kind.value, reason=None, alarm_at_s=at, metric=said.metric, sentence="")
        )
    return _table(folder, judged)


def _table(folder: Path, judged: list[Judged]) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials(folder, judged):
        own = counts[trial.group.split(" ")[0]]
        if trial.fault:
            own.update(faults=1, found=int(trial.found), early=int(trial.early))
        else:
            own.update(unchanged=1, false=int(trial.alarm_at_s is not None))
    return dict(counts)


def _choose(tables: dict[tuple[float, ...], dict[str, Counter[str]]]) -> None:
    pooled: Counter[str] = Counter()
    for left_out in next(iter(tables.values())):
        others = {v: sum((c for g, c in t.items() if g != left_out), Counter()) for v, t in tables.items()}
        fit = [v for v, c in others.items() if c["false"] <= MOST_FALSE * c["unchanged"]]
        best = max(fit or others, key=lambda v: (others[v]["found"], -others[v]["false"]))
        own = tables[best][left_out]
        print(f"{left_out}: {dict(zip(GRID, best, strict=True))} {dict(own)}")
        pooled += own
    print("left out:", dict(pooled))


if __name__ == "__main__":
    main()
