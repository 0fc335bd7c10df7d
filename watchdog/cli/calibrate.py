"""`calibrate`: how often the judge would have rolled back services on which nothing was deployed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.result import Design, JudgeSettings
from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines, print_table, tell
from watchdog.cli.progress import progress

if TYPE_CHECKING:
    from analysis.calibrate import Calibration, Rate

SHIPPED = JudgeSettings()
_COLUMNS = ("service", "compared", "metric", "placebos", "rolled back", "apart", "of these", "95 %", "at most")
_COMPARED = {Design.BEFORE_AFTER: "before/after", Design.CONCURRENT: "replicas"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(calibrate)


def calibrate(
    *,
    cases: Annotated[Path, typer.Option("--cases", metavar="DIR", help="Folder with cases.json and Parquet files.")],
    watch_looks: Annotated[
        int, typer.Option(min=1, metavar="N", help="Looks of a placebo's watch.")
    ] = SHIPPED.planned_looks,
    baseline_looks: Annotated[int, typer.Option(min=1, metavar="N", help="Looks before it that are its past.")] = 90,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Let only every N-th look play the deploy.")] = 1,
    look_s: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Shortest look: finer steps are put together.")
    ] = 0.0,
    budget: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            max=0.5,
            metavar="SHARE",
            help=f"Healthy deploys that may be called bad. {SHIPPED.budget} unless given.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="SHARE", help=f"Relative worsening that is tolerated. {SHIPPED.margin} unless given."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Processes that judge.")] = 2,
    json: Json = False,
) -> None:
    """Replay placebo deploys on the recorded past.

    Every look of the past before a recorded deploy that leaves enough before and after plays a deploy on which nothing
    was deployed; every rollback is a false one. Where the old version has several replicas, each also plays the
    candidate against the others. "apart" are the placebos whose watches do not overlap: only these count for the exact
    95 % interval, and for the rate that is proven ("at most"), which is what placebo_rate takes. Of cases that share a
    group one alone counts for these. Metrics that never decided are left to --json.
    """
    from watchdog.calibration import Cut, by_service, calibrate_cases

    given: dict[str, Any] = {"planned_looks": watch_looks}
    given |= {name: value for name, value in {"budget": budget, "margin": margin}.items() if value is not None}
    cut = Cut(baseline_looks=baseline_looks, every=every, look_s=look_s)
    with progress("judging") as told:
        pasts = calibrate_cases(cases, given, cut, workers=workers, progress=told)
    found = by_service(pasts)
    if json:
        print_json(
            {"watch_looks": watch_looks, "baseline_looks": baseline_looks, "every": every, "found": _document(found)}
        )
        return
    print_table(_COLUMNS, [row for name, one in found for row in _rows(name, one)])
    whole = [one for name, one in found if name == "all"] or [one for _, one in found]
    print_lines(f"{_COMPARED[one.design]}: {one.sentence}" for one in whole)
    if not whole:
        tell("the folder has no case")


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
