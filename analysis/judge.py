"""The judge: observations in, verdicts out. Pure, deterministic, batched, and blind to everything later.

The order in which a verdict is sought: an alarm that the budget pays for; a candidate that is proven absent; a source
that does not answer; series that cannot be told apart; an old version that got worse itself; missing samples; and
only then, with enough power to have seen a stated regression, HEALTHY.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.combine import average, budget_shares, capped, first_crossing, two_routes
from analysis.conditions import REQUEST_KINDS
from analysis.contrast import Contrast, build_contrast
from analysis.decode import COUNTS, BadSamplesError, Decoded, Floats, Panel, decode
from analysis.methods.count_steps import Known, evidence_from
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_prior
from analysis.outcome import Outcome
from analysis.prepare import Observation
from analysis.result import Arm, Design, JudgeSettings, Reason, Verdict, VerdictKind
from analysis.weigh import Weighing, evidence_of_metric, path_of, set_up

LEAST_PAST = 12  # intervals of history from which the old version is compared with its own past


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One watch with its tests; `past` compares the old version with its own history."""

    watch: Decoded
    settings: JudgeSettings
    weighings: tuple[Weighing, ...]
    past: tuple[tuple[str, float, Contrast], ...]

    @property
    def tests(self) -> list[CountTest]:
        own = [test for weighing in self.weighings for test in weighing.tests]
        return own + [test for _, _, contrast in self.past for test in contrast.tests]


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
    cases = [_set_up(w, s) if w.looks > 0 else _nothing_yet(s) for w, s in zip(watches, settings, strict=True)]
    tests = [test for case in cases if isinstance(case, _Case) for test in case.tests]
    paths, ratios = evidence_paths(tests) if tests else (np.zeros((0, 0)), np.zeros((0, 0, 0)))
    return _verdicts(cases, paths, ratios)


def judge_one_more(
    watches: Sequence[Decoded], settings: Sequence[JudgeSettings], known: Sequence[Sequence[Known]]
) -> tuple[list[Verdict], list[tuple[Known, ...]]]:
    """Judge watches that were judged a look ago, going on from what was computed then.

    Parameters
    ----------
    known
        For each watch what this function gave back a look ago, or nothing. It is a shortcut only: what does not fit
        the watch's numbers is computed anew, so the verdicts are those of `judge_decoded`, bit for bit.

    Returns
    -------
    The verdicts, and for each watch what to hand in at its next look.
    """
    _check_lengths("watches", watches, settings)
    cases = [_set_up(w, s) if w.looks > 0 else _nothing_yet(s) for w, s in zip(watches, settings, strict=True)]
    tests: list[CountTest] = []
    before: list[Known | None] = []
    for case, own in zip(cases, known, strict=True):
        if isinstance(case, _Case):
            tests += case.tests
            before += [*own, *[None] * len(case.tests)][: len(case.tests)]
    paths, ratios, found = evidence_from(tests, before)
    after, at = [], 0
    for case in cases:
        n = len(case.tests) if isinstance(case, _Case) else 0
        after.append(tuple(found[at : at + n]))
        at += n
    return _verdicts(cases, paths, ratios), after


def _verdicts(cases: Sequence[_Case | Verdict], paths: Floats, ratios: Floats) -> list[Verdict]:
    verdicts, at = [], 0
    for case in cases:
        if isinstance(case, Verdict):
            verdicts.append(case)
            continue
        looks, n = case.watch.looks, len(case.tests)
        verdicts.append(_verdict(case, list(paths[at : at + n, :looks]), list(_rows(ratios, at, n, looks))))
        at += n
    return verdicts


def _rows(ratios: Floats, at: int, n: int, looks: int) -> list[Floats]:
    return [np.ascontiguousarray(ratios[:, i, :looks]) for i in range(at, at + n)]


def _set_up(watch: Decoded, settings: JudgeSettings) -> _Case:
    log_prior = onset_prior(watch.usable, settings.planned_looks)
    shares = budget_shares([metric.spec for metric in watch.metrics])
    weighings = tuple(
        set_up(watch, metric, settings, log_prior, share) for metric, share in zip(watch.metrics, shares, strict=True)
    )
    return _Case(watch, settings, weighings, _own_past(watch, settings, log_prior, shares))


def _own_past(
    watch: Decoded, settings: JudgeSettings, log_prior: Floats, shares: Sequence[float]
) -> tuple[tuple[str, float, Contrast], ...]:
    """The old version now against the old version before the deploy."""
    if watch.design is Design.BEFORE_AFTER:
        return ()
    before = replace(watch, design=Design.BEFORE_AFTER)
    found = []
    for metric, share in zip(watch.metrics, shares, strict=True):
        now = metric.panels.get(Arm.BASELINE)
        then = metric.panels.get(Arm.HISTORY, now)
        if metric.spec.kind not in COUNTS or now is None or then is None or metric.first > -LEAST_PAST:
            continue
        if metric.spec.configured_share:
            continue
        panels: dict[Arm, Panel] = {Arm.CANDIDATE: now, Arm.BASELINE: then}
        contrast = build_contrast(
            before, metric.spec, panels, metric.first, settings, log_prior, label="", weight=1.0, share_of_budget=share
        )
        if contrast is not None:
            found.append((metric.spec.name, share, contrast))
    return tuple(found)


def _verdict(case: _Case, paths: list[Floats], ratios: list[Floats]) -> Verdict:
    threshold = float(-np.log(case.settings.budget))
    specs = [weighing.spec for weighing in case.weighings]
    at, metric_paths, slices = 0, [], []
    for weighing in case.weighings:
        n = len(weighing.tests)
        slices.append(slice(at, at + n))
        own = threshold - (np.log(weighing.share) if weighing.share > 0 else -50.0)
        metric_paths.append(capped(path_of(weighing, paths[at : at + n]), weighing.spec, specs, float(own)))
        at += n
    metric_paths, combined = _combined(case, metric_paths, threshold)
    alarm = first_crossing(combined, threshold)
    decisive = _leading(case, metric_paths, alarm if alarm is not None else case.watch.looks - 1)
    evidence = tuple(
        evidence_of_metric(w, p, paths[s], ratios[s], threshold, alarm if i == decisive else None)
        for i, (w, p, s) in enumerate(zip(case.weighings, metric_paths, slices, strict=True))
    )
    return Outcome(
        watch=case.watch,
        settings=case.settings,
        threshold=threshold,
        combined=combined,
        alarm=alarm,
        decisive=decisive,
        evidence=evidence,
        past=case.past,
        past_paths=paths[at:],
    ).verdict()


def _combined(case: _Case, paths: list[Floats], threshold: float) -> tuple[list[Floats], Floats]:
    """Each metric's evidence, and that of all in one budget; levels join theirs with what lasts of it.

    Added in the order of the metrics' names, so that shuffled metrics give the same bits.
    """
    order = sorted(range(len(paths)), key=lambda i: case.weighings[i].spec.name)
    specs = [weighing.spec for weighing in case.weighings]
    held = {i: w.windows.path for i in order if (w := case.weighings[i]).windows is not None and w.share > 0}
    shares = [weighing.share for weighing in case.weighings]
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
        return paths, np.zeros(case.watch.looks)
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
