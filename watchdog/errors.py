"""Every error the daemon raises on purpose. `permanent` alone decides whether a retry makes sense."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")


class WatchdogError(Exception):
    """Base of all errors that carry a sentence for the user."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file, told as `file:line: key: what is wrong, what was expected`.

    file: "" where whoever found it does not know the file.
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else self.file
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigError(WatchdogError):
    """All mistakes of a configuration at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems), permanent=True)
        self.problems = problems

    def in_file(self, file: str) -> "ConfigError":
        """The same mistakes, named after this file where nobody knew the file."""
        return ConfigError([replace(problem, file=problem.file or file) for problem in self.problems])


class SourceError(WatchdogError):
    """A source could not be asked at all (bad options, unusable file)."""


class HookError(WatchdogError):
    """A hook could not be started."""


class SinkError(WatchdogError):
    """A message could not be delivered. Permanent: it never will be (revoked token, unknown channel).

    `retry_after_s` is the receiver's own wish, where it named one.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message, permanent=permanent)
        self.retry_after_s = retry_after_s


class LedgerError(WatchdogError):
    """The ledger cannot be used as it is."""


class LedgerLockedError(LedgerError):
    """Another process holds this ledger; the message names it."""


class LedgerCorruptError(LedgerError):
    """The ledger is damaged; the message says how to restore it. Never replaced silently."""


class LedgerOutdatedError(LedgerError):
    """The ledger has another schema than this program; the daemon brings it up to date when it starts."""


class LedgerRefusedError(LedgerError):
    """What was to be written contradicts what is there: the fault of that write, not of the ledger."""


def concerns_all(error: Exception) -> bool:
    """Whether it is the ledger that fails, and not what one writer wants of it."""
    return isinstance(error, LedgerError) and not isinstance(error, LedgerRefusedError)


class NotFoundError(WatchdogError):
    """No such service, deploy or action."""


class ConflictError(WatchdogError):
    """The request contradicts what is already recorded."""


class RefusedError(WatchdogError):
    """The request is understood and not allowed in this state."""


class AlreadyLiveError(RefusedError):
    """A deploy of the version that is live: nothing was deployed. deploy_id: the id that it would have had."""

    def __init__(self, message: str, deploy_id: str) -> None:
        super().__init__(message, permanent=True)
        self.deploy_id = deploy_id


def tried(step: Callable[[], T]) -> T | Exception:
    """What it gives or what it raises, for whoever works several things off and answers each for itself."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 (raised where it belongs)
        return error
