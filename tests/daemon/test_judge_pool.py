"""Processes that judge: the same verdicts, whatever becomes of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from analysis.decode import Decoded, decode
from analysis.judge import judge_decoded
from analysis.result import JudgeSettings, Verdict
from analysis.simulate import ERRORS, LATENCY, Service, observe
from tests.samples import a_plan, a_watch
from tests.servers import wait_until
from watchdog.judge_pool import JudgePool
from watchdog.judging import Judging, Seen, a_step_ahead
from watchdog.memory import Memory
from watchdog.ports import Ledger
from watchdog.tally import Tally

ROOT = Path(__file__).parents[2]
WATCHES = [
    decode(observe(replace(Service(), looks=8, past=20, replicas=2), np.random.default_rng(seed), (ERRORS, LATENCY)))
    for seed in range(7)
]
NOBODY = cast(Ledger, None)  # judging does not read
SETTINGS = [JudgeSettings(planned_looks=8)] * len(WATCHES)


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    pool = JudgePool(2)
    yield pool
    pool.close()


def workers(pool: JudgePool) -> list[int]:
    return [process.pid for process in pool._pool._processes.values() if process.pid is not None]


def test_verdicts_are_the_same_bits_in_the_same_order(pool: JudgePool) -> None:
    """Seven watches by two processes, one, and none at all."""
    assert repr(pool.begin(WATCHES, SETTINGS)()) == repr(judge_decoded(WATCHES, SETTINGS))
    assert repr(pool.begin(WATCHES[:1], SETTINGS[:1])()) == repr(judge_decoded(WATCHES[:1], SETTINGS[:1]))
    assert pool.begin([], [])() == []


def test_a_killed_process_costs_time_and_nothing_else(pool: JudgePool) -> None:
    """The verdicts come all the same, and the next ones from new processes."""
    expected = repr(judge_decoded(WATCHES, SETTINGS))
    assert repr(pool.begin(WATCHES, SETTINGS)()) == expected
    before = workers(pool)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert repr(pool.begin(WATCHES, SETTINGS)()) == expected
    assert repr(pool.begin(WATCHES, SETTINGS)()) == expected
    assert not set(before) & set(workers(pool))


def test_rounds_that_had_begun_with_killed_processes_are_judged_all_the_same(pool: JudgePool) -> None:
    """Both of them, and the processes are replaced once: the second does not throw away the first one's new ones."""
    expected = repr(judge_decoded(WATCHES, SETTINGS))
    pool.begin(WATCHES, SETTINGS)()
    begun = [pool.begin(WATCHES, SETTINGS) for _ in range(2)]
    for pid in workers(pool):
        os.kill(pid, signal.SIGKILL)
    assert repr(begun[0]()) == expected
    assert repr(pool.begin(WATCHES, SETTINGS)()) == expected
    anew = workers(pool)
    assert repr(begun[1]()) == expected
    assert workers(pool) == anew


def test_they_end_with_a_daemon_that_is_killed() -> None:
    """SIGKILL leaves no process behind that nobody would ever ask again."""
    code = (
        "from tests.daemon.test_judge_pool import WATCHES, SETTINGS, workers\n"
        "from watchdog.judge_pool import JudgePool\n"
        "import time\n"
        "if __name__ == '__main__':\n"
        "    pool = JudgePool(1)\n"
        "    pool.begin(WATCHES, SETTINGS)()\n"
        "    print(*workers(pool), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        judging = [int(pid) for pid in daemon.stdout.readline().split()]
        assert judging
        assert all(_lives(pid) for pid in judging)
        daemon.kill()
    wait_until(lambda: not any(_lives(pid) for pid in judging), within_s=60.0, what="the end of the judging process")


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_the_daemon_asks_them_where_it_is_worth_it(pool: JudgePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of many watches goes to them, a few are judged on the spot; the verdicts are the same."""
    asked: list[int] = []
    begin = pool.begin

    def counted(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> Callable[[], list[Verdict]]:
        asked.append(len(watches))
        return begin(watches, settings)

    monkeypatch.setattr(pool, "begin", counted)
    watch = replace(a_watch(), plan=replace(a_plan(), judge=SETTINGS[0]))
    seen = [Seen(tally=Tally(watch.plan), arrays=arrays) for arrays in WATCHES]
    judging = Judging(ledger=NOBODY, memory=Memory(), pool=pool)
    assert repr(judging.begin([watch] * 7, seen)()) == repr(judge_decoded(WATCHES, SETTINGS))
    assert repr(judging.begin([watch] * 3, seen[:3])()) == repr(judge_decoded(WATCHES[:3], SETTINGS[:3]))
    assert asked == [7]


def test_what_was_begun_is_waited_for_while_the_next_is_judged() -> None:
    """One batch is always ahead of the one that is recorded, and none is left out."""
    seen: list[str] = []

    def begun() -> Iterator[str]:
        for name in "abc":
            seen.append(f"begin {name}")
            yield name

    def record(name: str) -> None:
        seen.append(f"record {name}")

    for name in a_step_ahead(begun()):
        record(name)
    assert seen == ["begin a", "begin b", "record a", "begin c", "record b", "record c"]
    assert list(a_step_ahead(iter(()))) == []
