"""What a source's answers come to together, and what stands in for them where there are none. Pure."""

from collections.abc import Sequence

from analysis.prepare import LookFacts
from analysis.result import SourceStatus
from watchdog.ports import LookAnswer, LookRequest


def down(requests: Sequence[LookRequest], why: str) -> list[LookAnswer]:
    """A source that could not be asked at all."""
    return [LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail=why)) for _ in requests]


def worst(answers: Sequence[LookAnswer]) -> str:
    """The gravest status among them."""
    found = {answer.facts.status for answer in answers}
    return next(s.value for s in (SourceStatus.DOWN, SourceStatus.PARTIAL, SourceStatus.OK) if s in found)
