"""From evidence to the judge's word: the order of the verdicts, each kept apart from the others."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import conditions, sentence
from analysis.apart import rate_of
from analysis.combine import average
from analysis.decode import Decoded, Floats
from analysis.methods.histogram import layouts
from analysis.noise import Side
from analysis.own_past import Past
from analysis.result import (
    Design,
    Direction,
    Evidence,
    JudgeSettings,
    Kind,
    MetricSpec,
    Reason,
    SourceStatus,
    Verdict,
    VerdictKind,
)
from analysis.weigh import Unlike

HOUR_S = 3600.0
SUSPICION = 0.5  # evidence above this power of the threshold is not called healthy


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything known about one watch after its last look."""

    watch: Decoded
    settings: JudgeSettings
    threshold: float
    combined: Floats  # (looks,) ln e-value of all metrics together
    alone: Floats  # (looks,) the same without looking at control series
    alarm: int | None
    decisive: int  # index of the metric that is spoken of
    evidence: tuple[Evidence, ...]
    past: tuple[Past, ...]  # the old version against its own past
    past_paths: Sequence[Floats]
    apart: tuple[Unlike, ...]  # what the new version serves and the old one does not
    apart_paths: Sequence[Floats]  # of the two tests of each

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        return tuple(metric.spec for metric in self.watch.metrics)

    def verdict(self) -> Verdict:
        """The first of the verdicts, in their order, that holds."""
        absent = conditions.absent_since(self.watch, self.settings)
        if self.alarm is not None and (absent is None or self.alarm <= absent[1]):
            return self._alarmed()
        if absent is not None:
            return self._absent(*absent)
        orderly = (self._source, self._misconfigured, self._no_counterpart, self._no_data, self._unheard_of)
        for found in (*orderly, self._shared_cause):
            verdict = found()
            if verdict is not None:
                return verdict
        return self._powered()

    def _say(
        self,
        kind: VerdictKind,
        reason: Reason | None,
        words: str,
        *,
        metric: str | None = None,
        alarm: int | None = None,
    ) -> Verdict:
        notes = sorted({e.note for e in self.evidence if e.note} | set(self._worth_telling()))
        peak = float(np.max(self.combined)) if alarm is not None and reason is not Reason.CANDIDATE_ABSENT else None
        decisive = self.evidence[self.decisive] if self.evidence else None
        return Verdict(
            kind=kind,
            reason=reason,
            metric=metric,
            look=self.watch.looks - 1,
            alarm_look=alarm,
            log_evidence=float(self.combined[-1]) if peak is None else peak,
            log_threshold=self.threshold,
            sentence=words,
            evidence=self.evidence,
            since_look=decisive.since_look if decisive is not None and alarm is not None else None,
            notes=tuple(notes),
        )

    def _worth_telling(self) -> list[str]:
        """Changes of a rate beyond the telling margin that are no reason to act."""
        told = []
        for spec, found in zip(self.specs, self.evidence, strict=True):
            if found.effect_kind != "ratio" or found.log_evidence >= found.log_threshold:
                continue
            margin = self.settings.margin_tell if spec.margin_tell is None else spec.margin_tell
            rose = spec.direction is not Direction.DOWN_IS_BAD and found.effect_low > 1 + margin
            fell = spec.direction is not Direction.UP_IS_BAD and found.effect_high < 1 - margin
            if rose or fell:
                told.append(f"{sentence.WORTH_KNOWING}: {found.sentence}")
        return told

    def _alarmed(self) -> Verdict:
        found, spec = self.evidence[self.decisive], self.specs[self.decisive]
        since = found.since_look * self.watch.step_s if found.since_look is not None else None
        peak = float(np.max(self.combined))
        words = sentence.degraded(found.sentence, since, peak, self.threshold)
        if self.watch.design is Design.CONCURRENT or self._calibrated():
            return self._say(VerdictKind.DEGRADED, Reason.METRICS, words, metric=spec.name, alarm=self.alarm)
        if self.settings.act_uncalibrated:
            words += "; compared with the time before the deploy, uncalibrated as the operator allows"
            return self._say(VerdictKind.DEGRADED, Reason.METRICS, words, metric=spec.name, alarm=self.alarm)
        words += f"; {sentence.uncalibrated(self.settings.placebo_rate, self.settings.budget)}"
        return self._say(VerdictKind.INCONCLUSIVE, Reason.UNCALIBRATED, words, metric=spec.name, alarm=self.alarm)

    def _calibrated(self) -> bool:
        rate = self.settings.placebo_rate
        return rate is not None and rate <= self.settings.budget

    def _absent(self, since: int, proven: int) -> Verdict:
        facts = self.watch.facts[proven]
        words = sentence.absent(
            since * self.watch.step_s, proven - since + 1, facts.candidate_down, self.watch.candidate_expected
        )
        return self._say(VerdictKind.DEGRADED, Reason.CANDIDATE_ABSENT, words, alarm=proven)

    def _source(self) -> Verdict | None:
        trouble = conditions.source_trouble(self.watch)
        if trouble is not None:
            words = sentence.source_down(trouble[1], partial=trouble[0] is SourceStatus.PARTIAL)
            return self._say(VerdictKind.INCONCLUSIVE, Reason.SOURCE_DOWN, words)
        lost = sum(facts.status is not SourceStatus.OK for facts in self.watch.facts)
        judged = int(np.count_nonzero(self.watch.usable))
        if judged < self.settings.min_looks and lost > judged:
            words = f"the metrics source answered wholly at only {judged} of {self.watch.looks} looks: check the source"
            return self._say(VerdictKind.INCONCLUSIVE, Reason.SOURCE_DOWN, words)
        return None

    def _misconfigured(self) -> Verdict | None:
        names = [m.spec.name for m in self.watch.metrics if conditions.seen_twice(self.watch, m)]
        words = sentence.missing(Reason.MISCONFIGURED, names) if names else ""
        if not names:
            names, words = self._of_other_buckets()
        return self._say(VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED, words, metric=names[0]) if names else None

    def _no_counterpart(self) -> Verdict | None:
        """Worse in what the old version does not serve, and as a whole: a new route or a fault, nobody can tell."""
        said = self._said_apart()
        if said < self.threshold:
            return None
        lasts = [float(np.minimum(*own)[-1]) for own in self._apart_paths()]
        loud = [last + float(np.log(max(one.share, 1e-12))) for last, one in zip(lasts, self.apart, strict=True)]
        worst = self.apart[int(np.argmax(loud))]
        rates = rate_of(worst.apart.candidate), worst.apart.rate
        words = sentence.no_counterpart(worst.name, worst.apart.share, rates, self.watch.design)
        words += f"; {sentence.evidence_of(said, self.threshold)}"
        return self._say(VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART, words, metric=worst.metric)

    def _said_apart(self) -> float:
        """ln e-value of "worse in what the old version does not serve"; what has a counterpart adds its part of 1."""
        shares = [one.share for one in self.apart]
        rest = max(1.0 - sum(shares), 0.0)
        paths = [np.minimum(*own) for own in self._apart_paths()]
        return float(average([*paths, np.zeros(self.watch.looks)], [*shares, rest])[-1])

    def _apart_paths(self) -> list[Sequence[Floats]]:
        return [self.apart_paths[2 * i : 2 * i + 2] for i in range(len(self.apart))]

    def _of_other_buckets(self) -> tuple[list[str], str]:
        """Metrics that are needed and whose buckets are all others than before, in words that name both layouts."""
        latencies = [m for m in self.watch.metrics if m.spec.kind is Kind.LATENCY]
        apart = {m.spec.name: found for m in latencies if (found := layouts(m)) is not None}
        names = self._needed_among(apart)
        return names, "; ".join(sentence.no_common_bounds(name, *apart[name]) for name in names)

    def _no_data(self) -> Verdict | None:
        lacking = {m.spec.name: which for m in self.watch.metrics if (which := conditions.without_data(self.watch, m))}
        gone = self._needed_among(lacking)
        if not gone:
            return None
        words = sentence.missing(Reason.NO_DATA, gone, lacking[gone[0]])
        return self._say(VerdictKind.INCONCLUSIVE, Reason.NO_DATA, words, metric=gone[0])

    def _unheard_of(self) -> Verdict | None:
        """Requests that stopped coming: what is known is of before, and nobody is called healthy for it."""
        silent = {m.spec.name: looks for m in self.watch.metrics if (looks := conditions.unheard_of(self.watch, m))}
        gone = self._needed_among(silent)
        if not gone:
            return None
        looks = silent[gone[0]]
        words = sentence.unheard_of((self.watch.looks - looks) * self.watch.step_s, looks)
        return self._say(VerdictKind.INCONCLUSIVE, Reason.NO_DATA, words, metric=gone[0])

    def _needed_among(self, lacking: Container[str]) -> list[str]:
        """The needed metrics that cannot be judged, where without them nobody can be called healthy."""
        needed = self._needed()
        gone = [spec.name for spec in needed if spec.name in lacking]
        return gone if len(gone) == len(needed) or any(spec.critical for spec in needed) else []

    def _needed(self) -> list[MetricSpec]:
        """Metrics without which nobody is called healthy: the critical ones, else those of requests, else all."""
        critical = [spec for spec in self.specs if spec.critical and spec.kind is not Kind.LABELS]
        requests = [spec for spec in self.specs if spec.kind in conditions.REQUEST_KINDS]
        return critical or requests or list(self.specs)

    def _shared_cause(self) -> Verdict | None:
        if float(self.alone[-1]) >= self.threshold > float(self.combined[-1]):
            found = self.evidence[self.decisive]
            words = sentence.excused(found.sentence, float(self.combined[-1]), self.threshold)
            return self._say(VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE, words, metric=found.metric)
        if not self.past:
            return None
        total = sum(one.share for one in self.past)
        paths, at = [], 0
        for one in self.past:
            paths.append(self.past_paths[at])
            at += len(one.contrast.tests)
        path = average(paths, [one.share / total for one in self.past])
        if float(path[-1]) < self.threshold:
            return None
        worst = self.past[int(np.argmax([p[-1] for p in paths]))]
        rates = _rate(worst.contrast.candidate), _rate(worst.contrast.baseline)
        words = sentence.shared_cause(f"{worst.name}{worst.label}", rates)
        return self._say(VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE, words, metric=worst.name)

    def _powered(self) -> Verdict:
        found = self.evidence[self.decisive] if self.evidence else None
        name = found.metric if found is not None else None
        judged = conditions.looks_with_candidate(self.watch)
        at = f", {sentence.evidence_of(float(self.combined[-1]), self.threshold)}"
        words = found.sentence if found is not None and found.sentence else "no comparison yet"
        if judged < self.settings.min_looks:
            tail = f", look {judged} of at least {self.settings.min_looks}"
            return self._say(VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC, words + at + tail, metric=name)
        blind = self._blind()
        if blind is not None:
            tail = f"; {sentence.low_traffic(*blind, self.settings.seen_ratio)}"
            return self._say(VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC, words + at + tail, metric=blind[0].name)
        if max(float(self.combined[-1]), self._said_apart()) > SUSPICION * self.threshold:
            tail = "; too much suspicion to call it healthy, too little to act"
            return self._say(VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC, words + at + tail, metric=name)
        seen = sentence.seen(self.specs[self.decisive], self.evidence[self.decisive])
        words = f"healthy: {words}" + (f"; {seen}" if seen else "")
        return self._say(VerdictKind.HEALTHY, None, words, metric=name)

    def _blind(self) -> tuple[MetricSpec, Evidence] | None:
        """A metric that had to be able to see the stated regression and could not."""
        needed = self._needed()
        pairs = [(s, e) for s, e in zip(self.specs, self.evidence, strict=True) if s in needed]
        hours = self.settings.planned_looks * self.watch.step_s / HOUR_S
        blind = [(s, e) for s, e in pairs if not _sees(e, self.settings.seen_ratio, hours)]
        if not pairs:
            return None
        if any(s.critical for s in needed):
            return blind[0] if blind else None
        return blind[0] if len(blind) == len(pairs) else None


def _sees(found: Evidence, ratio: float, hours: float) -> bool:
    """Whether a regression to `ratio` would have been seen; a slope has the planned watch to get there."""
    if np.isnan(found.detectable):
        return False
    if found.effect_kind == "slope":
        return found.baseline_level == 0 or found.detectable * hours <= (ratio - 1) * abs(found.baseline_level)
    if found.effect_kind == "difference":
        return found.baseline_level == 0 or found.detectable <= (ratio - 1) * abs(found.baseline_level)
    return 1 / ratio <= found.detectable <= ratio


def _rate(side: Side) -> float:
    exposure = float(np.cumsum(side.exposure.ravel())[-1])
    return float(np.cumsum(side.events.ravel())[-1]) / exposure if exposure > 0 else 0.0
