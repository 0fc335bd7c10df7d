"""The judge: observations in, verdicts out. Pure, deterministic, batched, and blind to everything later.

The order in which a verdict is sought: an alarm that the budget pays for; a candidate that is proven absent; a source
that does not answer; series that cannot be told apart; an old version that got worse itself; missing samples; and
only then, with enough power to have seen a stated regression, HEALTHY.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.combine import average, budget_shares, capped, first_crossing, two_routes
from analysis.conditions import REQUEST_KINDS, absent_since
from analysis.control import has_control
from analysis.decode import BadSamplesError, Decoded, Floats, decode
from analysis.evidence import evidence_of_metrics
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_prior
from analysis.outcome import Outcome
from analysis.own_past import Past, own_pasts
from analysis.prepare import Observation
from analysis.result import Evidence, JudgeSettings, Reason, Verdict, VerdictKind
from analysis.weigh import Draft, Weighed, Weighing, aparts, path_of, set_up, set_up_beside, weighings


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One watch with its tests. `beside`: beside its control series; `past`: the old version against its history."""

    watch: Decoded
    settings: JudgeSettings
    weighings: tuple[Weighing, ...]
    beside: tuple[Weighing, ...]
    past: tuple[Past, ...]

    @property
    def tests(self) -> list[CountTest]:
        own = [test for weighing in (*self.weighings, *self.beside) for test in weighing.tests]
        past = [test for one in self.past for test in one.contrast.tests]
        return own + past + [test for one in aparts(self.weighings) for test in one.tests]


def judge(observations: Sequence[Observation], settings: Sequence[JudgeSettings]) -> list[Verdict]:
    """Judge watches at their last closed interval.

    A pure function of its arguments: the same bits come out for a watch alone or in a batch, and what is said up to
    a look never changes when later looks arrive. Samples that cannot be what they claim are not weighed at all: the
    verdict is INCONCLUSIVE, MISCONFIGURED, and names the array.

    >>> judge([], [])
    []
    """
    _check_lengths("observations", observations, settings)
    found = [_decoded(observation, setting) for observation, setting in zip(observations, settings, strict=True)]
    pairs = [(watch, s) for watch, s in zip(found, settings, strict=True) if isinstance(watch, Decoded)]
    verdicts = iter(judge_decoded([watch for watch, _ in pairs], [setting for _, setting in pairs]))
    return [next(verdicts) if isinstance(watch, Decoded) else watch for watch in found]


def _check_lengths(name: str, watches: Sequence[object], settings: Sequence[JudgeSettings]) -> None:
    if len(watches) != len(settings):
        raise ValueError(f"settings: {len(settings)} for {len(watches)} {name}")


def _decoded(observation: Observation, settings: JudgeSettings) -> Decoded | Verdict:
    if observation.looks <= 0:
        return _nothing_yet(settings)
    try:
        return decode(observation, warm_up_looks=settings.warm_up_looks)
    except BadSamplesError as error:
        words = f"the samples cannot be judged ({error}): check the source and the metric's query"
        return _inconclusive(Reason.MISCONFIGURED, observation.looks - 1, settings, words)


