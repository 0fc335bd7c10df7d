"""`verify-audit`: whether the record of who did what is as it was written."""

import re
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines
from watchdog.errors import WatchdogError

BROKEN = 1
_HASH = re.compile(r"[0-9a-f]{64}")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("verify-audit")(verify_audit)


def verify_audit(
    *,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="The ledger; a daemon may be running on it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Or the configuration that names it.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="A head that was written down earlier: it must occur.")
    ] = None,
    json: Json = False,
) -> int:
    """Check the audit's chain of hashes.

    Each row carries the hash of the one before it, so that an edited, deleted or inserted row shows. Rows cut off
    at the end show only against a head that was written down elsewhere. Exit status 1: the chain is broken.
    """
    if head is not None and _HASH.fullmatch(head) is None:
        raise WatchdogError("--head expects a head as this command prints it: 64 hex digits", permanent=True)
    from watchdog.app import audit_report, audit_report_of, load_config

    if ledger is not None and config is None:
        report = audit_report(ledger, head=head)
    elif config is not None and ledger is None:
        report = audit_report_of(load_config(config), head=head)
    else:
        raise WatchdogError("name the ledger by --ledger FILE, or the configuration by --config FILE", permanent=True)
    if json:
        print_json({"rows": report.rows, "head": report.head, "problem": report.problem})
    elif report.problem is not None:
        print_lines([f"the audit is not as it was written, after {report.rows} good rows: {report.problem}"])
    else:
        where = f"--ledger {quote(str(ledger))}" if config is None else f"--config {quote(str(config))}"
        kept = f"rows cut off later show with: deploy-watchdog verify-audit {where} --head {report.head}"
        print_lines([f"{report.rows} audit rows, each as it was written", kept])
    return 0 if report.problem is None else BROKEN
