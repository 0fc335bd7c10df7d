"""The database: deploys, samples, verdicts, actions, outbox, audit."""

from watchdog.ledger.chain import ChainedEntry, ChainReport, verify_chain
from watchdog.ledger.open import open_ledger, open_readonly
from watchdog.ledger.sql import SqlLedger

__all__ = ["ChainReport", "ChainedEntry", "SqlLedger", "open_ledger", "open_readonly", "verify_chain"]
