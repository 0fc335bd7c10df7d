"""The commands of those who deploy: tell that a version is live, wait for its outcome, look at deploys."""

import re
from collections.abc import Callable
from threading import Event
from typing import Annotated, Any

import typer

from analysis.sentence import count
from watchdog.cli.client import ApiClient, ClientError, deploy_path
from watchdog.cli.options import DEFAULT_URL, DeployId, Json, LedgerFile, TokenFile, Url
from watchdog.cli.output import (
    is_terminal,
    marked,
    print_json,
    print_lines,
    print_records,
    required,
    sentence_of,
    tell,
    when,
    word,
)
from watchdog.telling import lasting

EXIT_CODES = {
    "passed": 0,
    "rolled_back": 1,
    "not_recovered": 1,
    "smoke_failed": 1,
    "inconclusive": 2,
    "superseded": 2,
    "cancelled": 2,
    "not_needed": 2,
    "held": 3,
    "failed": 3,
    "unknown": 3,
}
UNDECIDED = 4
_POLL_S = 30.0
_RETRY_S = 2.0
_ARMS = ("baseline", "candidate")
_COLUMNS = ("ID", "SERVICE", "VERSION", "BEFORE", "STRATEGY", "OUTCOME", "DEPLOYED", "SENTENCE")
_HIT = {"exposed": "exposed", "affected": "affected", "total": "in total"}
_KEPT = ("ID", "OUTCOME", "DEPLOYED")  # the sentence names service and version, the other commands need the id


def register(app: typer.Typer) -> None:
    """Add the commands of this module, in the order of --help."""
    app.command()(trigger)
    app.command()(wait)
    app.command("list")(list_deploys)
    app.command()(show)


