"""What the hooks share that bring a wanted state about: "`to` has this share of the traffic", never "undo".

Running one twice does no harm, so all of them are idempotent. One attempt at a time has the turn for a service and
environment, and the highest fence seen is kept: a slow promote that comes late is refused after the rollback.
"""

import fcntl
import hashlib
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from watchdog.errors import HookError
from watchdog.hooks.attempt_lock import AttemptLock
from watchdog.hooks.process import printable
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer
from watchdog.signed_http import reason

_log = logging.getLogger(__name__)

WAIT_S = 0.02  # between two looks at something that others hold or still do


class HookEndedError(HookError):
    """The attempt, or the question, is over: how it ended and why."""

    def __init__(self, outcome: HookOutcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


def impossible(why: str) -> NoReturn:
    """End the attempt: as things stand it cannot be done."""
    raise HookEndedError(HookOutcome.FAILED, why)


def again_later(why: str) -> NoReturn:
    """End the attempt: another one may well succeed."""
    raise HookEndedError(HookOutcome.RETRY, why)


def unclear(why: str) -> NoReturn:
    """End the attempt: nobody can tell what it did."""
    raise HookEndedError(HookOutcome.TIMED_OUT, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The state to bring about: `coming` has `share` (0..1) of the traffic of both, `leaving` has the rest."""

    coming: str
    leaving: str
    share: float


def wanted(call: HookCall) -> Wanted:
    """A rollback and a switch give everything to `to`; a promote gives it `params["share"]`, no more and no less."""
    if call.kind in (ActionKind.ROLLBACK, ActionKind.SWITCH):
        return Wanted(coming=call.to_version, leaving=call.from_version, share=1.0)
    if call.kind is not ActionKind.PROMOTE:
        impossible(f"this kind of hook cannot do a {call.kind.value}")
    share = call.params.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float) or not math.isfinite(share) or not 0 <= share <= 1:
        impossible(f"a promote needs params.share between 0 and 1, not {share!r}")
    return Wanted(coming=call.to_version, leaving=call.from_version, share=float(share))


@dataclass(frozen=True, slots=True)
class Span:
    """The time a call may take, on the monotonic clock."""

    clock: Clock
    ends_at: float

    def left(self) -> float:
        """Seconds left; ends the attempt as unclear where there are none."""
        seconds = self.ends_at - self.clock.monotonic()
        if seconds <= 0:
            unclear("the time was over before an answer was there")
        return seconds

    def part(self, of: int) -> "Span":
        """An equal part of what is left, for the first of so many that follow one another: none eats the others'."""
        return Span(self.clock, self.clock.monotonic() + self.left() / of)

    def wait(self) -> None:
        """Let a moment pass."""
        self.clock.sleep(min(WAIT_S, self.left()))


class WantedStateHook(ABC):
    """Port `Hook`, its optional `share` and `preflight`, around four questions that each kind answers."""

    has_probe = True
    idempotent = True
    acts_elsewhere = False

    def __init__(self, name: str, options: Any, clock: Clock, env: Mapping[str, str], state_dir: Path) -> None:
        self.name = name
        self._clock = clock
        self._env = env
        self._state_dir = state_dir
        self._lock = AttemptLock(state_dir)
        self._timeout_s: float = options.timeout_s
        self._probe_timeout_s: float = options.probe_timeout_s

    @property
    def timeout_s(self) -> float:
        return self._timeout_s

    # --- what a kind answers; each may raise HookEndedError -------------------------------------------------

    @abstractmethod
    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:
        """Do it and say what was done. `lock` is the attempt's descriptor, for programs that may outlive us."""

    @abstractmethod
    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        """How production stands to the wanted state."""

    @abstractmethod
    def current_share(self, call: HookCall, span: Span) -> float | None:
        """The share of the traffic that `to` is set to have, None where it cannot be said."""

    @abstractmethod
    def hindrance(self, call: HookCall, span: Span) -> str | None:
        """Why the action could not be carried out now, None where nothing is in its way. Changes nothing."""

    # --- the port -----------------------------------------------------------------------------------------

    def run(self, call: HookCall) -> HookResult:
        began = self._clock.monotonic()
        span = Span(self._clock, began + self._timeout_s)
        try:
            with self._attempt(call) as lock, self._turn(call, span):
                outcome, said = HookOutcome.OK, self.bring_about(call, span, lock)
        except Exception as error:  # noqa: BLE001 (else the action would stay RUNNING until its deadline)
            ended = self._ended(error)
            outcome, said = ended.outcome, ended.message
        return HookResult(outcome=outcome, output=_plain(said), duration_s=self._clock.monotonic() - began)

    def probe(self, call: HookCall) -> ProbeAnswer:
        try:
            return self.standing(call, self._question())
        except Exception as error:  # noqa: BLE001 (else what the attempt came to would not be recorded)
            self._ended(error)
            return ProbeAnswer.UNKNOWN

    def share(self, call: HookCall) -> float | None:
        try:
            return self.current_share(call, self._question())
        except Exception as error:  # noqa: BLE001 (a share that cannot be read is no reason to break off)
            self._ended(error)
            return None

    def preflight(self, call: HookCall) -> str | None:
        try:
            told = self.hindrance(call, self._question())
        except Exception as error:  # noqa: BLE001 (it is what would be in the way)
            told = self._ended(error).message
        return None if told is None else _plain(told)

    def _ended(self, error: Exception) -> HookEndedError:
        """How it ended. What was not raised on purpose is a bug of ours, or damage: logged whole, told by its kind."""
        if isinstance(error, HookEndedError):
            return error
        _log.error("hook %s broke", self.name, exc_info=error)
        return HookEndedError(HookOutcome.FAILED, f"the hook broke: {reason(error)}")

    def still_running(self, action_id: str) -> bool:
        return self._lock.is_held(action_id)

    # --- one at a time, the newest wins -------------------------------------------------------------------

    def _question(self) -> Span:
        return Span(self._clock, self._clock.monotonic() + self._probe_timeout_s)

    @contextmanager
    def _attempt(self, call: HookCall) -> Iterator[int]:
        try:
            lock = self._lock.acquire(call.action_id)
        except OSError as error:
            raise HookEndedError(HookOutcome.NOT_STARTED, f"no lock file: {error}") from error
        if lock is None:
            unclear("a former attempt of this action is still running")
        try:
            yield lock
        finally:
            os.close(lock)

    @contextmanager
    def _turn(self, call: HookCall, span: Span) -> Iterator[None]:
        place = hashlib.sha256(f"{call.service}\0{call.environment}".encode("utf-8", "replace")).hexdigest()
        with locked(self._state_dir / f"{place}.fence", span) as fd:
            newest = int(os.pread(fd, 32, 0).strip() or b"0")
            if call.fence < newest:
                impossible(f"fence {call.fence} is older than {newest}: somebody newer has had the turn")
            os.pwrite(fd, f"{call.fence:<31d}\n".encode(), 0)
            os.fsync(fd)
            yield


def _plain(said: str) -> str:
    return printable(said.encode("utf-8", "replace"))


@contextmanager
def locked(path: Path, span: Span) -> Iterator[int]:
    """An open descriptor of `path` under an exclusive lock; ends the attempt where that cannot be had in time."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HookEndedError(HookOutcome.NOT_STARTED, f"no lock file: {error}") from error
    try:
        while not _try_lock(fd):
            if span.ends_at <= span.clock.monotonic() + WAIT_S:
                raise HookEndedError(HookOutcome.NOT_STARTED, f"{path.name} was held by somebody else all the time")
            span.wait()
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
