"""What is read beside a running daemon: its ledger, and recorded cases."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from analysis.cases import BadCasesError, Case, read_cases, read_descriptions
from watchdog.config import Config, read_secret
from watchdog.errors import SourceError
from watchdog.ledger import ChainReport, open_readonly, verify_chain
from watchdog.ports import Ledger


def read_ledger(path: Path) -> Ledger:
    """Open a ledger for reading beside a running daemon."""
    return open_readonly(path)


@contextmanager
def read_ledger_of(config: Config, env: Mapping[str, str] | None = None) -> Iterator[Ledger | None]:
    """A configuration's ledger, for reading; None where there is none yet (LedgerError)."""
    daemon, env = config.daemon, os.environ if env is None else env
    if not daemon.is_shared and not Path(daemon.ledger).exists():
        yield None
        return
    password = read_secret(daemon.ledger_password_env, daemon.ledger_password_file, env, config.base)
    ledger = open_readonly(daemon.ledger, password=password)
    try:
        yield ledger
    finally:
        ledger.close()


def audit_report(address: Path | str, *, head: str | None = None, password: SecretStr | None = None) -> ChainReport:
    """Whether each row of a ledger's audit is as it was written; head: a hash that must occur (LedgerError)."""
    ledger = open_readonly(address, password=password)
    try:
        return verify_chain(ledger.audit_chain(), head=head)
    finally:
        ledger.close()


def audit_report_of(config: Config, *, head: str | None = None, env: Mapping[str, str] | None = None) -> ChainReport:
    """The same of a configuration's ledger (LedgerError)."""
    daemon, env = config.daemon, os.environ if env is None else env
    password = read_secret(daemon.ledger_password_env, daemon.ledger_password_file, env, config.base)
    return audit_report(daemon.ledger, head=head, password=password)


def recorded_cases(folder: Path) -> Iterator[Case]:
    """Every recorded deploy of a case folder (SourceError)."""
    try:
        yield from read_cases(folder)
    except BadCasesError as error:
        raise SourceError(str(error), permanent=True) from None


def recorded_descriptions(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What cases.json says of every case, the truth included (SourceError)."""
    try:
        return read_descriptions(folder)
    except BadCasesError as error:
        raise SourceError(str(error), permanent=True) from None