def judge_decoded(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[Verdict]:
    """Judge watches that are arrays already, as `judge` does with those it has decoded.

    Parameters
    ----------
    watches
        From `decode`, or built as it builds them: NaN where a cell is absent, and in every interval that is not to be
        weighed (the warm-up, a source that did not answer), which `usable` says too. Their numbers are not checked.
    settings
        One for each watch; `warm_up_looks` was the decoder's business.

    >>> judge_decoded([], [])
    []
    """
    _check_lengths("watches", watches, settings)
    cases = _cases(watches, settings)
    tests = [test for case in cases if isinstance(case, _Case) for test in case.tests]
    paths, ratios = evidence_paths(tests) if tests else (np.zeros((0, 0)), np.zeros((0, 0, 0)))
    return _verdicts(cases, paths, ratios)


def alarm_looks(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[int | None]:
    """The `alarm_look` of every verdict of `judge_decoded`, without the verdicts: half of the work, for many watches.

    >>> alarm_looks([], [])
    []
    """
    _check_lengths("watches", watches, settings)
    cases = _cases(watches, settings, with_past=False)
    tests = [test for case in cases if isinstance(case, _Case) for test in case.tests]
    paths = evidence_paths(tests)[0] if tests else np.zeros((0, 0))
    found: list[int | None] = []
    at = 0
    for case in cases:
        if isinstance(case, Verdict):
            found.append(None)
            continue
        n = len(case.tests)
        _, _, combined, threshold = _weighed(case, list(paths[at : at + n, : case.watch.looks]))
        absent = absent_since(case.watch, case.settings)
        looks = [first_crossing(combined, threshold), None if absent is None else absent[1]]
        found.append(min((look for look in looks if look is not None), default=None))
        at += n
    return found


def _verdicts(cases: Sequence[_Case | Verdict], paths: Floats, ratios: Floats) -> list[Verdict]:
    """A verdict for each watch; what their metrics say is worked out for all of them together."""
    judged, at = [], 0
    for case in cases:
        if isinstance(case, _Case):
            n = len(case.tests)
            judged.append(_Judged.of(case, at, list(paths[at : at + n, : case.watch.looks])))
            at += n
    said = iter(evidence_of_metrics([one for own in judged for one in own.weighed()], paths, ratios))
    verdicts = iter([own.verdict(tuple(next(said) for _ in own.case.weighings)) for own in judged])
    return [next(verdicts) if isinstance(case, _Case) else case for case in cases]


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One watch whose evidence is known, and whether it decides; `first`: the row of its first test among all."""

    case: _Case
    first: int
    paths: list[Floats]
    metric_paths: list[Floats]
    alone: Floats
    combined: Floats
    threshold: float
    alarm: int | None
    decisive: int

    @classmethod
    def of(cls, case: _Case, first: int, paths: list[Floats]) -> "_Judged":
        metric_paths, alone, combined, threshold = _weighed(case, paths)
        alarm = first_crossing(combined, threshold)
        decisive = _leading(case, metric_paths, alarm if alarm is not None else case.watch.looks - 1)
        return cls(case, first, paths, metric_paths, alone, combined, threshold, alarm, decisive)

    def weighed(self) -> list[Weighed]:
        """Every metric as it is spoken of."""
        places = _slices(self.case)
        return [
            Weighed(w, path, self.first + place.start, self.threshold, self.alarm if i == self.decisive else None)
            for i, (w, path, place) in enumerate(zip(self.case.weighings, self.metric_paths, places, strict=False))
        ]

    def verdict(self, evidence: tuple[Evidence, ...]) -> Verdict:
        slices = _slices(self.case)
        own = slices[-1].stop if slices else 0
        with_past = own + sum(len(one.contrast.tests) for one in self.case.past)
        return Outcome(
            watch=self.case.watch,
            settings=self.case.settings,
            threshold=self.threshold,
            combined=self.combined,
            alone=self.alone,
            alarm=self.alarm,
            decisive=self.decisive,
            evidence=evidence,
            past=self.case.past,
            past_paths=self.paths[own:with_past],
            apart=aparts(self.case.weighings),
            apart_paths=self.paths[with_past:],
        ).verdict()


def _cases(
    watches: Sequence[Decoded], settings: Sequence[JudgeSettings], *, with_past: bool = True
) -> list[_Case | Verdict]:
    """Every watch with its tests; what they have to know of the noise is computed for all of them together."""
    drafts = [_drafts(w, s) if w.looks > 0 else None for w, s in zip(watches, settings, strict=True)]
    complete = iter(weighings([one for own in drafts if own is not None for part in own for one in part]))
    pasts = own_pasts(watches, settings) if with_past else [()] * len(watches)
    cases: list[_Case | Verdict] = []
    for watch, setting, own, past in zip(watches, settings, drafts, pasts, strict=True):
        if own is None:
            cases.append(_nothing_yet(setting))
            continue
        found, beside = (tuple(next(complete) for _ in part) for part in own)
        cases.append(_Case(watch, setting, found, beside, past))
    return cases


def _drafts(watch: Decoded, settings: JudgeSettings) -> tuple[list[Draft], list[Draft]]:
    """The metrics of one watch, and the same beside its control series where it has one."""
    log_prior = onset_prior(watch.usable, settings.planned_looks)
    shares = budget_shares([metric.spec for metric in watch.metrics])
    pairs = list(zip(watch.metrics, shares, strict=True))
    found = [set_up(watch, metric, settings, log_prior, share) for metric, share in pairs]
    if not has_control(watch):
        return found, []
    return found, [set_up_beside(watch, metric, settings, log_prior, share) for metric, share in pairs]


def _weighed(case: _Case, paths: list[Floats]) -> tuple[list[Floats], Floats, Floats, float]:
    """Each metric's evidence, that of all without and with a look at control series, and what decides."""
    threshold = float(-np.log(case.settings.budget))
    slices = _slices(case)
    n = len(case.weighings)
    metric_paths, alone = _combined(case.watch.looks, case.weighings, [paths[s] for s in slices[:n]], threshold)
    if not case.beside:
        return metric_paths, alone, alone, threshold
    _, beside = _combined(case.watch.looks, case.beside, [paths[s] for s in slices[n:]], threshold)
    return metric_paths, alone, np.minimum(alone, beside), threshold


def _slices(case: _Case) -> list[slice]:
    """Where each weighing's tests lie among those of its watch."""
    found, at = [], 0
    for weighing in (*case.weighings, *case.beside):
        n = len(weighing.tests)
        found.append(slice(at, at + n))
        at += n
    return found


def _combined(
    looks: int, weighings: Sequence[Weighing], test_paths: Sequence[Sequence[Floats]], threshold: float
) -> tuple[list[Floats], Floats]:
    """Each metric's evidence, and that of all in one budget; levels join theirs with what lasts of it.

    Added in the order of the metrics' names, so that shuffled metrics give the same bits.
    """
    order = sorted(range(len(weighings)), key=lambda i: weighings[i].spec.name)
    specs = [weighing.spec for weighing in weighings]
    shares = [weighing.share for weighing in weighings]
    own = [threshold - (np.log(share) if share > 0 else -50.0) for share in shares]
    paths = [
        capped(path_of(w, said), w.spec, specs, float(needed))
        for w, said, needed in zip(weighings, test_paths, own, strict=True)
    ]
    held = {i: w.windows.path for i in order if (w := weighings[i]).windows is not None and w.share > 0}
    together = [(paths[i], shares[i]) for i in order if i not in held]
    if held:
        of_levels = sum(shares[i] for i in held)
        needed = np.array([threshold - np.log(shares[i]) for i in held])
        windows = np.stack(list(held.values()))
        decides = float(threshold - np.log(of_levels))
        joined = two_routes(np.stack([paths[i] for i in held]), windows, [specs[i] for i in held], needed)
        together.append((decides + joined, of_levels))
        paths = list(paths)
        for i, window, own in zip(held, windows, needed, strict=True):
            alone = two_routes(paths[i][None], window[None], [specs[i]], np.array([own]))
            paths[i] = capped(float(own) + alone, specs[i], specs, float(own))
    if not together:
        return paths, np.zeros(looks)
    return paths, average([path for path, _ in together], [share for _, share in together])


def _leading(case: _Case, metric_paths: Sequence[Floats], look: int) -> int:
    """The metric with the largest part of the evidence; the most important one while there is next to none."""
    keys = [
        (float(path[look]) + float(np.log(max(w.share, 1e-12))), w.spec.critical, w.spec.name)
        for w, path in zip(case.weighings, metric_paths, strict=True)
    ]
    if not keys:
        return -1
    names = sorted(range(len(keys)), key=lambda i: keys[i][2])
    loud = max(names, key=lambda i: keys[i][0])
    if float(metric_paths[loud][look]) >= np.log(3.0):
        return loud
    return max(names, key=lambda i: (keys[i][1], case.weighings[i].spec.kind in REQUEST_KINDS, case.weighings[i].share))


def _nothing_yet(settings: JudgeSettings) -> Verdict:
    return _inconclusive(Reason.NO_DATA, -1, settings, "no closed interval yet")


def _inconclusive(reason: Reason, look: int, settings: JudgeSettings, words: str) -> Verdict:
    return Verdict(
        kind=VerdictKind.INCONCLUSIVE,
        reason=reason,
        metric=None,
        look=look,
        alarm_look=None,
        log_evidence=0.0,
        log_threshold=float(-np.log(settings.budget)),
        sentence=words,
    )
