"""Hook `command`: runs a program of yours. No shell, no operands in argv; everything is told by env and stdin."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.hooks.attempt_lock import AttemptLock
from watchdog.hooks.document import encode, environment
from watchdog.hooks.process import Finished, Program, run
from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer

ALWAYS_PASSED = ("PATH", "HOME", "LANG", "TZ")
OUTCOMES = {0: HookOutcome.OK, 75: HookOutcome.RETRY}  # 75 is EX_TEMPFAIL; anything else failed
ANSWERS = {
    0: ProbeAnswer.APPLIED,
    3: ProbeAnswer.NOT_APPLIED,
    4: ProbeAnswer.PARTIAL,
    5: ProbeAnswer.MOVED_ON,
}


class CommandOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: tuple[str, ...] = Field(
        min_length=1,
        description='Program and its fixed arguments, e.g. ["/etc/watchdog/rollback"]. There is no shell; the '
        "action comes in ACTION_ID, KIND, ATTEMPT, FENCE, SERVICE, ENVIRONMENT, DEPLOY_ID, FROM, TO and PARAM_…, "
        "and as one JSON object on stdin.",
    )
    probe_argv: tuple[str, ...] = Field(
        (),
        description="Program that asks production whether the action is in effect: exit 0 applied, 3 not applied, "
        "4 partly, 5 neither version is live (hands off), anything else unknown. Empty: no probe.",
    )
    timeout_s: float = Field(120.0, gt=0, le=3600, description="Longest run; then TERM and KILL for its group.")
    probe_timeout_s: float = Field(10.0, gt=0, le=600, description="Longest run of the probe.")
    grace_s: float = Field(5.0, ge=0, le=60, description="Time between TERM and KILL.")
    idempotent: bool = Field(
        False,
        description="True only if running it twice with the same ACTION_ID does no harm; allows blind retries.",
    )
    pass_env: tuple[str, ...] = Field(
        (), description=f"Variables of the daemon the program may see, beside {', '.join(ALWAYS_PASSED)}."
    )
    cwd: str = Field("", description="Working directory. Empty: the daemon's.")

    @field_validator("argv", "probe_argv", mode="before")
    @classmethod
    def _no_shell_line(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError('expected a list such as ["program", "argument"]; there is no shell to read a line')  # noqa: TRY004 (pydantic collects ValueErrors)
        return value

    @field_validator("argv", "probe_argv")
    @classmethod
    def _names_a_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0]:
            raise ValueError("the first item must name a program")
        if any("\0" in item for item in value):
            raise ValueError("arguments may not hold NUL characters")
        return value


class CommandHook:
    """Exit 0 is done, 75 asks for another try, anything else failed; a program that is missing was never started."""

    kind: ClassVar[str] = "command"

    Options: ClassVar[type[BaseModel]] = CommandOptions

    def __init__(
        self, name: str, options: CommandOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._env = {key: env[key] for key in (*ALWAYS_PASSED, *options.pass_env) if key in env}
        self._lock = AttemptLock(state_dir)

    @property
    def has_probe(self) -> bool:
        return bool(self._options.probe_argv)

    @property
    def acts_elsewhere(self) -> bool:
        return False

    @property
    def idempotent(self) -> bool:
        return self._options.idempotent

    @property
    def timeout_s(self) -> float:
        """Longest time a run takes until its group is killed: the deadline and the grace after it."""
        return self._options.timeout_s + self._options.grace_s

    def run(self, call: HookCall) -> HookResult:
        try:
            lock = self._lock.acquire(call.action_id)
        except OSError as error:
            return _not_started(f"no lock file: {error}")
        if lock is None:
            return HookResult(outcome=HookOutcome.TIMED_OUT, output="a former attempt of this action is still running")
        try:
            return _result(self._execute(self._options.argv, call, self._options.timeout_s, fds=(lock,)))
        except (OSError, ValueError) as error:  # ValueError: NUL in a variable
            return _not_started(f"{self._options.argv[0]}: {error}")
        finally:
            os.close(lock)

    def probe(self, call: HookCall) -> ProbeAnswer:
        if not self._options.probe_argv:
            return ProbeAnswer.UNKNOWN
        try:
            ended = self._execute(self._options.probe_argv, call, self._options.probe_timeout_s)
        except (OSError, ValueError):
            return ProbeAnswer.UNKNOWN
        if ended.timed_out or ended.exit_code is None:
            return ProbeAnswer.UNKNOWN
        return ANSWERS.get(ended.exit_code, ProbeAnswer.UNKNOWN)

    def still_running(self, action_id: str) -> bool:
        return self._lock.is_held(action_id)

    def _execute(self, argv: Sequence[str], call: HookCall, timeout_s: float, *, fds: tuple[int, ...] = ()) -> Finished:
        program = Program(
            argv=argv,
            env={**self._env, **environment(call)},
            cwd=self._options.cwd or None,
            stdin=encode(call),
            fds=fds,
        )
        return run(program, clock=self._clock, timeout_s=timeout_s, grace_s=self._options.grace_s)


def _result(ended: Finished) -> HookResult:
    if ended.timed_out or ended.exit_code is None:
        outcome = HookOutcome.TIMED_OUT
    else:
        outcome = OUTCOMES.get(ended.exit_code, HookOutcome.FAILED)
    return HookResult(outcome=outcome, exit_code=ended.exit_code, output=ended.output, duration_s=ended.duration_s)


def _not_started(why: str) -> HookResult:
    return HookResult(outcome=HookOutcome.NOT_STARTED, output=why)
