"""Many watches beside each other: does the daemon keep its rhythm, and within which memory?

Run: python -m benchmarks.load.watches [--watches 5000] [--seconds 600] [--json]

A real daemon on a new SQLite ledger watches so many deploys of services with six metrics each, against a pretended
Prometheus that answers at once. Watches that end are followed by the next deploy of their service. The last line prints
the figures; the exit status is 0 where all hold. `cores` is the processor time of the daemon and its judges: where lags
are long and it is far below the machine's cores, something else kept the machine busy.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.load.stage import Stage, p99_s, stage
from benchmarks.load.town import TEMPLATES, Town

MOST_LAG_S, MOST_RSS_MB, MOST_SLOPE_MB, FEWEST_LOOKS = 1.0, 400.0, 1.0, 0.99
MOST_QUERIES = 1.02  # a tick that comes late by some milliseconds may meet two seconds
SLOPE_FROM_S = 1200.0  # a shorter run says nothing about growth
SAMPLE_S, TICK_S = 2.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run showed. Queries are per template and tick; the slope is None where the run was too short for one."""

    watches: int
    seconds: float
    looks: float
    looks_expected: float
    tick_lag_p99_s: float
    look_lag_p99_s: float
    rss_mb: float
    slope_mb_per_10_min: float | None
    queries: float
    cores: float

    def failures(self) -> list[str]:
        """What does not hold."""
        found = {
            f"tick lag p99 {self.tick_lag_p99_s:g} s, expected below {MOST_LAG_S:g} s": self.tick_lag_p99_s
            > MOST_LAG_S,
            f"{self.looks:.0f} looks, expected {self.looks_expected:.0f}": self.looks
            < FEWEST_LOOKS * self.looks_expected,
            f"RSS {self.rss_mb:.0f} MB, expected below {MOST_RSS_MB:.0f} MB": self.rss_mb >= MOST_RSS_MB,
            f"{self.queries:.2f} queries per template and tick, expected at most 1": self.queries > MOST_QUERIES,
            f"memory grows by {self.slope_mb_per_10_min} MB in 10 min": (self.slope_mb_per_10_min or 0.0)
            >= MOST_SLOPE_MB,
        }
        return [words for words, is_so in found.items() if is_so]

    def line(self) -> str:
        slope = "" if self.slope_mb_per_10_min is None else f", {self.slope_mb_per_10_min:+.2f} MB per 10 min"
        return (
            f"{self.watches} watches x 6 metrics for {self.seconds:.0f} s: "
            f"{self.looks:.0f} of {self.looks_expected:.0f} looks, tick lag p99 <= {self.tick_lag_p99_s:g} s, "
            f"look lag p99 <= {self.look_lag_p99_s:g} s, RSS {self.rss_mb:.0f} MB{slope}, "
            f"{self.queries:.2f} queries per template and tick, {self.cores:.2f} cores, "
            f"{1000 * self.cores * self.seconds / max(1.0, self.looks):.1f} ms of processor a look"
        )


class Poster:
    """Tells the daemon of deploys, each place again when its watch has ended."""

    def __init__(self, found: Stage, *, over_s: float, watch_s: float) -> None:
        self._stage, self._over_s, self._again_s = found, over_s, watch_s + 20.0
        self._stopped = threading.Event()
        self.posted = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _run(self) -> None:
        watches, began = self._stage.town.watches, time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._stage.port, timeout=60)
        number = 0
        while not self._stopped.is_set():
            turn, at = divmod(number, watches)
            wait_s = began + turn * self._again_s + at * self._over_s / watches - time.monotonic()
            if wait_s > 0 and self._stopped.wait(wait_s):
                return
            if self._post(connection, number):
                number += 1
                self.posted += 1

    def _post(self, connection: http.client.HTTPConnection, number: int) -> bool:
        service, environment = self._stage.town.place(number)
        old, new = self._stage.town.versions(number)
        body = {"id": f"load-{number}", "service": service, "environment": environment, "version": new,
                "previous_version": old, "share": 0.3}  # fmt: skip
        token = self._stage.tokens[number % len(self._stage.tokens)]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/api/v1/deploys", json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return False
        if answer.status == 429:
            self._stopped.wait(float(answer.headers.get("Retry-After", "1")))
        return answer.status in (200, 201)


