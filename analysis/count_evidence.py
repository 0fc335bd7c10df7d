"""What metrics say that are counted: events, slow requests, new labels; of many watches together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.contrast import Contrast
from analysis.decode import Floats
from analysis.effect import rate_ratios
from analysis.methods.counts import CountTest
from analysis.methods.ranks import companions, rank_inflations
from analysis.noise import Side
from analysis.onset import likely_onsets
from analysis.power import detectable_ratios
from analysis.result import Design, Direction, Evidence, Kind, MetricSpec
from analysis.sentence import comparison, nothing_new, unlike
from analysis.sums import total
from analysis.together import in_groups
from analysis.weigh import Weighed, Weighing

NAN = float("nan")
WORTH_SAYING = 0.01  # of the requests without a counterpart
_NEXT_TO_NOTHING = float(np.log(3.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Spoken:
    """The comparison of a metric that is spoken of, and the row of its test among all."""

    contrast: Contrast
    test: CountTest
    row: int
    detectable: float


def count_evidence(asked: Sequence[Weighed], paths: Floats, ratios: Floats) -> list[Evidence]:
    """What counted metrics say at their last looks; the effect of one that decided counts from its onset.

    paths, ratios: of all tests, (tests, looks) and (grid, tests, looks), as from `evidence_paths`.
    """
    spoken = [
        _spoken_of(one, claims, paths[one.first : one.first + len(claims), one.look])
        for one, claims in zip(asked, _claims(asked), strict=True)
    ]
    onsets = _onsets(asked, spoken, ratios)
    amounts = _amounts(asked, spoken, onsets)
    beside = _beside(asked, spoken)
    return [_evidence(*parts) for parts in zip(asked, spoken, onsets, amounts, beside, strict=True)]


def _evidence(
    one: Weighed, spoken: _Spoken, onset: int | None, amounts: "_Amounts", beside: tuple[float, float]
) -> Evidence:
    spec, contrast = one.weighing.spec, spoken.contrast
    found = Evidence(
        metric=spec.name,
        method=_method(spec, contrast),
        log_evidence=float(one.path[-1]),
        log_threshold=one.threshold,
        path=tuple(one.path.tolist()),
        effect=amounts.ratio,
        effect_low=amounts.low,
        effect_high=amounts.high,
        baseline_level=amounts.other_events / amounts.other_exposure if amounts.other_exposure > 0 else NAN,
        candidate_level=amounts.events / amounts.exposure if amounts.exposure > 0 else NAN,
        n_baseline=amounts.other_exposure,
        n_candidate=amounts.exposure,
        bad_baseline=amounts.other_events,
        bad_candidate=amounts.events,
        since_look=onset,
        detectable=spoken.detectable,
        mann_whitney_p=beside[0],
        a_hat=beside[1],
        dispersion=contrast.noise.now,
        dispersion_from=contrast.dispersion_from,
        note="; ".join(filter(None, (one.weighing.note, _noise_note(contrast)))),
    )
    if spec.kind is Kind.LABELS and amounts.events == 0:
        return replace(found, sentence=nothing_new(spec))
    words = comparison(spec, found, contrast.label)
    without = max((apart.unserved for apart in contrast.apart), default=0.0)
    if without >= WORTH_SAYING:
        words += f"; {unlike(without, Design.CONCURRENT if spoken.test.known_rate is None else Design.BEFORE_AFTER)}"
    return replace(found, sentence=words)


def _method(spec: MetricSpec, contrast: Contrast) -> str:
    return {Kind.LATENCY: f"requests{contrast.label}", Kind.LABELS: "new labels"}.get(spec.kind, "counts")


def _noise_note(contrast: Contrast) -> str:
    if contrast.dispersion_from == "assumed":
        return "noise assumed (5 % squared variation): no replicas or history of the old version to measure it"
    return ""


def _claims(asked: Sequence[Weighed]) -> list[list[float]]:
    """The ratio that each test would have seen had it been there; NaN for tests of the direction that is not bad."""
    tests, parts, thresholds, most = [], [], [], []
    for one in asked:
        for contrast in one.weighing.contrasts:
            for test in contrast.tests:
                if _is_of_bad_direction(test, one.weighing):
                    tests.append(test)
                    parts.append(contrast.weight / len(contrast.tests))
                    thresholds.append(one.threshold)
                    most.append(1.0 if one.weighing.spec.kind is not Kind.RATE else np.inf)
    found = iter(detectable_ratios(tests, np.array(thresholds) - np.log(parts), np.array(most)).tolist())
    return [
        [next(found) if _is_of_bad_direction(test, one.weighing) else NAN for test in one.weighing.tests]
        for one in asked
    ]


def _is_of_bad_direction(test: CountTest, weighing: Weighing) -> bool:
    """Whether a test claims what it would have seen; labels accuse, and never make a deploy healthy."""
    if weighing.spec.kind is Kind.LABELS:
        return False
    return (test.swapped or test.fewer) == (weighing.spec.direction is Direction.DOWN_IS_BAD)


def _best_claim(claims: Sequence[float], direction: Direction) -> float:
    known = [claim for claim in claims if not np.isnan(claim)]
    if not known:
        return NAN
    return max(known) if direction is Direction.DOWN_IS_BAD else min(known)


def _spoken_of(one: Weighed, claims: Sequence[float], said: Floats) -> _Spoken:
    """The test with the most evidence; while there is next to none, the one that would have seen the least change.

    What is claimed to be visible is so at that latency bound, not at another.
    """
    owners = [contrast for contrast in one.weighing.contrasts for _ in contrast.tests]
    direction = one.weighing.spec.direction
    if one.weighing.spec.kind is Kind.LABELS:  # what the old version alone shows is no news
        said = np.where([total(total(owner.candidate.events)) > 0 for owner in owners], said, -np.inf)
    best = int(np.argmax(said))
    claim = _best_claim(claims, direction)
    if said[best] < _NEXT_TO_NOTHING and not np.isnan(claim):
        best = list(claims).index(claim)
    mine = [claim for claim, owner in zip(claims, owners, strict=True) if owner is owners[best]]
    return _Spoken(owners[best], one.weighing.tests[best], one.first + best, _best_claim(mine, direction))


def _onsets(asked: Sequence[Weighed], spoken: Sequence[_Spoken], ratios: Floats) -> list[int | None]:
    """Where each degradation most likely began; None where none may have."""
    looks = [one.look + 1 for one in asked]
    priors = [one.weighing.log_prior for one in asked]
    rows = [(ratios[:, s.row, :n], prior[:n]) for s, n, prior in zip(spoken, looks, priors, strict=True)]
    may = [bool(prior.max() > -np.inf) for prior in priors]
    likely = likely_onsets(rows)
    found: list[int | None] = []
    for one, s, onset, told in zip(asked, spoken, likely, may, strict=True):
        least = _first_seen(s.contrast.candidate) if one.weighing.spec.kind is Kind.LABELS else 0
        found.append(max(onset, least) if told else None)
    return found


def _first_seen(side: Side) -> int:
    return int(np.argmax(total(side.events) > 0))


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Events and exposure of both arms, and the ratio of their rates with its interval."""

    events: float
    exposure: float
    other_events: float
    other_exposure: float
    ratio: float
    low: float
    high: float


