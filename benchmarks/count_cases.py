"""Real request counts: the judge as shipped beside the plain e-process, on the same cases and the same budget.

    python benchmarks/count_cases.py --cases DIR [--json build/count_cases.json]

DIR holds recorded cases with counts (cases.json and Parquet files). `plain` is the same e-process with margin 0, no
floor and no correction for clustered events, all metrics of a case in one budget as shipped; `plain main` spends the
whole budget on the first metric; `plain/share`
gives it only its share. The truth is read only after every alarm is fixed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.combine import average, budget_shares, first_crossing
from analysis.decode import Floats, decode
from analysis.dispersion import Noise
from analysis.hindsight import watch
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_prior
from analysis.prepare import Observation
from analysis.result import Design, JudgeSettings, VerdictKind
from analysis.weigh import path_of, set_up, weighings
from watchdog.app import recorded_cases

SETTINGS = JudgeSettings()
RULES = ("shipped", "acted", "plain", "plain_main", "plain_share")


@dataclass(frozen=True, slots=True)
class Alarms:
    """Which rule alarmed on one case, and how the shipped one said it."""

    meta: Mapping[str, Any]
    shipped: bool
    acted: bool
    plain: bool
    plain_main: bool
    plain_share: bool


def plain_alarms(observation: Observation, budget: float) -> tuple[bool, bool, bool]:
    """Whether the plain e-process alarms: over all metrics, on the first with all of the budget, and with its share."""
    watched = decode(observation)
    prior = onset_prior(watched.usable, SETTINGS.planned_looks)
    shares = budget_shares(observation.metrics)
    paths = []
    for metric, share in zip(watched.metrics, shares, strict=True):
        (weighing,) = weighings([set_up(watched, metric, SETTINGS, prior, share)])
        bare = [_bare(test) for test in weighing.tests]
        paths.append(path_of(weighing, list(evidence_paths(bare)[0])) if bare else np.zeros(watched.looks))
    threshold = float(-np.log(budget))
    alone = threshold - float(np.log(shares[0]))
    return _crossed(average(paths, shares), threshold), _crossed(paths[0], threshold), _crossed(paths[0], alone)


def _bare(test: CountTest) -> CountTest:
    return replace(test, r0=1.0, floor=0.0, noise=Noise.fixed(np.ones(len(test.log_prior))))


def _crossed(path: Floats, threshold: float) -> bool:
    return first_crossing(path, threshold) is not None


def judge_all(folder: Path) -> list[Alarms]:
    """Every case by every rule."""
    found = []
    for case in recorded_cases(folder):
        observation = case.unlabelled().observation()
        verdict = watch(observation, SETTINGS)
        plain, main, share = False, False, False
        if observation.design is Design.CONCURRENT:  # against the time before the deploy the plain form has no meaning
            plain, main, share = plain_alarms(observation, SETTINGS.budget)
        acted = verdict.kind is VerdictKind.DEGRADED
        found.append(Alarms(case.meta, verdict.alarm_look is not None, acted, plain, main, share))
    return found


def _routing(meta: Mapping[str, Any]) -> str:
    if meta["strategy"] == "prepost":
        return "before/after"
    return "by client" if meta["sticky"] else "by request"


def _line(name: str, cases: Sequence[Alarms]) -> dict[str, Any]:
    counted = {rule: sum(getattr(case, rule) for case in cases) for rule in RULES}
    return {"name": name, "cases": len(cases), **counted}


def lines(found: Iterable[Alarms]) -> list[dict[str, Any]]:
    """The table: false alarms by source and routing, implants found by source, size and routing."""
    groups: dict[str, list[Alarms]] = defaultdict(list)
    for case in found:
        source, how = case.meta["dataset"], _routing(case.meta)
        if case.meta["kind"] == "AA":
            for name in (f"false  {source:4} {how}", f"false  {source:4} all", f"false  all  {how}"):
                groups[name].append(case)
            continue
        implant = case.meta["implant"]
        size = f"x{implant['factor']:g}" if implant.get("factor") else "+2pt"
        main = implant["metric"] in (0, case.meta["metrics"][0]["name"])
        for name in (f"found  {source:4} {how}", f"found  all  {how}"):
            groups[name].append(case)
        if main:
            groups[f"found  {source:4} main metric {size}"].append(case)
    return [_line(name, cases) for name, cases in sorted(groups.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = lines(judge_all(options.cases))
    print(f"{'':34} cases   shipped  (acts)    plain  plain main  plain/share")
    for line in table:
        n = line["cases"]
        shares = [f"{line[rule]:4} {line[rule] / n:5.1%}" for rule in RULES]
        print(f"{line['name']:34} {n:5}  {'  '.join(shares)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
