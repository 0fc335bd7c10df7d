"""Source `prometheus`: exact counts from any server that speaks Prometheus' query API."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

from pydantic import BaseModel

from analysis.prepare import Cells, LookFacts
from analysis.result import Arm, SourceStatus
from watchdog.errors import ConfigError
from watchdog.ports import Clock, LookAnswer, LookRequest
from watchdog.sources.asker import Asker, Outcome
from watchdog.sources.births import settle_births
from watchdog.sources.fold import fold
from watchdog.sources.inquiry import Inquiry, about_group, about_roll
from watchdog.sources.portions import Portion, Portions
from watchdog.sources.presence import UP, Roll, Roster, present, query, rolls, roster
from watchdog.sources.prometheus_api import Limits, PrometheusApi
from watchdog.sources.prometheus_catalogue import PrometheusCatalogue
from watchdog.sources.prometheus_options import PrometheusOptions
from watchdog.sources.promql import Dialect, Group, grouped
from watchdog.sources.questions import Question, Series, questions


class _Answered(NamedTuple):
    """What came of one question: `at` its place in the group that was asked, `frame` how that was."""

    outcome: Outcome
    series: Sequence[Series]
    group: Group
    at: int
    frame: str


_Told = Mapping[int, _Answered]  # by identity of the question


class PrometheusSource:
    """One query per template for all watches and following intervals that share it, all by one deadline."""

    kind: ClassVar[str] = "prometheus"
    Options: ClassVar[type[BaseModel]] = PrometheusOptions
    default_step_s: ClassVar[float] = 30.0  # two scrapes at the usual 15 s
    default_settle_s: ClassVar[float] = 5.0  # a sample is stamped when its scrape begins and stored when it ends

    def __init__(
        self, *, name: str, options: PrometheusOptions, clock: Clock, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._env = env if env is not None else {}
        self._dialect = Dialect(options.instance_label)
        self._api = PrometheusApi(
            options.url,
            clock=clock,
            limits=Limits(
                max_bytes=options.max_bytes,
                max_series=options.max_series,
                max_skew_s=options.max_clock_skew_s,
            ),
            ca_file=options.ca_file or None,
            compress=options.compress,
            pool=options.max_in_flight,
        )
        self._portions = Portions(clock=clock, dialect=self._dialect)
        self._asker: Asker | None = None
        options.authorization(self._env)  # a secret that cannot be read is told at the start

    def start(self) -> None:
        """Get ready to ask."""
        if self._asker is None:
            self._asker = Asker(
                self._api,
                self._clock,
                max_in_flight=self._options.max_in_flight,
                allow_partial=self._options.allow_partial,
                thread_name=f"source-{self.name}",
            )

    @property
    def catalogue(self) -> PrometheusCatalogue:
        """Asks for names, for commands that help at the start."""
        headers = partial(self._options.authorization, self._env)
        return PrometheusCatalogue(self._api, self._clock, headers, told=self._sentence("").removesuffix(": "))

    def close(self) -> None:
        """Let go of threads and connections."""
        if self._asker is not None:
            self._asker.close()
            self._asker = None
        self._api.close()

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        """Answer all looks within the deadline."""
        deadline = self._clock.monotonic() + deadline_s
        asked = [questions(request) for request in requests]
        whose = {id(one): request.watch_id for request, mine in zip(requests, asked, strict=True) for one in mine}
        portions = self._portions.of(grouped([one for mine in asked for one in mine], self._dialect), whose)
        wanted = rolls(requests)
        inquiries = self._about(portions)
        inquiries += [about_roll(roll, query(roll, arms, self._dialect), len(arms)) for roll, arms in wanted.items()]
        outcomes = self._ask(inquiries, deadline_s)
        told: dict[int, _Answered] = {}
        first = outcomes[: len(portions)]
        for portion, outcome in self._portions.settled(portions, first, whose, self._ask_portions, deadline=deadline):
            group = portion.group
            shares = group.share_out(outcome.answer.series, self._dialect)
            frame = group.frame(self._dialect, per_instance=not portion.summed) if outcome.text else ""
            for at, question in enumerate(group.questions):
                told[id(question)] = _Answered(outcome, shares[at], group, at, frame)
        alive = {
            roll: roster(roll, outcome.answer.series, self._dialect.instance_label)
            for roll, outcome in zip(wanted, outcomes[len(portions) :], strict=True)
        }
        return [self._look(request, mine, told, alive) for request, mine in zip(requests, asked, strict=True)]

    def _ask_portions(self, portions: Sequence[Portion], deadline_s: float) -> list[Outcome]:
        return self._ask(self._about(portions), deadline_s)

    def _about(self, portions: Sequence[Portion]) -> list[Inquiry]:
        return [about_group(group, self._dialect, summed=summed) for group, summed in portions]

    def _ask(self, inquiries: Sequence[Inquiry], deadline_s: float) -> list[Outcome]:
        if self._asker is None:
            return [Outcome(trouble="the source is not started")] * len(inquiries)
        try:
            headers = self._options.authorization(self._env)
        except ConfigError as error:
            return [Outcome(trouble=error.message)] * len(inquiries)
        return self._asker.ask(inquiries, deadline_s=deadline_s, headers=headers)

    # --- answering ----------------------------------------------------------------------------------------

    def _look(
        self,
        request: LookRequest,
        mine: Sequence[Question],
        told: _Told,
        alive: Mapping[Roll, Roster],
    ) -> LookAnswer:
        """One watch's answer. A metric that lacks any part of its answer has no cells."""
        by_metric: dict[str, list[tuple[Question, _Answered]]] = {}
        for question in mine:
            by_metric.setdefault(question.of.metric, []).append((question, told[id(question)]))
        cells: dict[str, Cells] = {}
        for metric in request.metrics:
            answers = by_metric.get(metric.spec.name, ())
            if answers and all(answered.outcome.whole for _, answered in answers):
                told_of = [(question, answered.series) for question, answered in answers]
                series = settle_births(told_of, births_per_s=self._options.births_per_s)
                cells[metric.spec.name] = fold(metric, series, max_replicas=request.max_replicas)
        return LookAnswer(
            facts=self._facts(request, by_metric, alive),
            cells={name: found for name, found in cells.items() if found.value},
            queries={name: _queries(answers) for name, answers in by_metric.items()},
        )

    def _facts(
        self,
        request: LookRequest,
        by_metric: Mapping[str, Sequence[tuple[Question, _Answered]]],
        alive: Mapping[Roll, Roster],
    ) -> LookFacts:
        outcomes = [(metric, answered.outcome) for metric, answers in by_metric.items() for _, answered in answers]
        status = _status([outcome for _, outcome in outcomes])
        if status is SourceStatus.DOWN:
            return LookFacts(status=status, detail=self._sentence(next(o.trouble for _, o in outcomes if o.trouble)))
        arms = present(request, alive, self._dialect.instance_label)
        baseline, candidate = arms.get(Arm.BASELINE), arms.get(Arm.CANDIDATE)
        troubles = dict.fromkeys(f"{metric}: {o.trouble or o.lack}" for metric, o in outcomes if o.trouble or o.lack)
        return LookFacts(
            status=status,
            baseline_up=None if baseline is None else sum(value == UP for value in baseline.values()),
            candidate_up=None if candidate is None else sum(value == UP for value in candidate.values()),
            candidate_down=None if candidate is None else sum(value != UP for value in candidate.values()),
            detail=self._sentence("; ".join(troubles)) if troubles else "",
        )

    def _sentence(self, what: str) -> str:
        return f"Prometheus {self.name!r} at {self._options.url}: {what}"


def _queries(answers: Sequence[tuple[Question, _Answered]]) -> str:
    """The queries behind one metric of one watch, one a line: what was sent, without the conditions of others."""
    mine: dict[int, list[tuple[Question, _Answered]]] = {}  # by identity of the group
    for one in answers:
        mine.setdefault(id(one[1].group), []).append(one)
    lines: dict[str, None] = {}
    for together in mine.values():
        _, (_, _, group, _, frame) = together[0]
        text = group.conditioned(frame, [group.values[answered.at] for _, answered in together])
        for question, _ in together:
            lines[f"{question.of.name} = {text}"] = None
    return "\n".join(lines)


def _status(outcomes: Sequence[Outcome]) -> SourceStatus:
    """DOWN where nothing answered; a query that is refused was answered, by a server that is well."""
    if not outcomes or all(outcome.whole for outcome in outcomes):
        return SourceStatus.OK
    unanswered = all(outcome.trouble and not outcome.refused for outcome in outcomes)
    return SourceStatus.DOWN if unanswered else SourceStatus.PARTIAL