def _amounts(asked: Sequence[Weighed], spoken: Sequence[_Spoken], onsets: Sequence[int | None]) -> list[_Amounts]:
    """Of the whole watch, or of a degradation from its onset on. A rate known before the deploy is the whole past's."""
    rows = []
    for one, s, onset in zip(asked, spoken, onsets, strict=True):
        first = onset if one.alarm is not None and onset is not None else 0
        kept = first if s.test.known_rate is None else 0
        mine, other = _from(s.contrast.candidate, first), _from(s.contrast.baseline, kept)
        rows.append((*mine, *other, np.array([s.contrast.noise.now])))
    return [_Amounts(*map(float, parts)) for parts in in_groups(rows, _summed)]


def _from(side: Side, first: int) -> tuple[Floats, Floats]:
    return (side.events[:, first:], side.exposure[:, first:]) if first else (side.events, side.exposure)


def _summed(e: Floats, n: Floats, e_other: Floats, n_other: Floats, phi: Floats) -> tuple[Floats, ...]:
    e, n, e_other, n_other = (np.add.accumulate(side, axis=2)[..., -1] for side in (e, n, e_other, n_other))
    in_all = [total(side, axis=1) for side in (e, n, e_other, n_other)]
    return (*in_all, *rate_ratios(e, n, e_other, n_other, phi[:, 0]))


def _beside(asked: Sequence[Weighed], spoken: Sequence[_Spoken]) -> list[tuple[float, float]]:
    """The companion of each comparison, over the rates of its intervals, corrected for the baseline's memory."""
    rates = _rates([s.contrast.candidate for s in spoken]), _rates([s.contrast.baseline for s in spoken])
    inflations = np.array([inflation for (inflation,) in in_groups([(y,) for y in rates[1]], _inflations)])
    directions = [one.weighing.spec.direction for one in asked]
    return companions(list(zip(*rates, strict=True)), directions, inflations)


def _inflations(series: Floats) -> tuple[Floats]:
    return (rank_inflations(series),)


def _rates(sides: Sequence[Side]) -> list[Floats]:
    """Events per exposure of every interval that had any."""
    found = in_groups([(side.events, side.exposure) for side in sides], _by_interval)
    return [rate[used > 0] for rate, used in found]


def _by_interval(events: Floats, exposure: Floats) -> tuple[Floats, Floats]:
    e, n = total(events, axis=1), total(exposure, axis=1)
    return np.divide(e, n, out=np.zeros_like(e), where=n > 0), n
