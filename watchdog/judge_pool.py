"""Processes that judge. The judge is pure, so any of them may do it to the same bits, and the daemon's own process is
free to answer meanwhile."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from analysis.decode import Decoded
from analysis.judge import judge_decoded
from analysis.result import JudgeSettings, Verdict

_log = logging.getLogger(__name__)


class JudgePool:
    """So many processes, started when they are first needed, and again after one was killed."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool = self._new()

    def begin(self, watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> Callable[[], list[Verdict]]:
        """As `judge_decoded`, the watches shared out evenly; by this process where the others cannot.

        They begin now, and what is given back waits for the verdicts.
        """
        share = -(-len(watches) // self._processes)
        parts = [(watches[at : at + share], settings[at : at + share]) for at in range(0, len(watches), max(1, share))]
        pool = self._pool
        try:
            asked = [pool.submit(judge_decoded, *part) for part in parts]
        except (BrokenProcessPool, OSError) as error:
            self._replace(pool, error)
            return partial(judge_decoded, watches, settings)

        def verdicts() -> list[Verdict]:
            try:
                return [verdict for part in asked for verdict in part.result()]
            except (BrokenProcessPool, CancelledError, OSError) as error:
                self._replace(pool, error)
                return judge_decoded(watches, settings)

        return verdicts

    def _replace(self, pool: ProcessPoolExecutor, error: BaseException) -> None:
        """New processes for those that are gone; once, however many rounds had begun with them."""
        if self._pool is pool:
            _log.warning("the judging processes are gone (%s); they are started again", error)
            pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._new()

    def close(self) -> None:
        """Let the processes end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """A judging process leaves signals to the daemon, and ends with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # what is imported stays
    daemon = parent_process()
    if daemon is not None:
        threading.Thread(target=_end_with, args=(daemon.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
