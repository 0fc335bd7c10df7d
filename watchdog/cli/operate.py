"""The commands of operators: decide about one deploy, or pull the brake for all."""

import typer

from watchdog.cli.client import ApiClient, deploy_path
from watchdog.cli.options import DEFAULT_URL, DeployId, Json, TokenFile, Url, Why
from watchdog.cli.output import print_json, print_lines, sentence_of
from watchdog.errors import WatchdogError


def register(app: typer.Typer) -> None:
    """Add the commands of this module, in the order of --help."""
    for command in (rollback, approve, deny, cancel, migrate_down, pause, resume):
        app.command()(command)


def rollback(
    deploy_id: DeployId, *, why: Why, url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False
) -> None:
    """Roll back now, whatever the metrics say.

    Only while the deploy is watched or held.
    """
    _decide("rollback", deploy_id, _reason(why), url, token_file, json=json)


def approve(
    deploy_id: DeployId, *, why: Why = "", url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False
) -> None:
    """Let a held rollback, or the next step, go ahead."""
    _decide("approve", deploy_id, why, url, token_file, json=json)


def deny(
    deploy_id: DeployId, *, why: Why = "", url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False
) -> None:
    """Refuse a held rollback, or the next step.

    Things stay as they are: a held deploy keeps the new version, a canary its share.
    """
    _decide("deny", deploy_id, why, url, token_file, json=json)


def cancel(
    deploy_id: DeployId, *, why: Why = "", url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False
) -> None:
    """Stop watching a deploy.

    A rollback that has not been started is dropped.
    """
    _decide("cancel", deploy_id, why, url, token_file, json=json)


def migrate_down(
    deploy_id: DeployId, *, why: Why = "", url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False
) -> None:
    """Take the migration of a held deploy back.

    By the service's migrate_down_hook. The code goes back only when you approve the rollback.
    """
    _decide("migrate-down", deploy_id, why, url, token_file, json=json)


def pause(*, why: Why, url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False) -> None:
    """Kill switch on: nothing is rolled back.

    No rollback, promotion or switch is started, not by an operator either. What runs already is finished, and watching
    goes on.
    """
    answer = ApiClient.connect(url, token_file).post("/api/v1/pause", {"why": _reason(why)})
    if json:
        print_json(answer)
    else:
        print_lines(["paused: no action is started until `deploy-watchdog resume`; watching goes on"])


def resume(*, why: Why = "", url: Url = DEFAULT_URL, token_file: TokenFile = None, json: Json = False) -> None:
    """Kill switch off.

    What is held stays held until somebody approves or denies it.
    """
    answer = ApiClient.connect(url, token_file).post("/api/v1/resume", {"why": why})
    if json:
        print_json(answer)
    else:
        print_lines(["resumed: actions may be started again"])


def _reason(why: str) -> str:
    """What an audit can be read by: a blank one says nothing (WatchdogError)."""
    if not why.strip():
        raise WatchdogError("--why is empty: say the reason in a few words, it is what the audit and the team are told")
    return why


def _decide(verb: str, deploy_id: str, why: str, url: str, token_file: TokenFile, *, json: bool) -> None:
    client = ApiClient.connect(url, token_file)
    watch = client.post(deploy_path(client.whole(deploy_id), verb), {"why": why})
    if json:
        print_json(watch)
    else:
        print_lines([sentence_of(watch)])
