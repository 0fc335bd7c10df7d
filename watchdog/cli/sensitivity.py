"""`sensitivity`: which regression the judge would see within some minutes, at a service's traffic."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec
from watchdog.cli.live_past import LiveConfig, Service, Since, one_of_two, seconds, service_of
from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines, print_table, tell
from watchdog.errors import WatchdogError

if TYPE_CHECKING:
    from analysis.sensitivity import Seen, Traffic
    from watchdog.recorded_traffic import Told

SHIPPED = JudgeSettings()
_COLUMNS = ("metric", "within", "from", "to, 50 % chance", "to, 90 % chance")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(sensitivity)


_INSTEAD = {  # of kinds that have no size to be asked for
    Kind.TREND: (
        "a trend is judged by its slope, which has no size to be asked for; ask for the level itself (--kind gauge), "
        "or let `backtest` say what past deploys would have been called"
    ),
    Kind.LABELS: (
        "a label that is new is judged from its first events on and has no size to be asked for; ask for errors as a "
        "whole (--kind ratio), or let `backtest` say what past deploys would have been called"
    ),
}
_MISSING = {
    "baseline": "the old version's level, such as 0.004 for errors of 0.4 %",
    "requests-per-minute": "the requests (exposure) of both versions together",
    "sd": "one replica's standard deviation",
}
_Kind = Annotated[
    Kind, typer.Option("--kind", metavar="KIND", help="What is compared: a ratio, rate, latency or gauge.")
]
_Baseline = Annotated[
    float | None,
    typer.Option(
        "--baseline",
        metavar="LEVEL",
        help="The old version's: share of bad requests, events per exposure, share of slow requests, or level.",
    ),
]
_Requests = Annotated[float, typer.Option(metavar="N", help="Requests (exposure) of both versions together.")]
_Share = Annotated[float, typer.Option(metavar="SHARE", help="Part of them that the new version gets.")]
_Minutes = Annotated[str, typer.Option(metavar="M,M", help="Times from the deploy.")]
_Dispersion = Annotated[
    float, typer.Option(min=1.0, metavar="FACTOR", help="Variance of the bad events over that of independent ones.")
]
_Sd = Annotated[float, typer.Option(metavar="SD", help="gauge: one replica's standard deviation.")]
_Phi = Annotated[float, typer.Option(metavar="R", help="gauge: its correlation from look to look.")]
_Replicas = Annotated[int, typer.Option(min=1, metavar="N", help="Replicas of the old version.")]
_Candidates = Annotated[int, typer.Option(min=1, metavar="N", help="Replicas of the new version.")]
_LookS = Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.")]
_BeforeAfter = Annotated[bool, typer.Option("--before-after", help="Compare with the time before the deploy.")]
_Fewer = Annotated[bool, typer.Option("--fewer", help="Fewer is worse: orders, conversions.")]
_BudgetShare = Annotated[float, typer.Option(metavar="SHARE", help="This metric's part of the budget, beside others.")]
_Margin = Annotated[float, typer.Option(min=0.0, metavar="SHARE", help="Worsening that is tolerated.")]
_Budget = Annotated[
    float, typer.Option(min=1e-9, max=0.5, metavar="SHARE", help="Healthy deploys that may be called bad.")
]
_Cases = Annotated[
    Path | None, typer.Option("--cases", metavar="DIR", help="Take traffic and levels from recorded deploys.")
]
_Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Of this recorded deploy; else of the first.")]


def sensitivity(
    *,
    kind: _Kind = Kind.RATIO,
    baseline: _Baseline = None,
    requests_per_minute: _Requests = 0.0,
    share: _Share = 0.1,
    minutes: _Minutes = "1,5,15",
    dispersion: _Dispersion = 1.0,
    sd: _Sd = 0.0,
    phi: _Phi = 0.0,
    replicas: _Replicas = 4,
    candidates: _Candidates = 1,
    look_s: _LookS = 10.0,
    before_after: _BeforeAfter = False,
    fewer: _Fewer = False,
    budget_share: _BudgetShare = 1.0,
    margin: _Margin = SHIPPED.margin,
    budget: _Budget = SHIPPED.budget,
    cases: _Cases = None,
    case: _Case = None,
    config: LiveConfig = None,
    service: Service = None,
    since: Since = "1d",
    json: Json = False,
) -> None:
    """Say which regression would be seen.

    Watches are drawn at this traffic and judged as shipped: the answers are the smallest regressions, there from the
    first look on, that raise the alarm in half and in nine of ten of them. With --cases, the traffic, share, level and
    noise before a recorded deploy are taken, and of the other options only --minutes, --margin, --budget and
    --budget-share are heeded. With --config, those of the service as its Prometheus shows them today, and its own
    settings: of the other options only --minutes and --share are heeded.
    """
    from watchdog.recorded_traffic import Told, traffic_of_case

    times = _minutes(minutes)
    settings = replace(SHIPPED, margin=margin, budget=budget)
    budget_shares: dict[str, float] = {}
    if config is not None:
        one_of_two(config, cases)
        told, settings, budget_shares = _live(config, service, since=since, share=share)
    elif cases is not None:
        told = traffic_of_case(cases, case)
    else:
        direction = Direction.DOWN_IS_BAD if fewer else Direction.UP_IS_BAD
        asked_for = _traffic(
            MetricSpec(name="level" if kind is Kind.GAUGE else "events", kind=kind, direction=direction),
            level=math.nan if baseline is None else baseline,
            requests_per_minute=requests_per_minute,
            share=share,
            dispersion=dispersion,
            sd=sd,
            phi=phi,
            replicas=replicas,
            candidates=candidates,
            look_s=look_s,
            design=Design.BEFORE_AFTER if before_after else Design.CONCURRENT,
        )
        told = Told(traffic=[asked_for])
    for metric, why in told.left_out.items():
        tell(f"left out: {metric} ({why})")
    asked = [(one, _seen(one, times, settings, budget_shares.get(one.spec.name, budget_share))) for one in told.traffic]
    _show(asked, json=json)


def _show(asked: "Sequence[tuple[Traffic, list[Seen]]]", *, json: bool) -> None:
    if json:
        print_json([_document(traffic, seen) for traffic, seen in asked])
        return
    print_table(_COLUMNS, [row for traffic, seen in asked for row in _rows(traffic, seen)])
    print_lines(seen[-1].sentence for _, seen in asked)


def _live(
    config: Path, service: str | None, *, since: str, share: float
) -> "tuple[Told, JudgeSettings, dict[str, float]]":
    """Today's traffic of a service, its settings, and every metric's part of the budget."""
    from analysis.combine import budget_shares
    from watchdog.past import traffic_of_past

    if not 0 < share < 1:
        raise WatchdogError(f"--share: {share:g} is no share; expected between 0 and 1")
    with service_of(config, service) as past:
        until = past.clock.now()
        steps = past.plan.steps
        part = steps.shares[0] if steps is not None else share
        found = traffic_of_past(past, since=until - seconds(since), until=until, share=part)
        specs = [metric.spec for metric in past.plan.metrics]
        parts = dict(zip((spec.name for spec in specs), budget_shares(specs), strict=True))
        return found, past.plan.judge, parts


def _minutes(text: str) -> list[float]:
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < minutes < math.inf for minutes in found):
        raise WatchdogError(f"--minutes: {text!r} are no times; give for example 1,5,15")
    return found


def _traffic(spec: MetricSpec, **told: Any) -> "Traffic":
    from analysis.sensitivity import Traffic

    if spec.kind in _INSTEAD:
        raise WatchdogError(f"--kind {spec.kind}: {_INSTEAD[spec.kind]}")
    try:
        return Traffic(spec=spec, **told)
    except ValueError as error:
        name, _, wrong = str(error).partition(": ")
        option = {"level": "baseline"}.get(name, name).replace("_", "-")
        if option in _MISSING and (math.isnan(told[name]) or (told[name] == 0 and name != "level")):
            raise WatchdogError(f"--{option} is missing: {_MISSING[option]}") from None
        raise WatchdogError(f"--{option}: {wrong}") from None


def _seen(traffic: "Traffic", minutes: Sequence[float], settings: JudgeSettings, budget_share: float) -> "list[Seen]":
    """The answers for one metric; a watch as long as the shipped one, or as the longest time asked for."""
    from analysis.sensitivity import sensitivity as answer

    tell(f"drawing watches of {traffic.spec.name}")
    looks = max(round(900 / traffic.look_s), math.ceil(max(minutes) * 60 / traffic.look_s - 1e-9), 1)
    try:
        return answer(
            traffic, minutes=minutes, settings=replace(settings, planned_looks=looks), budget_share=budget_share
        )
    except ValueError as error:
        raise WatchdogError(str(error)) from None


def _rows(traffic: "Traffic", seen: "Sequence[Seen]") -> list[tuple[str, ...]]:
    from analysis.sensitivity import level_words
    from analysis.sentence import significant

    def to(one: "Seen") -> str:
        return (
            "-" if math.isnan(one.ratio) else f"{level_words(traffic.spec, one.level_to)} (×{significant(one.ratio)})"
        )

    rows: list[tuple[str, ...]] = []
    for half, most in zip(seen[::2], seen[1::2], strict=True):
        rows.append(
            (traffic.spec.name, f"{half.minutes:g} min", level_words(traffic.spec, traffic.level), to(half), to(most))
        )
    return rows


def _document(traffic: "Traffic", seen: "Sequence[Seen]") -> dict[str, Any]:
    known = asdict(traffic)
    spec = known.pop("spec")
    answers = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(one).items()}
        for one in seen
    ]
    return {"metric": spec["name"], "kind": spec["kind"], "traffic": known, "seen": answers}