def measure(found: Stage, *, seconds: float, look_s: float, watch_s: float, spread_s: float) -> Figures:
    """Post the deploys, let every watch have a look or two, and watch the daemon for so long."""
    poster = Poster(found, over_s=spread_s, watch_s=watch_s)
    poster.start()
    try:
        while poster.posted < found.town.watches:
            time.sleep(0.5)
            _alive(found)
        print(f"{poster.posted} deploys told; measuring in {2 * look_s:.0f} s", flush=True)
        time.sleep(2 * look_s)
        return _observed(found, seconds, look_s, watch_s)
    finally:
        poster.stop()


def _observed(found: Stage, seconds: float, look_s: float, watch_s: float) -> Figures:
    before, asked_before, cpu_before = found.metrics(), json.loads(found.asked()), found.cpu_s()
    began, told = time.monotonic(), 0.0
    sizes: list[tuple[float, float]] = []
    while (gone := time.monotonic() - began) < seconds:
        _alive(found)
        sizes.append((gone, found.rss_mb()))
        if gone - told >= 10:
            told = gone
            print(
                f"{gone:6.0f} s  RSS {sizes[-1][1]:.0f} MB  {(found.cpu_s() - cpu_before) / gone:.2f} cores", flush=True
            )
        time.sleep(min(SAMPLE_S, max(0.0, seconds - gone)))
    after, asked = found.metrics(), json.loads(found.asked())
    took = time.monotonic() - began
    queries = sum(asked.values()) - sum(asked_before.values())
    return Figures(
        watches=found.town.watches,
        seconds=took,
        looks=_verdicts(after) - _verdicts(before),
        looks_expected=found.town.watches * took / look_s * watch_s / (watch_s + 20.0),
        tick_lag_p99_s=p99_s(before, after, "tick_lag_seconds"),
        look_lag_p99_s=p99_s(before, after, "look_lag_seconds"),
        rss_mb=max(size for _, size in sizes),
        slope_mb_per_10_min=slope(sizes) if took >= SLOPE_FROM_S else None,
        queries=queries / (TEMPLATES * took / TICK_S),
        cores=(found.cpu_s() - cpu_before) / took,
    )


def slope(sizes: Sequence[tuple[float, float]]) -> float:
    """MB in ten minutes, by least squares over the last two thirds: until then caches fill."""
    kept = sizes[len(sizes) // 3 :]
    at, size = np.array(kept).T
    return float(np.polyfit(at, size, 1)[0] * 600)


def _verdicts(metrics: Mapping[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("deploy_watchdog_verdicts_total{"))


def _alive(found: Stage) -> None:
    if found.process.poll() is not None:
        raise SystemExit(f"the daemon ended by itself with status {found.process.returncode}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to measure")
    parser.add_argument("--look-s", type=float, default=10.0)
    parser.add_argument("--watch-s", type=float, default=900.0, help="how long each deploy is watched")
    parser.add_argument("--baseline-s", type=float, default=60.0, help="time before each deploy that is looked back at")
    parser.add_argument("--spread-s", type=float, default=60.0, help="time over which the deploys begin")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--judges", type=int, default=2, help="processes that judge beside the daemon's own")
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    given = parser.parse_args(arguments)
    town = Town(watches=given.watches, services=min(given.services, given.watches))
    with (
        tempfile.TemporaryDirectory(prefix="watchdog-load-") as folder,
        stage(
            Path(folder),
            town,
            look_s=given.look_s,
            watch_s=given.watch_s,
            baseline_s=given.baseline_s,
            judges=given.judges,
        ) as found,
    ):
        figures = measure(
            found, seconds=given.seconds, look_s=given.look_s, watch_s=given.watch_s, spread_s=given.spread_s
        )
    failures = figures.failures()
    for failure in failures:
        print(f"does not hold: {failure}", flush=True)
    print(json.dumps({**asdict(figures), "holds": not failures}) if given.json else figures.line(), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
