"""What a Prometheus said, read and checked: readable, not too much, and of the moments that were asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchdog.sources.native import NativeHistogram, read_native
from watchdog.sources.questions import Series


class QueryError(Exception):
    """No usable answer; the message is one sentence."""


class QueryRefusedError(QueryError):
    """Prometheus is well and says that this query can never be answered."""


class EvaluationError(QueryRefusedError):
    """Prometheus can read the query, but not evaluate it over these samples; over fewer it might."""


class TooLargeError(QueryError):
    """The answer has more bytes than are read."""


class OtherMomentsError(QueryError):
    """The answer is about other moments than the ones asked for; a server may round them, so as to cache better."""


class TooManySeriesError(QueryError):
    """The answer has more series than anyone wants to judge."""


@dataclass(frozen=True, slots=True)
class Moments:
    """One moment, or several in equal steps, at which a query is evaluated; in Unix milliseconds."""

    first_ms: int
    step_ms: int = 0
    count: int = 1

    @property
    def last_ms(self) -> int:
        """The last of them."""
        return self.first_ms + (self.count - 1) * self.step_ms

    def pieces(self, size: int) -> list["Moments"]:
        """The same moments, at most `size` of them at a time."""
        return [
            Moments(self.first_ms + at * self.step_ms, self.step_ms, min(size, self.count - at))
            for at in range(0, self.count, size)
        ]

    def place(self, at_s: float) -> int:
        """Which of them a time is."""
        place, beside = divmod(round(at_s * 1000) - self.first_ms, self.step_ms)
        if beside or not 0 <= place < self.count:
            raise OtherMomentsError("it answers for other moments than it was asked for")
        return place


@dataclass(frozen=True, slots=True)
class Answer:
    """The values of a query at one moment, and what the server says is wrong with them."""

    series: tuple[Series, ...] = ()
    warnings: tuple[str, ...] = ()
    partial: bool = False


def read(body: bytes, moments: Moments, max_series: int) -> list[Answer]:
    """Read the answers at all moments; `max_series` is the most that any one of them may have (QueryError)."""
    try:
        answer = json.loads(body)
        data = answer["data"]
        points = _points(data["resultType"], data["result"], moments)
        _check_series(points, max_series)
        warnings = tuple(str(warning) for warning in answer.get("warnings") or ())
        partial = bool(answer.get("isPartial") or data.get("isPartial"))
        return [Answer(_plain(there), warnings, partial) for there in points]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise QueryError(f"its answer is not what a Prometheus says ({excerpt(body)})") from None


def excerpt(body: bytes) -> str:
    """The beginning of what was said instead of an answer."""
    text = " ".join(body[:400].decode("utf-8", "replace").split())[:80]
    if text[:1] == "<":
        return f"HTML instead of JSON, a proxy or a login page? {text!r}"
    return repr(text) if text else "empty"


_Point = Series | NativeHistogram
_TEXT = frozenset({str})


def _points(kind: str, result: Any, moments: Moments) -> list[list[_Point]]:
    """All values by moment; a series without a value at a moment was not there then."""
    if moments.count > 1 and kind == "matrix":
        points: list[list[_Point]] = [[] for _ in range(moments.count)]
        for item in result:
            labels = _labels(item)
            for at_s, value in item.get("values", ()):
                points[moments.place(at_s)].append(Series(labels, float(value)))
            for at_s, histogram in item.get("histograms", ()):
                points[moments.place(at_s)].append(read_native(labels, histogram))
        return points
    if moments.count == 1 and kind == "vector":
        return [[_point(item) for item in result]]
    if moments.count == 1 and kind == "scalar":
        return [[Series({}, float(result[1]))]]
    raise QueryRefusedError(f"the expression gives a {str(kind)[:40]}; expected a number per series")


def _point(item: Mapping[str, Any]) -> _Point:
    if "histogram" in item:
        return read_native(_labels(item), item["histogram"][1])
    return Series(_labels(item), float(item["value"][1]))


def _labels(item: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = item["metric"]
    if not _TEXT.issuperset(map(type, labels.values())):  # JSON's keys are texts anyway
        raise TypeError("labels are texts")
    return labels


def _check_series(points: Sequence[Sequence[_Point]], max_series: int) -> None:
    most = max(map(len, points))
    if most > max_series:
        raise TooManySeriesError(f"its answer has {most:,} series, more than {max_series:,}")


def _plain(points: Sequence[_Point]) -> tuple[Series, ...]:
    """The values as they were told; a native histogram as the buckets of a classic one."""
    return tuple(found for one in points for found in ((one,) if isinstance(one, Series) else one.buckets()))
