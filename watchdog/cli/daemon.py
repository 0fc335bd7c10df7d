"""The commands around the daemon itself: run it, check its configuration, see it at work."""

from pathlib import Path
from typing import Annotated

import typer

from watchdog.cli.options import ConfigFile, Json
from watchdog.cli.output import print_json, print_lines
from watchdog.demo.scenarios import SCENARIOS  # a table of plain values, for --help
from watchdog.errors import ConfigError, WatchdogError

DEFAULT_CONFIG = Path("config.toml")
BROKEN = 4


def register(app: typer.Typer) -> None:
    """Add the commands of this module, in the order of --help."""
    for command in (run, check, demo):
        app.command()(command)


def run(
    *,
    config: ConfigFile = DEFAULT_CONFIG,
    json: Annotated[bool, typer.Option("--json", help="Log JSON to stderr, one object a line.")] = False,
) -> None:
    """Run the daemon, until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again: one with a mistake is told in the log and in /metrics, and changes nothing.
    """
    from watchdog import app, running
    from watchdog.cli.logs import log_to_stderr

    settings = app.load_config(config)
    log_to_stderr(as_json=json)
    try:
        running.run(settings, lambda: app.load_config(config))
    except ConfigError as error:  # found while the parts were built, which do not know the file
        raise error.in_file(str(config)) from None


def check(*, config: ConfigFile = DEFAULT_CONFIG, json: Json = False) -> int:
    """Name every mistake of a configuration.

    Then ask every source once: what it brings of each version, how often, and by which clock; ask the probes of the
    rollback hooks, look for the hooks' programs, and knock at the sinks; and say which mode the evidence supports. No
    hook is run, nobody is told, nothing is changed. Exit code: 0 ready, if need be with warnings; 4 something must be
    corrected, such as a service none of whose metrics brings a sample.
    """
    from watchdog.cli.checking import check_file

    findings = check_file(config)
    broken = [finding for finding in findings if finding.is_problem]
    if json:
        print_json({"ok": not broken, "config": str(config), "findings": [finding.as_json() for finding in findings]})
    else:
        print_lines(finding.line() for finding in findings)
        warnings = sum(finding.level == "warning" for finding in findings)
        ready = "ready" if not warnings else f"ready, with {warnings} warning{'' if warnings == 1 else 's'}"
        print_lines([f"{config}: {f'{len(broken)} to correct' if broken else ready}"])
    return BROKEN if broken else 0


def demo(
    *,
    scenario: Annotated[
        str, typer.Option(metavar="NAME", help=f"Which story to show: {', '.join(SCENARIOS)}. --list tells them.")
    ] = "bad-canary",
    list_scenarios: Annotated[bool, typer.Option("--list", help="List the scenarios.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A new or empty folder to leave ledger, configuration and logs in."),
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Leave shop, daemon and pages up until Ctrl-C.")] = False,
    json: Json = False,
) -> int:
    """Watch a bad version being rolled back.

    A small shop with real traffic on this machine; the new version is noticed, rolled back once and explained. With
    --json, stdout ends with one JSON object on one line. Where SLACK_BOT_TOKEN is set, the messages really go to Slack,
    to SLACK_CHANNEL or #deploys. Exit code: 0 it ended as the scenario says; 1 it did not; 4 it could not be run.
    """
    if list_scenarios:
        stories = [{"scenario": s.name, "outcome": s.outcome, "story": s.story} for s in SCENARIOS.values()]
        if json:
            print_json(stories)
        else:
            print_lines(f"{story['scenario']:<24}{story['outcome']:<14}{story['story']}" for story in stories)
        return 0
    if scenario not in SCENARIOS:
        raise WatchdogError(f"there is no scenario {scenario!r}; expected one of {', '.join(SCENARIOS)}")
    from watchdog.demo.runner import run as run_demo

    return run_demo(scenario, json_output=json, keep=keep, stay=stay)
