"""`backtest`: past deploys judged as the daemon would have judged them."""

import json as json_text
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchdog.cli.backtest_live import backtest_live
from watchdog.cli.live_past import (
    SHIPPED,
    Budget,
    CasesDir,
    DeploysFile,
    LiveConfig,
    Margin,
    Service,
    Since,
    one_of_two,
)
from watchdog.cli.output import tell
from watchdog.cli.progress import progress
from watchdog.cli.whole_file import check_writable, write_whole
from watchdog.errors import WatchdogError

if TYPE_CHECKING:
    from analysis.evaluate import Score
    from watchdog.backtest import Judged

_COLUMNS = ("cases", "AA", "false", "95 %", "acted", "faults", "found", "95 %", "early", "delay")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(backtest)


def backtest(
    *,
    cases: CasesDir = None,
    config: LiveConfig = None,
    service: Service = None,
    since: Since = "30d",
    deploys: DeploysFile = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="OUT", help="Where to write one JSON line per case; - is stdout."),
    ] = None,
    budget: Budget = None,
    margin: Margin = None,
    watch_looks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"Planned looks of a watch. {SHIPPED.planned_looks} unless given."),
    ] = None,
    look_s: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Shortest look: finer steps are put together."),
    ] = 0.0,
    placebo_rate: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, metavar="SHARE", help="Measured false-rollback rate of before/after verdicts."),
    ] = None,
    act_uncalibrated: Annotated[
        bool, typer.Option("--act-uncalibrated", help="Let before/after verdicts act without such a rate.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Processes that judge.")] = 2,
) -> None:
    """Judge past deploys.

    With --config, the real deploys of a service since then, out of the past that its own Prometheus keeps: those on
    record in the ledger, else those of --deploys, else every version that began to serve while another one did. They
    are judged by the service's own settings, and the other options are for --cases.

    With --cases, every recorded case is judged after every look as the daemon would have, to its first alarm or its
    end. Where cases.json knows the truth, a table follows on stderr: AA are the deploys in which nothing was broken,
    false the alarms of these, acted those that would have rolled back, delay the median steps from a fault's onset to
    its alarm.
    """
    from analysis.evaluate import score
    from watchdog.backtest import backtest as judge_all
    from watchdog.backtest import trials

    one_of_two(config, cases)
    check_writable(json)
    if config is not None:
        backtest_live(config, service, since=since, deploys=deploys, out=json)
        return
    if json is None or cases is None:
        raise WatchdogError("--json OUT is missing: where to write one JSON line per case")
    wished = {"budget": budget, "margin": margin, "planned_looks": watch_looks, "placebo_rate": placebo_rate}
    given = {name: value for name, value in wished.items() if value is not None}
    if act_uncalibrated:
        given["act_uncalibrated"] = True
    with progress("judging") as told:
        judged = judge_all(cases, given, look_s=look_s, workers=workers, progress=told)
    _write(json, judged)
    tell(_summary(judged))
    known = trials(cases, judged)
    if known:
        _print_scores(score(known))


def _write(out: Path, judged: Sequence["Judged"]) -> None:
    write_whole(out, "".join(f"{json_text.dumps(asdict(one), ensure_ascii=False)}\n" for one in judged))


def _summary(judged: Sequence["Judged"]) -> str:
    words = Counter(one.verdict if one.reason is None else f"{one.verdict} {one.reason}" for one in judged)
    many = "1 case" if len(judged) == 1 else f"{len(judged)} cases"
    return f"{many}: " + ", ".join(f"{number} {word}" for word, number in sorted(words.items()))


def _print_scores(scores: Sequence["Score"]) -> None:
    """Print aligned columns on stderr; stdout belongs to nobody."""
    rows = [_COLUMNS, *(_row(one) for one in scores)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        tell("  ".join([row[0].ljust(widths[0]), *cells]))


def _row(one: "Score") -> tuple[str, ...]:
    delay = "-" if one.median_delay_steps is None else f"{one.median_delay_steps:.1f}"
    return (
        one.group,
        str(one.unchanged),
        *_share(one.false, one.unchanged),
        str(one.false_acted),
        str(one.faults),
        *_share(one.found, one.faults),
        str(one.early),
        delay,
    )


def _share(hits: int, n: int) -> tuple[str, str]:
    """`7 = 1.1 %` and its exact interval `0.5–2.3`."""
    from analysis.evaluate import exact_interval

    if not n:
        return "-", ""
    low, high = exact_interval(hits, n)
    return f"{hits} = {100 * hits / n:.1f} %", f"{100 * low:.1f}–{100 * high:.1f}"
