"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8811"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")]
Url = Annotated[
    str, typer.Option("--url", envvar="DEPLOY_WATCHDOG_URL", metavar="URL", help="Where the daemon listens.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="File with the API token; or set DEPLOY_WATCHDOG_TOKEN, never an argument."
    ),
]
DeployId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of the deploy; of one that the daemon gave, six signs are enough.", show_default=False
    ),
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the audit and the team.")]
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", metavar="FILE", help="Read this ledger itself; no daemon is asked.")
]
