"""What each peer says on the same samples; runs in an environment of its own that knows nothing of this project.

    python -m benchmarks.peers.rules PEER inputs.npz out.json --n 200

A peer calls an alarm where it finds the candidate worse at 1 %: peeking = the first look at which it does, one look =
only after the last interval. Peers that test in both directions count in the bad one only.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ALPHA = 0.01
NEVER = 0


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """bad and n of candidate and baseline, (watches, looks); n = 0: bad is a level."""

    bad_c: Floats
    n_c: Floats
    bad_b: Floats
    n_b: Floats
    share: float

    @property
    def counts(self) -> bool:
        return bool(self.n_b.any())

    @property
    def looks(self) -> int:
        return int(self.bad_c.shape[1])

    def values(self) -> tuple[Floats, Floats]:
        """One value per interval and arm: the rate, or the level."""
        if not self.counts:
            return self.bad_c, self.bad_b
        return self.bad_c / np.maximum(self.n_c, 1), self.bad_b / np.maximum(self.n_b, 1)

    def first(self, n: int) -> "Samples":
        return Samples(self.bad_c[:n], self.n_c[:n], self.bad_b[:n], self.n_b[:n], self.share)


Alarms = tuple[NDArray[np.int64], NDArray[np.bool_] | None]  # first alarming look (NEVER), alarm at the only look


def scipy_mannwhitney(samples: Samples) -> Alarms:
    """p < 1 % one-sided on the interval values, at every look from the fifth."""
    from scipy import stats

    x, y = samples.values()
    first = np.zeros(len(x), dtype=np.int64)
    alarm = np.zeros(len(x), dtype=bool)
    for look in range(5, samples.looks + 1):
        p = stats.mannwhitneyu(x[:, :look], y[:, :look], alternative="greater", method="asymptotic", axis=1).pvalue
        alarm = p < ALPHA
        first = np.where((first == NEVER) & alarm, look, first)
    return first, alarm


def kayenta(samples: Samples) -> Alarms:
    """High, with the judge's own 98 % and tolerance; peeking = every tenth look."""
    from benchmarks.peers.kayenta import MetricRule, first_high

    rule = MetricRule(direction="increase")
    x, y = samples.values()
    looks = range(10, samples.looks + 1, 10)
    first = [first_high(a, b, rule, looks) or NEVER for a, b in zip(x, y, strict=True)]
    last = [first_high(a, b, rule, [samples.looks]) is not None for a, b in zip(x, y, strict=True)]
    return np.array(first), np.array(last)


def savvi(samples: Samples) -> Alarms:
    """Multinomial with its default prior (k = 100) and the configured share, after every look; valid at all of them."""
    from savvi.multinomial import Multinomial  # type: ignore[import-not-found, unused-ignore]

    theta = np.array([samples.share, 1 - samples.share])
    theta[1] = 1.0 - theta[0]
    first = np.zeros(len(samples.bad_c), dtype=np.int64)
    counts = np.stack([samples.bad_c, samples.bad_b], axis=-1).astype(np.int64)
    for watch, series in enumerate(counts):
        test = Multinomial(ALPHA, theta)
        for look, x in enumerate(series, start=1):
            test.update(x)
            if test.odds >= 1 / ALPHA and test.counts[0] > samples.share * test.counts.sum():
                first[watch] = look
                break
    return first, None


def spotify_confidence(samples: Samples) -> Alarms:
    """Z-test of rates, group-sequential (Lan and DeMets) over 18 planned looks; two-sided at 2 %."""
    import pandas as pd
    import spotify_confidence as package  # type: ignore[import-not-found, unused-ignore]

    looks = np.arange(10, samples.looks + 1, 10)
    running = {k: np.cumsum(getattr(samples, k), axis=1)[:, looks - 1] for k in ("bad_c", "n_c", "bad_b", "n_b")}
    first = np.zeros(len(samples.bad_c), dtype=np.int64)
    for watch in range(len(first)):
        frame = pd.concat(
            pd.DataFrame({"arm": arm, "look": looks, "bad": running[f"bad_{k}"][watch], "n": running[f"n_{k}"][watch]})
            for arm, k in (("baseline", "b"), ("candidate", "c"))
        )
        frame["final"] = running["n_b"][watch, -1] + running["n_c"][watch, -1]
        test = package.ZTest(frame, "bad", "bad", "n", "arm", "look", interval_size=1 - 2 * ALPHA)
        found = test.difference("baseline", "candidate", groupby="look", final_expected_sample_size_column="final")
        worse = found[(found["adjusted ci_lower"] > 0)]["look"]
        first[watch] = int(worse.min()) if len(worse) else NEVER
    return first, None


def confseq(samples: Samples) -> Alarms:
    """One-sided beta-binomial mixture on the candidate's part of the errors, tuned to 80; valid at every look."""
    from confseq import boundaries  # type: ignore[import-not-found, unused-ignore]

    share = samples.share
    variance = share * (1 - share)
    first = np.zeros(len(samples.bad_c), dtype=np.int64)
    for watch in range(len(first)):
        c, both = np.cumsum(samples.bad_c[watch]), np.cumsum(samples.bad_c[watch] + samples.bad_b[watch])
        log_e = boundaries.beta_binomial_log_mixture(
            c - share * both, both * variance, v_opt=80 * variance, g=share, h=1 - share, alpha_opt=ALPHA
        )
        crossed = np.flatnonzero(np.asarray(log_e) >= math.log(1 / ALPHA))
        first[watch] = crossed[0] + 1 if len(crossed) else NEVER
    return first, None


@dataclass(frozen=True, slots=True)
class Peer:
    rule: Callable[[Samples], Alarms]
    levels: bool  # whether it can judge a level
    most: int  # watches per input, so that slow ones end
    looks: int  # at so many of 180 looks it judges
    only: tuple[str, ...] = ("",)  # beginnings of the inputs it gets


PEERS: Mapping[str, Peer] = {
    "scipy_mannwhitney": Peer(scipy_mannwhitney, True, 1000, 176),
    "kayenta": Peer(kayenta, True, 1000, 19),
    "savvi": Peer(savvi, False, 1000, 180),
    "spotify_confidence": Peer(spotify_confidence, False, 50, 18, ("aa/counts_", "aa/clients_", "delay/")),
    "confseq": Peer(confseq, False, 1000, 180),
}


def compare(peer: Peer, inputs: Mapping[str, Floats], n: int) -> dict[str, Any]:
    """First alarms (per watch, 0 = never) and alarms at the only look, for every input the peer can judge."""
    found: dict[str, Any] = {}
    for case in sorted({key.rsplit("/", 1)[0] for key in inputs}):
        if not case.startswith(peer.only):
            continue
        arrays = {key: inputs[f"{case}/{key}"] for key in ("bad_c", "n_c", "bad_b", "n_b")}
        samples = Samples(**arrays, share=float(inputs[f"{case}/share"][0])).first(min(n, peer.most))
        if not samples.counts and not peer.levels:
            continue
        began = time.perf_counter()
        first, last = peer.rule(samples)
        found[case] = {
            "first": first.tolist(),
            "one_look": None if last is None else last.tolist(),
            "seconds": time.perf_counter() - began,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with np.load(options.inputs, allow_pickle=False) as inputs:
        found = compare(PEERS[options.peer], dict(inputs), options.n)
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
