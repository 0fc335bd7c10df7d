"""Before a deploy: how small a regression the judge would see, and how soon, at a service's traffic.

Watches are drawn at the stated traffic with a regression of a tried size, and the judge itself looks at them as
shipped: margin, floor, dispersion, onset mixture and budget are his. The chance of an alarm by a look rises with the
size; where it reaches the wanted chance is found by a logistic fit that leans on draws near the answer (stochastic
search for a quantile of a response curve, as in Wu, JASA 80, 1985). Seeded: the same question gets the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.decode import COUNTS, Floats
from analysis.judge import judge
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec
from analysis.sentence import percent, quantity, significant

CHANCES = (0.5, 0.9)
MINUTES = (1.0, 5.0, 15.0)
LARGEST = math.log(1000.0)  # no regression beyond x1000 is looked for
DRAWS = 240  # watches drawn near each time's answers
_SIZES, _FIRST = 7, 4  # an even spread comes first: so many sizes, so many draws at each
_STEPS, _EACH = 8, 6  # then so many steps of so many draws towards the even chance
_ROUNDS = (0.2, 0.3, 0.5)  # then the draws go where the answers seem to be
SIZELESS = {  # kinds that a regression of some size cannot be drawn of, and why
    Kind.TREND: "a trend has no size to be asked for",
    Kind.LABELS: "a label that is new has no size to be asked for",
}
_QUANTILES = (0.5, 0.1, 0.01)  # exceedances of the drawn histograms, as the judge's bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the watches of a service look like.

    requests_per_minute: both arms together (exposure, for a rate). level: the old version's share of bad requests,
    events per exposure, share of requests slower than a bound (latency), or level (gauge). dispersion: variance of a
    look's bad events over that of independent ones. sd, phi: of one replica's level from look to look, and its
    lag-1 autocorrelation. past_looks: intervals before the deploy that the judge gets.
    """

    spec: MetricSpec
    level: float
    requests_per_minute: float = 0.0
    share: float = 0.1
    dispersion: float = 1.0
    sd: float = 0.0
    phi: float = 0.0
    replicas: int = 4
    candidates: int = 1
    past_looks: int = 90
    look_s: float = 10.0
    design: Design = Design.CONCURRENT

    def __post_init__(self) -> None:
        """Refuse what no traffic can be (ValueError, naming the field)."""
        counted = self.spec.kind in COUNTS or self.spec.kind is Kind.LATENCY
        shares = self.spec.kind in (Kind.RATIO, Kind.LATENCY)
        if self.spec.kind in SIZELESS:
            raise ValueError(f"spec: {SIZELESS[self.spec.kind]}")
        top = 1 if shares else math.inf
        least_past = 1 if self.design is Design.BEFORE_AFTER else 0
        wrong = {
            "level": (not 0 < self.level < top, "between 0 and 1" if shares else "more than 0"),
            "requests_per_minute": (counted and not 0 < self.requests_per_minute < math.inf, "more than 0"),
            "share": (not 0 < self.share < 1, "between 0 and 1"),
            "dispersion": (not 1 <= self.dispersion < math.inf, "at least 1"),
            "sd": (not counted and not 0 < self.sd < math.inf, "more than 0"),
            "phi": (not 0 <= self.phi < 1, "from 0 to less than 1"),
            "replicas": (self.replicas < 1, "at least 1"),
            "candidates": (self.candidates < 1, "at least 1"),
            "past_looks": (self.past_looks < least_past, f"at least {least_past}"),
            "look_s": (not 0 < self.look_s < math.inf, "more than 0"),
        }
        for name, (is_wrong, expected) in wrong.items():
            if is_wrong:
                told = f"{getattr(self, name):g} cannot be for a {self.spec.kind}"
                raise ValueError(f"{name}: {told}; expected {expected}")

    @property
    def falls(self) -> bool:
        return self.spec.direction is Direction.DOWN_IS_BAD

    @property
    def largest(self) -> float:
        """The largest log ratio that can be: a share ends at 1."""
        bounded = self.spec.kind in (Kind.RATIO, Kind.LATENCY) and not self.falls
        return min(LARGEST, -math.log(self.level)) if bounded else LARGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The smallest regression that is seen within `minutes` with chance `chance`; ratio is NaN where none is."""

    minutes: float
    chance: float
    ratio: float
    level_from: float
    level_to: float
    sentence: str


def sensitivity(
    traffic: Traffic,
    *,
    minutes: Sequence[float] = MINUTES,
    chances: Sequence[float] = CHANCES,
    settings: JudgeSettings | None = None,
    budget_share: float = 1.0,
    draws: int = DRAWS,
    seed: int = 1,
) -> list[Seen]:
    """Smallest regression, there from the first look on, that the judge calls within some minutes.

    Parameters
    ----------
    minutes
        Times from the deploy; each counts the looks closed by then. None may lie beyond the watch
        (`settings.planned_looks`).
    chances
        Wanted chances of an alarm by then.
    budget_share
        The metric's part of the budget where others are watched too; their evidence is not counted.
    draws
        Watches drawn near the answers, for each time. A chance is hit to about 1 / sqrt(draws).

    Raises
    ------
    ValueError
        A time beyond the watch, or a share or chance that is none.

    >>> errors = MetricSpec(name="errors", kind=Kind.RATIO)
    >>> sensitivity(Traffic(spec=errors, level=0.01, requests_per_minute=60.0), minutes=[0.05])[0].sentence
    'within 0.05 min there is no look'
    """
    known = settings or JudgeSettings()
    watch_minutes = known.planned_looks * traffic.look_s / 60
    if max(minutes, default=0.0) > watch_minutes * (1 + 1e-9):
        raise ValueError(f"minutes: {max(minutes):g} is beyond the watch of {watch_minutes:g} min")
    if not 0 < budget_share <= 1 or not all(0 < chance < 1 for chance in chances):
        raise ValueError("budget_share must lie in (0, 1], every chance between 0 and 1")
    known = replace(known, budget=known.budget * budget_share)
    found = []
    for horizon in minutes:
        looks = math.floor(horizon * 60 / traffic.look_s + 1e-9)
        sizes = _search(traffic, looks, chances, known, draws, np.random.default_rng(seed)) if looks else None
        for i, chance in enumerate(chances):
            found.append(_said(traffic, horizon, chance, float("nan") if sizes is None else sizes[i], looks))
    return found


def _said(traffic: Traffic, minutes: float, chance: float, size: float, looks: int) -> Seen:
    ratio = float("nan") if math.isnan(size) else math.exp(-size if traffic.falls else size)
    to = traffic.level * ratio
    name = f"slow requests ({traffic.spec.name})" if traffic.spec.kind is Kind.LATENCY else traffic.spec.name
    if not looks:
        words = f"within {minutes:g} min there is no look"
    elif math.isnan(ratio):
        words = f"within {minutes:g} min no regression of {name} is seen with {100 * chance:g} % chance"
    else:
        change = f"from {level_words(traffic.spec, traffic.level)} to {level_words(traffic.spec, to)}"
        turn = f"a {'fall' if traffic.falls else 'rise'} of {name} {change} (×{significant(ratio)})"
        words = f"within {minutes:g} min {turn} is seen with {100 * chance:g} % chance"
    return Seen(minutes=minutes, chance=chance, ratio=ratio, level_from=traffic.level, level_to=to, sentence=words)


def level_words(spec: MetricSpec, level: float) -> str:
    """A level as people read it: percent for shares, else a number with its unit."""
    if spec.kind in (Kind.RATIO, Kind.LATENCY):
        return percent(level)
    return quantity(level, "" if spec.kind in COUNTS else spec.unit)


def _search(
    traffic: Traffic,
    looks: int,
    chances: Sequence[float],
    settings: JudgeSettings,
    draws: int,
    rng: np.random.Generator,
) -> list[float]:
    """Log ratio at which each chance of an alarm is reached; NaN where none up to the largest reaches it."""
    sizes, seen = np.zeros(0), np.zeros(0)
    guesses = [(float("nan"), float("nan"))] * len(chances)
    tried = np.repeat(np.linspace(traffic.largest / _SIZES, traffic.largest, _SIZES), _FIRST)
    for part in (*[0.0] * _STEPS, *_ROUNDS, None):
        sizes = np.concatenate([sizes, tried])
        seen = np.concatenate([seen, _alarms(traffic, tried, looks, settings, rng)])
        if part == 0.0:
            middle = _fit(sizes, seen, 0.5, None, traffic.largest)
            tried, guesses = np.full(_EACH, min(middle[0], traffic.largest)), [middle] * len(chances)
            continue
        guesses = [_fit(sizes, seen, c, near, traffic.largest) for c, near in zip(chances, guesses, strict=True)]
        if part is not None:
            each = math.ceil(part * draws / len(chances))
            tried = np.repeat(np.minimum([guess for guess, _ in guesses], traffic.largest), each)
    return [guess if guess <= traffic.largest else float("nan") for guess, _ in guesses]


def _fit(
    sizes: Floats, seen: Floats, chance: float, near: tuple[float, float] | None, largest: float
) -> tuple[float, float]:
    """Size at which a logistic curve through the draws reaches `chance`, and the curve's width: posterior means.

    `near` = an earlier answer: draws count the less the more widths they lie off it, so that the curve need only be
    logistic there.
    """
    tried, which = np.unique(sizes, return_inverse=True)
    alarms = np.asarray(np.bincount(which, weights=seen), dtype=np.float64)
    misses = np.asarray(np.bincount(which, weights=1.0 - seen), dtype=np.float64)
    if near is not None:
        weight = 1.0 / (1.0 + ((tried - near[0]) / (3.0 * near[1])) ** 2)
        alarms, misses = weight * alarms, weight * misses
    low, high = 0.0, 1.5 * largest
    middle, middle_width = 0.0, 0.0
    for _ in range(3):  # each grid spans what the last one left
        at, width = np.linspace(low, high, 61), np.geomspace(0.002, 1.0, 19)
        logit = math.log(chance / (1 - chance)) + (tried - at[:, None, None]) / width[:, None]
        against = np.logaddexp(0.0, logit)
        loss = np.cumsum(alarms * (against - logit) + misses * against, axis=-1)[..., -1]
        belief = np.exp(np.min(loss) - loss)
        belief = belief / np.cumsum(belief)[-1]
        middle = float(np.cumsum(belief * at[:, None])[-1])
        middle_width = float(np.exp(np.cumsum(belief * np.log(width))[-1]))
        spread = math.sqrt(float(np.cumsum(belief * (at[:, None] - middle) ** 2)[-1])) + (high - low) / 60
        low, high = max(middle - 4 * spread, 0.0), middle + 4 * spread
    return middle, middle_width


def _alarms(traffic: Traffic, sizes: Floats, looks: int, settings: JudgeSettings, rng: np.random.Generator) -> Floats:
    """1 where the judge alarmed within the looks, else 0; one watch for every size."""
    watches = [_watch(traffic, float(size), looks, rng) for size in sizes]
    verdicts = judge(watches, [settings] * len(watches))
    return np.array([verdict.alarm_look is not None for verdict in verdicts], dtype=np.float64)


def _watch(traffic: Traffic, size: float, looks: int, rng: np.random.Generator) -> Observation:
    """Draw one watch whose candidate is worse by exp(size) from its first look on."""
    concurrent = traffic.design is Design.CONCURRENT
    past = _cells(traffic, [(Arm.HISTORY if concurrent else Arm.BASELINE, 1.0)], 0.0, traffic.past_looks, rng)
    arms = [(Arm.BASELINE, 1 - traffic.share), (Arm.CANDIDATE, traffic.share)]
    now = _cells(traffic, arms if concurrent else [(Arm.CANDIDATE, 1.0)], size, looks, rng)
    facts = LookFacts(baseline_up=traffic.replicas, candidate_up=traffic.candidates, candidate_down=0)
    return Observation(
        design=traffic.design,
        step_s=traffic.look_s,
        metrics=(traffic.spec,),
        samples={(traffic.spec.name, i - len(past)): cells for i, cells in enumerate([*past, *now])},
        facts=dict.fromkeys(range(looks), facts),
        looks=looks,
        share=traffic.share if concurrent else None,
        candidate_expected=traffic.candidates,
    )


def _cells(
    traffic: Traffic, arms: Sequence[tuple[Arm, float]], size: float, intervals: int, rng: np.random.Generator
) -> list[Cells]:
    """The cells of some intervals; arms with their parts of the traffic."""
    owners: list[str] = []
    replicas: list[str] = []
    drawn = []
    for arm, part in arms:
        ratio = math.exp(-size if traffic.falls else size) if arm is Arm.CANDIDATE else 1.0
        pods = traffic.candidates if arm is Arm.CANDIDATE else traffic.replicas
        mean = traffic.requests_per_minute * traffic.look_s / 60 * part / pods
        found = _draw(traffic, ratio, rng.poisson(mean, (pods, intervals)).astype(np.float64), rng)
        owners += [arm.value] * (pods * found.shape[2])
        replicas += [f"{arm.value}-{pod}" for pod in range(pods) for _ in range(found.shape[2])]
        drawn.append(found.transpose(1, 0, 2, 3).reshape(intervals, -1, 3))
    bounds, values, totals = np.concatenate(drawn, axis=1).transpose(2, 0, 1).tolist()
    arm_column, replica_column, no_stratum = tuple(owners), tuple(replicas), ("",) * len(owners)
    return [
        Cells(arm_column, replica_column, no_stratum, tuple(le), tuple(value), tuple(total))
        for le, value, total in zip(bounds, values, totals, strict=True)
    ]


def _draw(traffic: Traffic, ratio: float, exposure: Floats, rng: np.random.Generator) -> Floats:
    """(pods, intervals, cells, 3): bound, value and total of every cell."""
    if traffic.spec.kind is Kind.LATENCY:
        return _histograms(traffic, ratio, exposure, rng)
    full, nothing = np.full(exposure.shape, np.inf), np.full(exposure.shape, np.nan)
    if traffic.spec.kind in COUNTS:
        bounded = traffic.spec.kind is Kind.RATIO
        rate = min(traffic.level * ratio, 1.0) if bounded else traffic.level * ratio
        events = _events(exposure, rate, traffic.dispersion, rng, bounded=bounded)
        return np.stack([full, events, exposure], axis=-1)[:, :, None]
    levels = np.empty(exposure.shape)
    shocks = rng.standard_normal(exposure.shape)
    for i in range(exposure.shape[1]):
        before = levels[:, i - 1] if i else shocks[:, 0]
        levels[:, i] = traffic.phi * before + math.sqrt(1 - traffic.phi**2) * shocks[:, i] if i else before
    return np.stack([full, traffic.level * ratio + traffic.sd * levels, nothing], axis=-1)[:, :, None]


def _events(exposure: Floats, rate: float, dispersion: float, rng: np.random.Generator, *, bounded: bool) -> Floats:
    """Counts with mean rate x exposure and `dispersion` times the variance of independent events."""
    if dispersion > 1 and rate > 0:  # gamma-Poisson; sums over pods and looks keep the factor
        shape = np.maximum(exposure * rate / (dispersion - 1), 1e-12)
        events = rng.negative_binomial(shape, 1 / dispersion).astype(np.float64)
        return np.minimum(events, exposure) if bounded else events
    if bounded:
        return rng.binomial(exposure.astype(np.int64), rate).astype(np.float64)
    return rng.poisson(exposure * rate).astype(np.float64)


def _histograms(traffic: Traffic, ratio: float, exposure: Floats, rng: np.random.Generator) -> Floats:
    """Cumulative buckets at the bounds that the judge watches; one of them is exceeded by `level` of the requests.

    A slowdown that shows at that bound alone: others move only as far as order demands.
    """
    nearest = min(_QUANTILES, key=lambda share: abs(math.log(share / traffic.level)))
    above = sorted({traffic.level if share == nearest else share for share in _QUANTILES}, reverse=True)
    worse = min(traffic.level * ratio, 1.0)
    moved = [max(s, worse) if s > traffic.level else min(s, worse) if s < traffic.level else worse for s in above]
    slower = np.zeros((*exposure.shape, len(above) + 1))
    beyond = np.zeros(exposure.shape)
    left = exposure.copy()
    for i in reversed(range(len(above))):
        inner = moved[i] - (moved[i + 1] if i + 1 < len(moved) else 0.0)
        open_share = 1.0 - (moved[i + 1] if i + 1 < len(moved) else 0.0)
        share = min(inner / open_share, 1.0) if open_share > 0 else 0.0
        found = np.minimum(_events(left, share, traffic.dispersion, rng, bounded=True), left)
        beyond, left = beyond + found, left - found
        slower[..., i] = beyond
    bounds = np.broadcast_to([*range(1, len(above) + 1), np.inf], slower.shape)
    nothing = np.full(slower.shape, np.nan)
    return np.stack([bounds, exposure[..., None] - slower, nothing], axis=-1)
