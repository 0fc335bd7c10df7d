"""The commands of analysts: say what a verdict was worth, and see how good verdicts are."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from watchdog.cli.client import ApiClient, deploy_path
from watchdog.cli.options import DEFAULT_URL, DeployId, Json, LedgerFile, TokenFile, Url
from watchdog.cli.output import print_json, print_lines, print_table, required, tell

_COLUMNS = (
    "",
    "JUDGED",
    "ALARMS",
    "LABELLED",
    "PRECISION",
    "RECALL",
    "FALSE ALARMS",
    "FALSE ROLLBACKS",
    "PROMISED",
    "",
)


class LabelWord(StrEnum):
    """As `watchdog.model.LabelKind`, which would cost --help its speed; a test holds them equal."""

    RIGHT = "right"
    FALSE_ALARM = "false_alarm"
    MISSED = "missed"
    UNCLEAR = "unclear"


class Period(StrEnum):
    MONTH = "month"
    WEEK = "week"


def register(app: typer.Typer) -> None:
    """Add the commands of this module, in the order of --help."""
    app.command()(label)
    app.command()(quality)


def label(
    deploy_id: DeployId,
    word: Annotated[LabelWord, typer.Argument(metavar="LABEL", help="right, false_alarm, missed or unclear.")],
    *,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who read it later.")] = "",
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Say what a verdict was worth.

    The newest label counts; the audit keeps all.
    """
    body = {"label": word.value, "note": note}
    client = ApiClient.connect(url, token_file)
    known = client.whole(deploy_id)
    watch = client.post(deploy_path(known, "label"), body)
    if json:
        print_json(watch)
    else:
        print_lines([f"{known}: labelled {word.value}" + (f", {note}" if note else "")])


def quality(
    *,
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    by: Annotated[Period, typer.Option(help="Over time in months or weeks.")] = Period.MONTH,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ledger: LedgerFile = None,
    json: Json = False,
) -> None:
    """Show how good verdicts were, by their labels.

    Precision, recall and false-rollback rate with exact 95 % intervals, by service and over time, against the promised
    budget. A deploy that was called HEALTHY counts as healthy until somebody labels it missed.
    """
    if ledger is not None:
        from watchdog.cli.ledger_file import read_quality

        found = read_quality(ledger, service=service, by=by.value)
    else:
        found = ApiClient.connect(url, token_file).get("/api/v1/quality", service=service, by=by.value)
    if service is not None and not required(found, "services"):
        tell(f"no deploy of {service!r} is on record")
    if json:
        print_json(found)
        return
    rows = [_row("all", required(found, "all"))]
    rows += [_row(each["service"], each) for each in required(found, "services")]
    rows += [_row(f"{by.value} of {each['period']}", each) for each in required(found, "periods")]
    print_table(_COLUMNS, rows)


def _row(name: str, told: Mapping[str, Any]) -> list[str]:
    alarms = f"{told['alarms']}"
    if told["unlabelled_alarms"]:
        alarms += f" ({told['unlabelled_alarms']} without a label)"
    judged = f"{told['judged']}"
    if told.get("inconclusive"):  # an older daemon does not tell
        judged += f" (and {told['inconclusive']} inconclusive)"
    counted = [judged, alarms, str(told["labelled"])]
    shares = ("precision", "recall", "false_alarm_rate", "false_rollback_rate")
    budget = "-" if told["budget"] is None else f"{told['budget']:.2%}"
    return [name, *counted, *(share_words(told[key]) for key in shares), budget, str(told["standing"])]


def share_words(share: Mapping[str, Any]) -> str:
    """Return a share as people read it: `1 of 120 (0.8 %, 0.0–4.6 %)`."""
    if share["value"] is None:
        return "-"
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{share['hits']} of {share['of']} ({100 * share['value']:.1f} %, {low:.1f}–{high:.1f} %)"
