"""What `backtest`, `calibrate` and `sensitivity` have in common where they ask a live source: since when, and which."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.result import JudgeSettings
from watchdog.cli.output import tell, when
from watchdog.errors import WatchdogError

SHIPPED = JudgeSettings()
_UNLESS = tuple(f"{value} unless given." for value in (SHIPPED.budget, SHIPPED.margin))

if TYPE_CHECKING:
    from watchdog.past import PastDeploy, PastService
    from watchdog.past.deploys import Versions

LiveConfig = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Ask the sources of this configuration instead of a record."),
]
Service = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="With --config: of this service; else of the only one.")
]
DeploysFile = Annotated[
    Path | None,
    typer.Option(
        "--deploys", metavar="CSV", help="With --config: the deploys, as time,version[,previous_version] with a header."
    ),
]
CasesDir = Annotated[
    Path | None, typer.Option("--cases", metavar="DIR", help="Folder with cases.json and Parquet files.")
]
Since = Annotated[
    str, typer.Option(metavar="TIME", help="With --config: the past from then on, such as 30d, 12h or 90m.")
]
Budget = Annotated[
    float | None,
    typer.Option(
        min=1e-9,
        max=0.5,
        metavar="SHARE",
        help=f"Healthy deploys that may be called bad. {_UNLESS[0]}",
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="SHARE", help=f"Relative worsening that is tolerated. {_UNLESS[1]}"),
]
_SINCE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def one_of_two(config: Path | None, cases: Path | None) -> None:
    """Exactly one of --config and --cases (WatchdogError)."""
    if (config is None) == (cases is None):
        raise WatchdogError(
            "name either --config FILE, for the past that a live Prometheus keeps, or --cases DIR, for recorded deploys"
        )


def seconds(text: str) -> float:
    """`30d`, `12h`, `90m` in seconds (WatchdogError)."""
    found = _SINCE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise WatchdogError(f"--since: {text!r} is no length of time; give for example 30d, 12h or 90m")
    return float(found[1]) * _SECONDS[found[2]]


@contextmanager
def service_of(config: Path, name: str | None) -> Iterator["PastService"]:
    """The service, its source started; says on stderr how far a long question is."""
    from watchdog.past import open_service

    with open_service(config, name) as service:
        yield service


def deploys_of(
    service: "PastService", file: Path | None, *, since: float, until: float
) -> "tuple[list[PastDeploy], Versions | None]":
    """The deploys of that time: from the file, else from the ledger, else as versions that began to serve."""
    from watchdog.past import read_deploys
    from watchdog.past.deploys import completed, from_ledger, from_source
    from watchdog.strategies import STRATEGIES

    told: Sequence[PastDeploy] = []
    if file is not None:
        told = [one for one in read_deploys(file, service.name) if since <= one.at < until]
    else:
        told = from_ledger(service, since=since)
    has_label = STRATEGIES[service.strategy].needs_previous_version
    if told and not has_label:
        return completed(told, None), None
    if not has_label:
        return [], None
    tell(f"looking for versions of {service.name} since {when(since)}")
    found, versions = from_source(service, since=since, until=until)
    return completed(told or found, versions), versions
