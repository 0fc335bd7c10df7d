"""What a Prometheus knows by name: metrics, labels, label values, sampling times, and what its clock says."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from watchdog.catalogue import LabelSet
from watchdog.errors import SourceError
from watchdog.ports import Clock
from watchdog.selector import Matcher, Selector, label_name
from watchdog.sources.prometheus_answer import Answer, Moments, QueryError
from watchdog.sources.prometheus_api import PrometheusApi

LATELY_S = 3600.0  # names seen within this time are known
SAMPLED_S = 600.0  # sampling times are taken from so long before now
_DEADLINE_S = 15.0


class PrometheusCatalogue:
    """Asks for names only. `told` names the server in every error."""

    def __init__(
        self, api: PrometheusApi, clock: Clock, headers: Callable[[], Mapping[str, str]], *, told: str
    ) -> None:
        self._api = api
        self._clock = clock
        self._headers = headers
        self._told = told

    def names(self) -> list[str]:
        """All metric names seen lately, in order (SourceError)."""
        return _texts(self._tell("label/__name__/values", self._lately()), self._told)

    def labels(self, selector: Selector) -> list[str]:
        """The names of the labels that the selector's series carry (SourceError)."""
        found = _texts(self._tell("labels", [("match[]", selector.render()), *self._lately()]), self._told)
        return [name for name in found if name != "__name__"]

    def label_sets(self, selector: Selector, by: Sequence[str]) -> list[LabelSet]:
        """The values of these labels among the series alive now, most series first (SourceError)."""
        query = f"count by ({', '.join(map(label_name, by))}) ({selector.render()})"
        (answer,) = self._ask(query)
        found = [LabelSet({name: one.labels.get(name, "") for name in by}, round(one.value)) for one in answer.series]
        return sorted(found, key=lambda one: (-one.series, [*one.labels.values()]))

    def sampled_at(self, selector: Selector) -> list[float]:
        """When one series of one of the selector's instances was sampled within the last minutes (SourceError)."""
        one = self._longest_series(selector)
        if one is None:
            return []
        query = f"{selector.with_matchers(*one).render()}[{SAMPLED_S:.0f}s]"
        form = [("query", query), ("time", f"{self._clock.now():.3f}")]
        try:
            series = self._tell("query", form)["result"]
            return sorted({float(at) for item in series for at, _ in item.get("values") or item["histograms"]})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SourceError(f"{self._told}: its answer is not what a Prometheus says", permanent=True) from None

    def _longest_series(self, selector: Selector) -> list[Matcher] | None:
        """The labels of the one series with most samples: all buckets of a busy instance would be megabytes."""
        alive = self.label_sets(selector, ("job", "instance"))
        if not alive:
            return None
        mine = selector.with_matchers(*(Matcher(label, "=", value) for label, value in alive[0].labels.items()))
        (answer,) = self._ask(f"topk(1, count_over_time({mine.render()}[{SAMPLED_S:.0f}s]))")
        found = [one.labels for one in answer.series]
        return [Matcher(label, "=", value) for label, value in found[0].items()] if found else None

    def clock_ahead_s(self) -> float | None:
        """How far the server's clock is before ours, to a second; None where its answers bear no date (SourceError)."""
        form = [("query", "vector(1)")]
        with self._as_source_errors():
            before = self._clock.now()
            _, date = self._api.tell("query", form, deadline=self._deadline(), headers=self._headers())
        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return None
        after = self._clock.now()
        # the date is cut to whole seconds, and was written some time between the two
        early, late = theirs - after, theirs + 1.0 - before
        return early if early > 0 else late if late < 0 else 0.0

    def _ask(self, query: str) -> list[Answer]:
        with self._as_source_errors():
            moment = Moments(round(self._clock.now() * 1000))
            return self._api.ask(query, moment, deadline=self._deadline(), headers=self._headers())

    def _tell(self, what: str, form: Sequence[tuple[str, str]]) -> Any:
        with self._as_source_errors():
            return self._api.tell(what, form, deadline=self._deadline(), headers=self._headers())[0]

    def _lately(self) -> list[tuple[str, str]]:
        now = self._clock.now()
        return [("start", f"{now - LATELY_S:.0f}"), ("end", f"{now + 1:.0f}")]

    def _deadline(self) -> float:
        return self._clock.monotonic() + _DEADLINE_S

    @contextmanager
    def _as_source_errors(self) -> Iterator[None]:
        try:
            yield
        except QueryError as error:
            raise SourceError(f"{self._told}: {error}") from None


def _texts(found: Any, told: str) -> list[str]:
    if not isinstance(found, Iterable) or not all(isinstance(one, str) for one in found):
        raise SourceError(f"{told}: its answer is not what a Prometheus says", permanent=True)
    return sorted(found)
