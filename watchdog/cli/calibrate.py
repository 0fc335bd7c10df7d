"""`calibrate`: how often the judge would have rolled back services on which nothing was deployed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.result import Design
from watchdog.cli.live_past import (
    SHIPPED,
    Budget,
    CasesDir,
    DeploysFile,
    LiveConfig,
    Margin,
    Since,
    deploys_of,
    one_of_two,
    seconds,
    service_of,
)
from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines, print_table, tell, when
from watchdog.cli.progress import progress

if TYPE_CHECKING:
    from analysis.calibrate import Calibration, Rate

_COLUMNS = ("service", "compared", "metric", "placebos", "rolled back", "apart", "of these", "95 %", "at most")
_COMPARED = {Design.BEFORE_AFTER: "before/after", Design.CONCURRENT: "replicas"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(calibrate)


def calibrate(
    *,
    cases: CasesDir = None,
    config: LiveConfig = None,
    service: Annotated[
        list[str] | None, typer.Option("--service", metavar="NAME", help="With --config: only this one; repeatable.")
    ] = None,
    since: Since = "7d",
    deploys: DeploysFile = None,
    watch_looks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Looks of a placebo's watch.")
    ] = SHIPPED.planned_looks,
    baseline_looks: Annotated[int, typer.Option(min=1, metavar="N", help="Looks before it that are its past.")] = 90,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Let only every N-th look play the deploy; 1, with --config one a watch."
        ),
    ] = None,
    look_s: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Shortest look: finer steps are put together.")
    ] = 0.0,
    budget: Budget = None,
    margin: Margin = None,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Processes that judge.")] = 2,
    json: Json = False,
) -> None:
    """Replay placebo deploys on the past.

    With --config, on the last days of every service, out of the past that its own Prometheus keeps: between its real
    deploys, by its own settings, of which only --every is another here. With --cases, on recorded pasts.

    Every look of the past before a recorded deploy that leaves enough before and after plays a deploy on which nothing
    was deployed; every rollback is a false one. Where the old version has several replicas, each also plays the
    candidate against the others. "apart" are the placebos whose watches do not overlap: only these count for the exact
    95 % interval, and for the rate that is proven ("at most"), which is what placebo_rate takes. Of cases that share a
    group one alone counts for these. Metrics that never decided are left to --json.
    """
    from watchdog.calibration import Cut, by_service, calibrate_cases

    one_of_two(config, cases)
    if config is not None:
        live = calibrate_live(config, service or [], since=since, deploys=deploys, every=every)
        _show(live, {"since": since}, json=json)
        return
    assert cases is not None  # noqa: S101 - one of the two
    given: dict[str, Any] = {"planned_looks": watch_looks}
    given |= {name: value for name, value in {"budget": budget, "margin": margin}.items() if value is not None}
    cut = Cut(baseline_looks=baseline_looks, every=every or 1, look_s=look_s)
    with progress("judging") as told:
        pasts = calibrate_cases(cases, given, cut, workers=workers, progress=told)
    told_by = {"watch_looks": watch_looks, "baseline_looks": baseline_looks, "every": cut.every}
    _show(by_service(pasts), told_by, json=json)


def calibrate_live(
    config: Path, services: Sequence[str], *, since: str, deploys: Path | None, every: int | None
) -> "list[tuple[str, Calibration]]":
    """Placebo deploys of every service on its own live past."""
    from watchdog.past import calibrate_past, service_names
    from watchdog.past.placebos import stretches

    found = []
    for name in services or service_names(config):
        with service_of(config, name) as past:
            until = past.clock.now()
            begin = until - seconds(since)
            known, versions = deploys_of(past, deploys, since=begin, until=until)
            between = stretches(past, known, versions, since=begin, until=until)
            many = "1 deploy" if len(known) == 1 else f"{len(known)} deploys"
            tell(f"{name}: {many} since {when(begin)}; placebos where there was none")
            with progress("judging") as told:
                one = calibrate_past(past, between, every=every, progress=told)
            if one is not None:
                found.append((name, one))
    return found


def _show(found: "list[tuple[str, Calibration]]", told_by: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json({**told_by, "found": _document(found)})
        return
    print_table(_COLUMNS, [row for name, one in found for row in _rows(name, one)])
    whole = [one for name, one in found if name == "all"] or [one for _, one in found]
    print_lines(f"{_COMPARED[one.design]}: {one.sentence}" for one in whole)
    if not whole:
        tell(
            "there is no past to judge: nowhere is there room for a watch and the time before it without a deploy; "
            "take more of the past (--since), or come back when more was kept"
        )


def _document(found: "list[tuple[str, Calibration]]") -> list[dict[str, Any]]:
    return [
        {
            "service": name,
            "design": one.design.value,
            **_figures(one.service),
            "days": one.days,
            "not_judged": one.not_judged,
            "budget": one.budget,
            "placebo_rate": one.placebo_rate,
            "within_budget": one.within_budget,
            "sentence": one.sentence,
            "metrics": [{"metric": rate.name, **_figures(rate)} for rate in one.metrics],
        }
        for name, one in found
    ]


def _figures(rate: "Rate") -> dict[str, Any]:
    return {
        "placebos": rate.placebos,
        "rolled_back": rate.hits,
        "rate": rate.rate if rate.placebos else None,
        "apart": rate.apart,
        "apart_rolled_back": rate.apart_hits,
        "interval": rate.interval,
        "proven": rate.proven,
    }


def _rows(name: str, one: "Calibration") -> list[tuple[str, ...]]:
    rates = [one.service, *(rate for rate in one.metrics if rate.hits)]
    return [(name, _COMPARED[one.design], *_cells(rate)) for rate in rates]


def _cells(rate: "Rate") -> tuple[str, ...]:
    from analysis.sentence import percent

    low, high = rate.interval
    return (
        rate.name or "any",
        str(rate.placebos),
        f"{rate.hits} = {percent(rate.rate)}" if rate.placebos else "-",
        str(rate.apart),
        str(rate.apart_hits),
        f"{100 * low:.1f}–{100 * high:.1f}",
        percent(rate.proven),
    )
