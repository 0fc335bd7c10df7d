"""Runs every peer on the same inputs and turns what it says into figures with the judge's own names."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import environment, inputs
from benchmarks.peers.rules import NEVER, PEERS

TIMED = "aa/counts_1pct_50_50"  # nearly no alarms: every look is judged
NEEDS = {"scipy_mannwhitney": "scipy", "kayenta": "scipy"}  # the requirement file, where it is not the peer's name
PEER_S = 3600


@dataclass(slots=True)
class Figures:
    """Flat figures, how many watches stand behind each, and what is missing and why."""

    values: dict[str, float] = field(default_factory=dict)
    n: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, n: int) -> None:
        self.values[name], self.n[name] = value, n


def compare(n: int, say: Callable[[str], None] = print) -> Figures:
    """Every peer that can be installed, on n watches per input (slow ones on fewer)."""
    not_installed = environment.build()
    found = Figures()
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "inputs.npz"
        inputs.write(given, n)
        for peer in PEERS:
            why = not_installed.get(NEEDS.get(peer, peer), "")
            if why:
                found.missing[peer] = why
                say(f"  {peer}: {why}")
                continue
            told, why = _run(peer, given, Path(folder) / f"{peer}.json", n)
            if why:
                found.missing[peer] = why
            if PEERS[peer].only != ("",):
                found.missing[f"{peer}, other inputs"] = "too slow: a large part of a second for each watch"
            summarise(peer, told, found)
            took = sum(said["seconds"] for said in told.values())
            say(f"  {peer}: {why or f'{len(told)} inputs in {took:.0f} s'}")
    return found


def _run(peer: str, given: Path, out: Path, n: int) -> tuple[dict[str, Any], str]:
    argv = [environment.python(), "-m", "benchmarks.peers.rules", peer, str(given), str(out), "--n", str(n)]
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=PEER_S, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"did not end within {PEER_S} s"
    if ended.returncode != 0:
        return {}, (ended.stderr.strip().splitlines() or ["ended with an error"])[-1][:200]
    return dict(json.loads(out.read_text())), ""


def summarise(peer: str, told: Mapping[str, Any], found: Figures) -> None:
    """Shares of false alarms, and delays as ratios to Wald's bound with their upper 95 % limits."""
    for case, said in told.items():
        kind, name = case.split("/")
        first = np.array(said["first"])
        if case == TIMED:
            judged = len(first) * PEERS[peer].looks
            found.add(f"{peer}_judge_metric_looks_per_s", judged / said["seconds"], judged)
        if kind == "aa":
            found.add(f"{peer}_aa_false_alarm_{name}", float((first != NEVER).mean()), len(first))
            if said["one_look"] is not None:
                found.add(f"{peer}_one_look_aa_false_alarm_{name}", float(np.mean(said["one_look"])), len(first))
            continue
        delay = inputs.DELAYS[name]
        onset, looks = delay.service.onset, delay.service.looks
        first = first[(first == NEVER) | (first > onset)]  # earlier alarms are false ones
        waited = np.where(first == NEVER, looks, first) - onset
        scale = 1.0 if onset else delay.wald
        key = f"{peer}_late_onset_delay_looks" if onset else f"{peer}_wald_ratio_{name}"
        mean, error = float(waited.mean()), float(waited.std(ddof=1) / np.sqrt(len(waited)))
        found.add(key, mean / scale, len(waited))
        found.add(f"{key}_max", (mean + 1.645 * error) / scale, len(waited))
        found.add(f"{peer}_found_{name}", float((first != NEVER).mean()), len(waited))
