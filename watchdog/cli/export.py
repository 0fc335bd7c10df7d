"""`export`: a ledger's deploys as recorded cases, for `backtest`, `calibrate` and notebooks."""

from pathlib import Path
from typing import Annotated

import typer

from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines
from watchdog.errors import WatchdogError


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(export)


def export(
    *,
    ledger: Annotated[
        Path, typer.Option("--ledger", metavar="FILE", help="The ledger; a daemon may be running on it.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    deploy: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this deploy; repeatable.")] = None,
    json: Json = False,
) -> None:
    """Write recorded deploys.

    Each deploy that was judged becomes a case: the samples, facts and settings that its last verdict rests on, and what
    was said. `backtest --cases DIR` says the same again. Labels become the truth that backtest scores against.
    """
    from analysis.cases import write_cases
    from watchdog.app import read_ledger
    from watchdog.export import recordings

    opened = read_ledger(ledger)
    try:
        written = write_cases(out, recordings(opened, service=service, only=deploy or ()))
    except FileExistsError as error:
        raise WatchdogError(f"{error}; name a new or an empty folder", permanent=True) from None
    except OSError as error:
        raise WatchdogError(f"{out} cannot be written: {error}", permanent=True) from None
    finally:
        opened.close()
    if json:
        print_json({"folder": str(out), "cases": written})
    else:
        many = "1 deploy" if written == 1 else f"{written} deploys"
        print_lines([f"{many} written to {out}; to judge again: deploy-watchdog backtest --cases {out} --json -"])
