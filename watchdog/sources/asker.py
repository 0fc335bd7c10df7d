"""Many inquiries by one deadline, some at a time, in as few requests as the server's answers allow."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from watchdog.ports import Clock
from watchdog.sources.inquiry import MOST_MOMENTS, Inquiry, Run, runs
from watchdog.sources.prometheus_answer import (
    Answer,
    EvaluationError,
    Moments,
    OtherMomentsError,
    QueryError,
    QueryRefusedError,
    TooLargeError,
    TooManySeriesError,
)
from watchdog.sources.prometheus_api import PrometheusApi


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one inquiry. `trouble` is why there is no answer, `lack` what is missing from it."""

    text: str = ""
    answer: Answer = field(default_factory=Answer)
    trouble: str = ""
    lack: str = ""
    refused: bool = False
    too_much: bool = False  # to be read; of fewer watches it may be less
    too_many: bool = False  # series, of which there are fewer where Prometheus sums over the instances

    @property
    def whole(self) -> bool:
        """Whether the answer is there and lacks nothing."""
        return not self.trouble and not self.lack


class Asker:
    """Asks one server, and remembers what it cannot do."""

    def __init__(
        self, api: PrometheusApi, clock: Clock, *, max_in_flight: int, allow_partial: bool, thread_name: str
    ) -> None:
        self._api = api
        self._clock = clock
        self._allow_partial = allow_partial
        self._most_moments = MOST_MOMENTS
        self._workers = ThreadPoolExecutor(max_in_flight, thread_name_prefix=thread_name)

    def close(self) -> None:
        """Let go of the threads; what is on its way ends by its own deadline."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def ask(self, inquiries: Sequence[Inquiry], *, deadline_s: float, headers: Mapping[str, str]) -> list[Outcome]:
        """Ask all; what is not back by the deadline is given up and left to its own deadline."""
        deadline = self._clock.monotonic() + deadline_s
        asked = runs(inquiries, most_moments=self._most_moments)
        futures = [self._workers.submit(self._ask_run, run, deadline=deadline, headers=headers) for run in asked]
        wait(futures, timeout=deadline_s)
        late = Outcome(trouble=f"it did not answer within {deadline_s:.1f} s")
        outcomes = [late] * len(inquiries)
        for run, future in zip(asked, futures, strict=True):
            for position, outcome in zip(run.positions, _result(future), strict=False):
                outcomes[position] = outcome
        return outcomes

    def _ask_run(self, run: Run, *, deadline: float, headers: Mapping[str, str]) -> list[Outcome]:
        text = run.inquiry.text
        try:
            return self._ask(text, run.moments, deadline, headers, run.inquiry.askers)
        except TooManySeriesError as error:
            return [Outcome(text=text, trouble=str(error), too_much=True, too_many=True)] * run.moments.count

    def _ask(
        self, text: str, moments: Moments, deadline: float, headers: Mapping[str, str], askers: int
    ) -> list[Outcome]:
        """Ask for all moments at once, or for fewer at a time where the server cannot give or we cannot take that."""
        try:
            answers = self._api.ask(text, moments, deadline=deadline, headers=headers, askers=askers)
        except TooManySeriesError:
            raise
        except QueryError as error:
            if isinstance(error, OtherMomentsError):
                self._most_moments = 1
            fewer = _fewer(moments, error)
            if fewer:
                pieces = [self._ask(text, piece, deadline, headers, askers) for piece in moments.pieces(fewer)]
                return [outcome for piece in pieces for outcome in piece]
            refused, too_much = isinstance(error, QueryRefusedError), isinstance(error, TooLargeError)
            return [Outcome(text=text, trouble=str(error), refused=refused, too_much=too_much)] * moments.count
        return [self._outcome(text, answer) for answer in answers]

    def _outcome(self, text: str, answer: Answer) -> Outcome:
        lack = "; ".join(answer.warnings)[:300] or ("it says that its answer is partial" if answer.partial else "")
        if lack and not self._allow_partial:
            return Outcome(text=text, lack=lack)
        return Outcome(text=text, answer=answer)


def _fewer(moments: Moments, error: QueryError) -> int:
    """How many moments at a time may help after this error; 0 where nothing does."""
    if moments.count == 1:
        return 0
    if isinstance(error, OtherMomentsError):
        return 1
    return (moments.count + 1) // 2 if isinstance(error, TooLargeError | EvaluationError) else 0


def _result(future: Future[list[Outcome]]) -> list[Outcome]:
    future.cancel()
    return future.result() if future.done() and not future.cancelled() else []