def trigger(
    *,
    service: Annotated[str, typer.Option(help="A service of the configuration.")],
    version: Annotated[str, typer.Option(help="The version that went live.")],
    previous_version: Annotated[str | None, typer.Option(help="What it replaces. Default: the last one known.")] = None,
    environment: Annotated[str | None, typer.Option(help="Default: the service's own.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="canary, flag, rolling, blue_green or direct. Default: the service's own.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="Traffic share of the new version, 0 to 1.")] = None,
    deploy_id: Annotated[
        str | None, typer.Option("--id", help="Your id of this deploy; without one, each call is a new deploy.")
    ] = None,
    deployed_at: Annotated[float | None, typer.Option(help="Unix seconds. Default: now.")] = None,
    instance: Annotated[
        list[str] | None, typer.Option(metavar="ARM=NAME", help="An instance of baseline or candidate; repeatable.")
    ] = None,
    migration: Annotated[
        str | None, typer.Option(help="What it does to the database: none, expand, contract, irreversible, unknown.")
    ] = None,
    safe_to_rollback_until: Annotated[
        float | None, typer.Option(help="Unix seconds after which going back may do harm.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Release train: deploys that name the same one end and go back together.")
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Json = False,
) -> None:
    """Tell the daemon that a version is live.

    Prints the deploy's id, then its sentence. Told again with the same --id and the same values, it is watched once.
    """
    asked: dict[str, Any] = {
        "id": deploy_id,
        "service": service,
        "version": version,
        "previous_version": previous_version,
        "environment": environment,
        "strategy": strategy,
        "share": share,
        "deployed_at": deployed_at,
        "instances": _instances(instance or []),
        "migration": migration,
        "safe_to_rollback_until": safe_to_rollback_until,
        "train": train,
    }
    body = {key: value for key, value in asked.items() if value not in (None, {})}
    watch = ApiClient.connect(url, token_file).post("/api/v1/deploys", body)
    if json:
        print_json(watch)
    else:
        print_lines([str(required(watch, "id")), sentence_of(watch)])


def wait(
    deploy_id: DeployId,
    *,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long at most.")] = 3600.0,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Wait until a deploy has an outcome.

    Exit code: 0 passed; 1 rolled_back, not_recovered, smoke_failed; 2 inconclusive, superseded, cancelled, not_needed;
    3 held, failed, unknown; 4 usage or connection error, or no outcome in time.
    """
    client = ApiClient.connect(url, token_file)
    watch = follow(client, client.whole(deploy_id), timeout_s=timeout, pause=Event().wait)
    outcome = watch.get("outcome")
    if json:
        print_json(watch)
    else:
        print_lines([sentence_of(watch)])
    if outcome is None:
        tell(f"error: no outcome within {timeout:g} s, {deploy_id} is still {word(watch)}; wait again, or longer")
        return UNDECIDED
    return EXIT_CODES.get(str(outcome), UNDECIDED)


def list_deploys(
    *,
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state, such as WATCHING or HELD.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 20,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ledger: LedgerFile = None,
    json: Json = False,
) -> None:
    """List deploys, newest first."""
    if ledger is not None:
        from watchdog.cli.ledger_file import read_list

        watches = read_list(ledger, service=service, state=state, limit=limit)
    else:
        client = ApiClient.connect(url, token_file)
        watches = required(client.get("/api/v1/deploys", service=service, state=state, limit=limit), "deploys")
    if not watches and (service is not None or state is not None):
        of = f" of {service!r}" if service is not None else ""
        tell(f"no deploy{of}{f' in the state {state.upper()}' if state else ''} is on record")
    if json:
        print_json({"deploys": watches})
    else:
        print_records(_COLUMNS, [_row(watch) for watch in watches], keep=_KEPT)


def show(
    deploy_id: DeployId,
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ledger: LedgerFile = None,
    json: Json = False,
) -> None:
    """Show one deploy.

    Its sentence, its timeline, how many requests were hit and how long recovery took.
    """
    if ledger is not None:
        from watchdog.cli.ledger_file import read_one

        watch = read_one(ledger, deploy_id)
    else:
        client = ApiClient.connect(url, token_file)
        watch = client.get(deploy_path(client.whole(deploy_id)))
    if json:
        print_json(watch)
    else:
        print_lines(_told(watch))


def follow(client: ApiClient, deploy_id: str, *, timeout_s: float, pause: Callable[[float], object]) -> dict[str, Any]:
    """Return the watch once it has an outcome, or as it stands when the time is up.

    The time is what the daemon took to answer and what was paused; a daemon that restarts meanwhile is asked again.
    """
    left_s = timeout_s
    said = ""
    watch: dict[str, Any] | None = None
    while watch is None or left_s > 0:
        try:
            watch = client.get(deploy_path(deploy_id), wait_s=max(0.0, min(_POLL_S, left_s)))
        except ClientError as error:
            if left_s <= 0 or error.status not in (None, 429, 503) or watch is None:
                raise
            pause(_RETRY_S)
            left_s -= _RETRY_S
            continue
        if watch.get("outcome") is not None:
            return watch
        if sentence_of(watch) != said:
            said = sentence_of(watch)
            tell(said)
        spent_s = watch.took_s
        if spent_s < _RETRY_S:  # a daemon that does not hold the request must not be asked without pause
            pause(min(_RETRY_S, max(0.0, left_s - spent_s)))
            spent_s = _RETRY_S
        left_s -= spent_s
    return watch


def _instances(pairs: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        arm, _, name = pair.partition("=")
        if arm not in _ARMS or not name or re.search(r"\s", name):
            raise typer.BadParameter(
                f"{pair!r} is not ARM=NAME with an arm of {' or '.join(_ARMS)}", param_hint="--instance"
            )
        found.setdefault(arm, []).append(name)
    return found


def _row(watch: dict[str, Any]) -> list[str]:
    texts = [watch.get(key) or "-" for key in ("id", "service", "version", "previous_version", "strategy")]
    outcome = marked(watch) if is_terminal() else word(watch)
    return [*map(str, texts), outcome, when(watch.get("deployed_at")), sentence_of(watch)]


def _told(watch: dict[str, Any]) -> list[str]:
    pairs = {
        "deploy": f"{watch.get('service')} {watch.get('version')} in {watch.get('environment')}",
        "before": watch.get("previous_version"),
        "strategy": f"{watch.get('strategy')}, mode {watch.get('mode')}",
        "outcome": marked(watch),
        "verdict": " ".join(str(watch[key]) for key in ("verdict", "reason", "metric") if watch.get(key)),
        "held by": watch.get("hold") if word(watch).lower() == "held" else None,  # who held it once is over with it
        "seen after": _seconds(watch.get("time_to_detect_s")),
        "recovered in": _seconds(watch.get("time_to_recover_s")),
        "requests": ", ".join(f"{count(watch.get(f'{key}_requests') or 0)} {told}" for key, told in _HIT.items()),
    }
    lines = [sentence_of(watch), ""]
    lines += [f"  {name:<13}{value}" for name, value in pairs.items() if value]
    steps = watch.get("recovery_steps") or []
    lines += ["", "  What to do", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))] if steps else []
    events = watch.get("timeline") or []
    lines += ["", *(f"  {when(event.get('at'))}  {event.get('text')}" for event in events)] if events else []
    return lines


def _seconds(value: float | None) -> str | None:
    return None if value is None else lasting(value)
