"""Source `recorded`: plays one recorded case, for watching the past again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from analysis.cases import BadCasesError, Case, read_cases
from analysis.prepare import Cells, LookFacts
from analysis.result import SourceStatus
from watchdog.errors import SourceError
from watchdog.ports import Clock, LookAnswer, LookRequest


class RecordedOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(description="folder with cases.json and its Parquet files")
    case: str = Field(description="id of the case to play")


class RecordedSource:
    """Plays one case: an interval's place is counted from the deploy, whenever that is."""

    kind: ClassVar[str] = "recorded"
    Options: ClassVar[type[BaseModel]] = RecordedOptions
    default_step_s: ClassVar[float] = 60.0
    default_settle_s: ClassVar[float] = 0.0

    def __init__(
        self, *, name: str, options: RecordedOptions, clock: Clock, env: Mapping[str, str] | None = None
    ) -> None:
        del clock, env  # the past does not change
        self.name = name
        self._options = options
        self._case: Case | None = None
        self._by_step: dict[float, Mapping[tuple[str, int], Cells]] = {}

    def start(self) -> None:
        """Find the case (SourceError)."""
        if self._case is None:
            try:
                cases = read_cases(Path(self._options.folder))
                self._case = next((case for case in cases if case.id == self._options.case), None)
            except BadCasesError as error:
                raise SourceError(str(error), permanent=True) from None
        if self._case is None:
            raise SourceError(f"{self._options.folder} has no case {self._options.case!r}", permanent=True)

    def close(self) -> None:
        """Nothing is held."""

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:  # noqa: ARG002
        """Answer from the case."""
        return [self._look(request) for request in requests]

    def _look(self, request: LookRequest) -> LookAnswer:
        if self._case is None:
            return LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail="the recorded case is not read yet"))
        step_s = round(request.arms[0].end - request.arms[0].start, 6)
        if step_s not in self._by_step:
            self._by_step[step_s] = self._case.samples(step_s)
        samples = self._by_step[step_s]
        found = {metric.spec.name: samples.get((metric.spec.name, request.interval)) for metric in request.metrics}
        return LookAnswer(facts=LookFacts(), cells={name: cells for name, cells in found.items() if cells is not None})
