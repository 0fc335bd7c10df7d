"""Run demo scenarios again and again, and print what came of them: one line a run, then one table.

    python benchmarks/scenarios.py --runs 10 bad-canary dead-canary

Exits 1 if any run did not end as its scenario says, or left a verdict that is not the same when it is judged again.
Everything in it is real but the shop; see `deploy-watchdog demo`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import review
from watchdog.demo.scenarios import SCENARIOS

BUILD = Path("build")


@dataclass(frozen=True, slots=True)
class Run:
    """One demo: its last line, whether it ended as expected, how long the whole command took, and how many verdicts it
    left, of which how many are others when they are judged again."""

    told: dict[str, Any]
    expected: bool
    wall_s: float
    verdicts: int
    judged_otherwise: int

    def counted_off(self, ours: str, fronts: str) -> float | None:
        """How far the daemon's count is from the front's, as a share of the front's."""
        if fronts == "failed_requests" and self.told.get("metric") == "orders":
            fronts = "missing_orders"
        truth = float((self.told.get("front") or {}).get(fronts) or 0)
        counted = self.told.get(ours)
        return (float(counted) - truth) / truth if counted is not None and truth else None


def play(scenario: str) -> Run:
    """One demo in a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"
        argv = [sys.executable, "-m", "watchdog", "demo", "--scenario", scenario, "--json", "--keep", str(kept)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
        wall_s = time.monotonic() - began
        ledger = kept / "watchdog.db"
        same = review.recompute(review.open(ledger))["same"].tolist() if ledger.exists() else []
    lines = ended.stdout.splitlines()
    told = json.loads(lines[-1]) if lines else {"outcome": "broke", "sentence": ended.stderr[-300:]}
    return Run(told, ended.returncode == 0, wall_s, len(same), same.count(False))


def line(scenario: str, run: Run) -> str:
    """One run in one line."""
    told = run.told
    return (
        f"{scenario:<22} {'ok ' if run.expected else 'BAD'} {told.get('outcome')!s:<13} {told.get('reason')!s:<17}"
        f" detect {seconds(told.get('time_to_detect_s'))} recover {seconds(told.get('time_to_recover_s'))}"
        f" hook {seconds(told.get('time_to_hook_s'))} wall {seconds(run.wall_s)}"
        f" replayed {run.verdicts - run.judged_otherwise}/{run.verdicts}"
        f" exposed {told.get('exposed_requests')} affected {told.get('affected_requests')} front {told.get('front')}"
    )


def seconds(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.1f}"


def summary(scenario: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The figures of one scenario."""

    def middle(values: Sequence[float | None]) -> float | None:
        found = [value for value in values if value is not None]
        return round(statistics.median(found), 2) if found else None

    def worst(values: Sequence[float | None]) -> float | None:
        found = [abs(value) for value in values if value is not None]
        return round(max(found), 4) if found else None

    return {
        "scenario": scenario,
        "runs": len(runs),
        "as_expected": sum(run.expected for run in runs),
        "detect_median_s": middle([run.told.get("time_to_detect_s") for run in runs]),
        "detect_worst_s": worst([run.told.get("time_to_detect_s") for run in runs]),
        "hook_after_verdict_worst_s": worst([run.told.get("time_to_hook_s") for run in runs]),
        "traffic_back_worst_s": worst([(run.told.get("front") or {}).get("traffic_back_s") for run in runs]),
        "recover_median_s": middle([run.told.get("time_to_recover_s") for run in runs]),
        "exposed_off_worst": worst([run.counted_off("exposed_requests", "exposed_requests") for run in runs]),
        "affected_off_worst": worst([run.counted_off("affected_requests", "failed_requests") for run in runs]),
        "requests_after_end": sum((run.told.get("front") or {}).get("requests_after_end") or 0 for run in runs),
        "verdicts": sum(run.verdicts for run in runs),
        "judged_otherwise": sum(run.judged_otherwise for run in runs),
        "wall_worst_s": worst([run.wall_s for run in runs]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS))
    options = parser.parse_args()
    figures = []
    for scenario in options.scenarios:
        runs = []
        for _ in range(options.runs):
            runs.append(play(scenario))
            print(line(scenario, runs[-1]), flush=True)
        figures.append(summary(scenario, runs))
    BUILD.mkdir(exist_ok=True)
    (BUILD / "scenarios.json").write_text(json.dumps(figures, indent=1))
    for figure in figures:
        print(json.dumps(figure))
    return 0 if all(f["as_expected"] == f["runs"] and not f["judged_otherwise"] for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
