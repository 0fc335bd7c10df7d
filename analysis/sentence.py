"""The words of a verdict, for a tired human. Numbers that are not known are left out, never printed as nan."""

import math
from collections.abc import Sequence

from analysis.result import Design, Direction, Evidence, Kind, MetricSpec, Reason

WORTH_KNOWING = "worth knowing"  # how a note begins that is no reason to act
THIN = "\u202f"  # narrow, and never broken at the end of a line
ROUNDED = math.log(1.05)  # ratios of rounded levels may be off by so much
FAR_HOURS = 24.0 * 365  # a limit further off is none
FINE = 1.1  # a margin that buckets widen by less is not worth a word
_BOUNDS = 4  # of a layout that are named
_MOST, _LEAST = 1_000_000, 0.001
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_ROUNDS_UP = 0.9995  # what would read 1 000 kB is 1 MB
_SHARES = frozenset({Kind.RATIO, Kind.LATENCY, Kind.LABELS})


def count(number: float) -> str:
    """A whole number with thin spaces.

    >>> count(24390.0).replace(THIN, " ")
    '24 390'
    """
    return f"{number:,.0f}".replace(",", THIN)


def named(names: Sequence[str], most: int = 3) -> str:
    """Names as they are read aloud: the first few, and how many more there are.

    >>> named(["cart", "mail"]), named(["a", "b", "c", "d", "e"])
    ('cart, mail', 'a, b, c and 2 more')
    """
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more} more"


def significant(number: float, digits: int = 2) -> str:
    """A number rounded to a few digits, without an exponent.

    >>> significant(0.00123), significant(7.64), significant(1234.0).replace(THIN, " ")
    ('0.0012', '7.6', '1 234')
    """
    if number == 0:
        return "0"
    size = math.floor(math.log10(abs(number)))
    if size >= digits - 1:
        return f"{number:,.0f}".replace(",", THIN)
    places = digits - 1 - size
    return f"{number:.{places}f}"


def quantity(number: float, unit: str) -> str:
    """A level with its unit; bytes in the step that people read.

    >>> quantity(50_040_000.0, "B"), quantity(900.0, "B"), quantity(0.021, "cores"), quantity(3.0, "")
    ('50 MB', '900 B', '0.021 cores', '3')
    """
    steps = _BYTES if unit == "B" else ()
    size, told = next(((size, told) for size, told in steps if abs(number) >= _ROUNDS_UP * size), (1.0, unit))
    words = significant(number / size, 3)
    return f"{words.rstrip('0').rstrip('.') if '.' in words else words} {told}".rstrip()


def bound(number: float) -> str:
    """A bucket bound as it was written; one of a native histogram, a root of two, to four digits: its neighbours are
    at least 0.27 % away.

    >>> bound(0.25), bound(10.0), bound(2 ** (-35 / 8))
    ('0.25', '10', '0.04819')
    """
    written = f"{number:.6g}"
    return written if float(written) == number else f"{number:.4g}"


def percent(share: float) -> str:
    """A share in percent, with a decimal where it is small.

    >>> percent(0.061), percent(0.00044), percent(0.0)
    ('6.1 %', '0.044 %', '0 %')
    """
    return f"{significant(100 * share, 2 if abs(share) < 0.1 else 3)} %"


def evidence_of(log_evidence: float, log_threshold: float) -> str:
    """The e-value against what decides.

    >>> evidence_of(math.log(61), math.log(100)), evidence_of(math.log(325), math.log(100))
    ('evidence 61 of 100', 'evidence 325 (100 is enough)')
    """
    limit = count(math.exp(log_threshold))
    if log_evidence > math.log(_MOST):
        said = f"> {count(_MOST)}"
    elif log_evidence < math.log(_LEAST):
        said = f"< {_LEAST}"
    else:
        value = math.exp(log_evidence)
        said = count(value) if value >= 10 else significant(value)
    return f"evidence {said} ({limit} is enough)" if log_evidence >= log_threshold else f"evidence {said} of {limit}"


