"""What `check` finds: the configuration's own mistakes, and what the world around it says. Nothing is changed."""

from collections.abc import Iterator
from pathlib import Path

from watchdog.app import load_config, parts_of, read_ledger_of
from watchdog.cli.check_ends import hook_findings, probe_findings, sink_findings
from watchdog.cli.check_services import migration_findings, mode_findings, service_findings
from watchdog.cli.check_sources import Seen, source_findings
from watchdog.cli.findings import Finding
from watchdog.config import Config
from watchdog.errors import ConfigError, LedgerError, LedgerOutdatedError, Problem, WatchdogError
from watchdog.ports import Tally


def check_file(path: Path) -> list[Finding]:
    """Return every finding about a configuration file; the file's own mistakes come alone."""
    try:
        config = load_config(path)
        parts = parts_of(config)
    except ConfigError as error:
        return [_mistake(problem) for problem in error.in_file(str(path)).problems]
    except WatchdogError as error:
        return [Finding("problem", str(path), error.message, "correct it")]
    seen = Seen()
    tallies, ledger = _record(config)
    return [
        *ledger,
        *service_findings(config),
        *hook_findings(config),
        *source_findings(config, parts, seen),
        *probe_findings(config, parts, seen.versions),
        *sink_findings(config),
        *migration_findings(config),
        *mode_findings(config, frozenset(seen.whole), tallies),
    ]


def _mistake(problem: Problem) -> Finding:
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return Finding("problem", ": ".join(part for part in (where, problem.key) if part), problem.message)


def _record(config: Config) -> tuple[list[Tally] | None, list[Finding]]:
    """What is on record of the services, and whether the ledger can be where it should be."""
    folder = None if config.daemon.is_shared else Path(config.daemon.ledger).resolve().parent
    if folder is not None and not folder.is_dir():
        remedy = f"run: mkdir -p {folder}"
        return None, [Finding("problem", "daemon.ledger", f"there is no folder {folder}", remedy)]
    found = list(_where(config))
    try:
        with read_ledger_of(config) as ledger:
            return (None if ledger is None else ledger.tallies()), found
    except LedgerOutdatedError as error:
        return None, [Finding("warning", "daemon.ledger", error.message)]
    except LedgerError as error:
        return None, [Finding("problem", "daemon.ledger", error.message)]


def _where(config: Config) -> Iterator[Finding]:
    if not config.daemon.is_shared:
        yield Finding("ok", "daemon.ledger", f"{Path(config.daemon.ledger).resolve()}")
