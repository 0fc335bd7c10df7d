"""Source `scrape`: reads the /metrics pages of both arms itself; no Prometheus needed."""

import threading
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from analysis.prepare import Cells
from analysis.result import SourceStatus
from watchdog.ports import ArmWindow, Clock, LookAnswer, LookRequest
from watchdog.sources.births import settle_births
from watchdog.sources.fold import fold
from watchdog.sources.page import Page, PageError
from watchdog.sources.questions import INSTANCE, Ask, Question, Series, is_named, questions
from watchdog.sources.ring import Health, Ring, Scrape
from watchdog.sources.scrape_options import ScrapeOptions, ScrapeTarget
from watchdog.sources.standing import Stand, standing


class _Target:
    """A page with its ring, read by a thread of its own so that a slow page delays nobody else."""

    def __init__(self, target: ScrapeTarget, options: ScrapeOptions, clock: Clock) -> None:
        self.url = target.url
        self.labels = target.known
        self.lock = threading.Lock()
        self.ring = Ring(keep_s=options.keep_s, max_series=options.max_series, labels=self.labels)
        self._page = Page(
            target.url,
            timeout_s=options.timeout_s,
            max_bytes=options.max_bytes,
            monotonic=clock.monotonic,
            ca_file=options.ca_file or None,
        )
        self._interval_s = options.interval_s
        self._clock = clock

    def read(self) -> None:
        """Read the page once. It counts for the moment it was read, so no later reading belongs to an earlier time."""
        try:
            page = self._page.read()
        except PageError as error:
            health = Health.UNKNOWN if error.unknown else Health.FAILING if error.failing else Health.UNREADABLE
            with self.lock:
                self.ring.keep(self._clock.now(), Scrape(health, str(error), error.refused))
        else:
            with self.lock:
                self.ring.page(self._clock.now(), page)

    def keep_reading(self, stop: threading.Event) -> None:
        """Read until told to stop."""
        while not stop.is_set():
            began = self._clock.monotonic()
            self.read()
            stop.wait(max(0.0, self._interval_s - (self._clock.monotonic() - began)))
        self._page.close()

    def is_of(self, arm: ArmWindow) -> bool:
        """Whether this instance may belong to the arm; labels only its series have cannot tell."""
        agrees = all(self.labels.get(label, value) == value for label, value in arm.labels.items())
        named = not arm.instances or any(is_named(name, self.labels[INSTANCE]) for name in arm.instances)
        return agrees and named


class ScrapeSource:
    """Exact counts between readings; whoever does not answer is known to be down."""

    kind: ClassVar[str] = "scrape"
    Options: ClassVar[type[BaseModel]] = ScrapeOptions
    default_step_s: ClassVar[float] = 5.0
    default_settle_s: ClassVar[float] = 0.5  # readings count when they end, so nothing comes late

    def __init__(
        self, *, name: str, options: ScrapeOptions, clock: Clock, env: Mapping[str, str] | None = None
    ) -> None:
        del env  # pages need no secret
        self.name = name
        self._tolerance_s = 2 * options.interval_s + options.timeout_s
        self._targets = [_Target(target, options, clock) for target in options.targets]
        self._births_per_s = options.births_per_s
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read."""
        if self._threads:
            return
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=t.keep_reading, args=(self._stop,), name=f"scrape {t.url}", daemon=True)
            for t in self._targets
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop reading; what was read stays."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def read_all(self) -> None:
        """Read every page once, now."""
        for target in self._targets:
            target.read()

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:  # noqa: ARG002
        """Answer from what was read; nobody is asked, so no deadline can pass."""
        return [self._look(request) for request in requests]

    def _look(self, request: LookRequest) -> LookAnswer:
        facts = standing(request.service, {arm.arm: self._stands(arm) for arm in request.arms})
        asked = questions(request)
        if facts.status is SourceStatus.DOWN:
            return LookAnswer(facts=facts, queries=_queries(asked))
        told = [(question, self._series(question)) for question in asked]
        cells: dict[str, Cells] = {}
        for metric in request.metrics:
            mine = [pair for pair in told if pair[0].of.metric == metric.spec.name]
            settled = settle_births(mine, births_per_s=self._births_per_s)
            found = fold(metric, settled, max_replicas=request.max_replicas)
            if found.value:
                cells[metric.spec.name] = found
        return LookAnswer(facts=facts, cells=cells, queries=_queries(asked))

    def _stands(self, arm: ArmWindow) -> list[Stand]:
        stands = []
        for target in self._targets:
            if target.is_of(arm):
                with target.lock:
                    stands.append(Stand(target.url, target.ring.last(arm.end, self._tolerance_s)))
        return stands

    def _series(self, question: Question) -> list[Series]:
        """One question's series on all pages that were read close to both ends of its interval."""
        role, window = question
        if role.ask is Ask.EXPRESSION:
            return []
        selector = role.selector.with_labels(window.labels)
        found: list[Series] = []
        for target in self._targets:
            if not question.concerns(target.labels[INSTANCE]):
                continue
            with target.lock:
                span = target.ring.span(window.start, window.end, self._tolerance_s)
                if span is not None:
                    read = target.ring.levels if role.ask is Ask.LEVEL else target.ring.counted
                    found += read(selector, span)
        return found


def _queries(asked: Sequence[Question]) -> dict[str, str]:
    """What was looked for on the pages, per metric and arm."""
    told: dict[str, dict[str, None]] = {}
    for role, window in asked:
        sought = role.selector.with_labels(window.labels).render()
        text = f"{role.name} = {sought}" if role.ask is not Ask.EXPRESSION else "PromQL needs a Prometheus"
        told.setdefault(role.metric, {})[text] = None
    return {metric: "\n".join(lines) for metric, lines in told.items()}