def span(seconds: float) -> str:
    """A stretch of time as people say it.

    >>> span(5), span(80), span(400), span(3725)
    ('5 s', '80 s', '6 min 40 s', '1 h 2 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 2:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if rest else f"{minutes} min"


def since_deploy(seconds: float) -> str:
    """When something began that lasts.

    >>> since_deploy(0), since_deploy(400)
    ('since the deploy', 'since 6 min 40 s after the deploy')
    """
    return f"since {span(seconds)} after the deploy" if seconds >= 1 else "since the deploy"


def comparison(spec: MetricSpec, evidence: Evidence, label: str = "") -> str:
    """`errors 0.9 % vs 0.3 % (×2.9, 1.7–4.8; 4 120 vs 39 800 requests)`."""
    name = f"{spec.name}{label}"
    if math.isnan(evidence.candidate_level) or math.isnan(evidence.baseline_level):
        return f"{name}: no comparison yet"
    levels = f"{name} {_level(spec, evidence.candidate_level)} vs {_level(spec, evidence.baseline_level)}"
    inside = [part for part in (_effect(evidence), _amounts(spec, evidence)) if part]
    return f"{levels} ({'; '.join(inside)})" if inside else levels


def nothing_new(spec: MetricSpec) -> str:
    """No label value that the new version shows is new."""
    return f"{spec.name}: nothing new"


def climb(spec: MetricSpec, evidence: Evidence, tolerated: float, to_limit: float | None) -> str:
    """`memory +90 MB an hour against the old version (+60 to +120; 25 tolerated), at its limit of 512 MB in 12 min`."""
    value, low, high = evidence.effect, evidence.effect_low, evidence.effect_high
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return f"{spec.name}: too few values for a slope yet"
    unit = f" {spec.unit}" if spec.unit else ""
    words = (
        f"{spec.name} {_signed(value)}{unit} an hour against the old version "
        f"({_signed(low)} to {_signed(high)}; {significant(tolerated)} tolerated)"
    )
    if to_limit is None:
        return words
    when = f"in {span(to_limit)}" if to_limit > 0 else "now"
    return f"{words}, at its limit of {significant(spec.limit or 0.0, 3)}{unit} {when}"


def time_to_limit(spec: MetricSpec, level: float, slope: float) -> float | None:
    """Seconds until a level that goes on like this is at its limit; None where it has none, or goes away from it.

    slope: per hour

    >>> time_to_limit(MetricSpec(name="memory", kind=Kind.TREND, limit=512.0), 500.0, 60.0)
    720.0
    """
    if spec.limit is None or math.isnan(level) or math.isnan(slope) or slope == 0:
        return None
    rising = spec.direction is not Direction.DOWN_IS_BAD
    if (level >= spec.limit) if rising else (level <= spec.limit):
        return 0.0
    left = (spec.limit - level) / slope
    return left * 3600.0 if 0 < left < FAR_HOURS else None


def _level(spec: MetricSpec, level: float) -> str:
    if spec.kind in _SHARES:
        return percent(level)
    if spec.kind is Kind.RATE:
        return f"{significant(level, 3)}"
    return f"{significant(level, 3)}{' ' + spec.unit if spec.unit else ''}"


def _effect(evidence: Evidence) -> str:
    value, low, high = evidence.effect, evidence.effect_low, evidence.effect_high
    if evidence.effect_kind == "difference":
        known = not (math.isnan(value) or math.isnan(low) or math.isnan(high))
        return f"{_signed(value)}, {_signed(low)} to {_signed(high)}" if known else ""
    if not math.isnan(value) and not math.isnan(low) and not math.isnan(high):
        mixed = " like for like" if _is_of_another_mix(evidence) else ""
        return f"×{_times(value)}{mixed}, {_times(low)}–{_times(high)}"
    return f"at least ×{_times(low)}" if not math.isnan(low) and low > 0 else ""


def _is_of_another_mix(evidence: Evidence) -> bool:
    """Whether the ratio, compared within strata, is another than that of the two levels before it."""
    crude = evidence.candidate_level / evidence.baseline_level if evidence.baseline_level > 0 else 0.0
    return crude > 0 and evidence.effect > 0 and abs(math.log(evidence.effect / crude)) > ROUNDED


def _times(ratio: float) -> str:
    """A ratio for people: next to nothing is nothing."""
    return "0" if ratio < 0.005 else significant(ratio)


def _signed(number: float) -> str:
    return f"+{significant(number)}" if number >= 0 else f"−{significant(-number)}"


def _amounts(spec: MetricSpec, evidence: Evidence) -> str:
    if spec.kind not in _SHARES:
        return ""
    return f"{count(evidence.n_candidate)} vs {count(evidence.n_baseline)} requests"


def seen(spec: MetricSpec, evidence: Evidence) -> str:
    """What would not have been missed."""
    if math.isnan(evidence.detectable):
        return ""
    unit = f" {spec.unit}" if spec.unit else ""
    if evidence.effect_kind == "slope":
        return f"a slope of {significant(evidence.detectable)}{unit} an hour would have been seen"
    if evidence.effect_kind == "difference":
        return (
            f"a shift of {significant(evidence.detectable)}{' ' + spec.unit if spec.unit else ''} would have been seen"
        )
    turn = "an increase" if evidence.detectable >= 1 else "a fall"
    return f"{turn} to ×{significant(evidence.detectable)} would have been seen"


def degraded(words: str, since_s: float | None, log_evidence: float, log_threshold: float, *, tail: str = "") -> str:
    since = f", {since_deploy(since_s)}" if since_s is not None else ""
    return f"{words}{since}, {evidence_of(log_evidence, log_threshold)}{tail}"


def absent(since_s: float, looks: int, down: int | None, expected: int | None) -> str:
    of = f" of {expected}" if expected else ""
    who = f"{down}{of} instances fail" if down else "its announced instances report nothing"
    return (
        f"the new version does not serve: {who} {since_deploy(since_s)}, "
        f"{looks} looks in a row, while the old one goes on reporting"
    )


def source_down(detail: str, *, partial: bool) -> str:
    what = "answers only in part" if partial else "does not answer"
    why = f" ({detail})" if detail else ""
    return f"the metrics source {what}{why}: nothing can be judged; check the source"


def missing(reason: Reason, names: Sequence[str], which: str = "") -> str:
    """What is missing and what to do, for the reasons that need no numbers."""
    listed = ", ".join(names)
    return {
        Reason.NO_DATA: f"no samples of the {which} for {listed}: check the metric's selector and the version label",
        Reason.MISCONFIGURED: f"{listed}: both versions show the same series at every look, "
        "so the selector does not tell them apart; check the version label",
    }[reason]


def unheard_of(since_s: float, looks: int) -> str:
    """No request reaches the candidate, though its numbers are there.

    >>> unheard_of(60.0, 20)
    'no request has reached the new version since 60 s after the deploy (20 looks): does it hang, or get no traffic?'
    """
    since = f"{since_deploy(since_s)} ({looks} looks)"
    return f"no request has reached the new version {since}: does it hang, or get no traffic?"


def uncalibrated(placebo_rate: float | None, budget: float) -> str:
    """Why a before/after alarm does not act by itself."""
    known = "unknown" if placebo_rate is None else f"{percent(placebo_rate)}, above the budget of {percent(budget)}"
    return f"compared with the time before the deploy, and how often that is wrong on this service is {known}"


def no_common_bounds(name: str, old: Sequence[float], new: Sequence[float]) -> str:
    """The histogram's buckets changed with the deploy.

    >>> no_common_bounds("latency", [0.1, 0.5], [100.0, 500.0]).partition(", so")[0]
    'latency: old version (0.1, 0.5) and new (100, 500) have no bucket bound in common'
    """
    listed = [", ".join(map(bound, one[:_BOUNDS])) + (", …" if len(one) > _BOUNDS else "") for one in (old, new)]
    return (
        f"{name}: old version ({listed[0]}) and new ({listed[1]}) have no bucket bound in common, so nothing can be "
        "compared; give both the same buckets, and check the unit"
    )


def coarse_buckets(spec: MetricSpec, steps: Sequence[tuple[float, float]]) -> str:
    """Where the buckets cannot express the margin in time that was asked for; nothing where they can."""
    asked = 1.0 + (spec.slower_by or 0.0)
    unit = f" {spec.unit}" if spec.unit else ""
    wide = [f"×{significant(to / at)} ({bound(at)} to {bound(to)}{unit})" for at, to in steps if to / at > asked * FINE]
    if spec.slower_by is not None and not steps:
        return f"{spec.name}: no bucket bound lies {percent(spec.slower_by)} above one that tells: add buckets above it"
    if not wide:
        return ""
    return (
        f"{spec.name}: slowness below {', '.join(wide)} is tolerated where ×{significant(asked)} was asked for: "
        "the smallest margin is one bucket; finer buckets, or native histograms, tell more"
    )


def always_zero(name: str) -> str:
    """A level without noise, and without a size that a margin could be taken of."""
    return f"{name} was always 0 in the old version, so nobody knows how much more is too much: set a floor"


def low_traffic(spec: MetricSpec, found: Evidence, wanted: float) -> str:
    """What could not have been seen."""
    if found.effect_kind == "difference" and found.baseline_level == 0 and math.isnan(found.detectable):
        return always_zero(spec.name)
    what = seen(spec, found)
    only = f"only {what}" if what else "no regression could have been seen"
    return f"too little traffic: {only}, ×{significant(wanted)} is wanted; watch longer or send more traffic"


def unlike(share: float, design: Design) -> str:
    """How much of the new version's requests nothing of the old one can be held against."""
    did = "hardly served" if design is Design.BEFORE_AFTER else "did not serve"
    return f"{percent(share)} of the new version's requests are of routes the old one {did}"


def no_counterpart(name: str, share: float, rates: tuple[float, float], design: Design) -> str:
    """Worse where there is nothing like it to compare with. rates: there, and of all of the old version."""
    then = " at the time" if design is Design.CONCURRENT else ""
    return (
        f"{unlike(share, design)}{then} (or of other values of `by`): "
        f"{name} {percent(rates[0])} there, {percent(rates[1])} in all of the old version; "
        "a fault, or routes that are so by nature: nobody can tell"
    )


def excused(words: str, beside: float, threshold: float) -> str:
    """Worse than before the deploy, but so is what the deploy cannot have touched; or nobody can tell yet.

    beside: ln evidence that the deploy got worse by more than its control series did.
    """
    if beside > 0:
        return f"{words}; beside the control series {evidence_of(beside, threshold)}: it may still be a shared cause"
    return f"{words}, but the control series moved alike; look for a cause that both share"


def shared_cause(name: str, rates: tuple[float, float]) -> str:
    """The old version got worse itself. rates: now and before the deploy."""
    return (
        f"the old version itself got worse: {name} {percent(rates[0])} now, {percent(rates[1])} before the deploy; "
        "look for a shared cause, or for a lock or pool that this deploy exhausts"
    )
