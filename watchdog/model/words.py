"""Words of the daemon: what may be said of a watch, an action, a decision, and which word may follow which."""

from enum import StrEnum


class Strategy(StrEnum):
    DIRECT = "direct"
    ROLLING = "rolling"
    BLUE_GREEN = "blue_green"
    CANARY = "canary"
    FLAG = "flag"


class Mode(StrEnum):
    """How far the watchdog may go for a service, in rising order of trust."""

    OBSERVE = "observe"
    NOTIFY = "notify"
    APPROVE = "approve"
    AUTO = "auto"


class State(StrEnum):
    """Where a watch stands. Persisted; every transition is audited."""

    SMOKE = "SMOKE"
    SMOKE_FAILED = "SMOKE_FAILED"
    WATCHING = "WATCHING"
    PASSED = "PASSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    SUPERSEDED = "SUPERSEDED"
    CANCELLED = "CANCELLED"
    INTENT = "INTENT"
    HELD = "HELD"
    NOT_NEEDED = "NOT_NEEDED"
    RUNNING = "RUNNING"
    RETRY_WAIT = "RETRY_WAIT"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    VERIFYING = "VERIFYING"
    ROLLED_BACK = "ROLLED_BACK"
    NOT_RECOVERED = "NOT_RECOVERED"

    @property
    def outcome(self) -> str:
        """The word `wait`, `--json` and the API use."""
        return self.value.lower()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.SMOKE: frozenset({State.WATCHING, State.SMOKE_FAILED, State.HELD, State.CANCELLED, State.SUPERSEDED}),
    State.WATCHING: frozenset(
        {State.PASSED, State.INCONCLUSIVE, State.SUPERSEDED, State.CANCELLED, State.INTENT, State.HELD}
    ),
    State.INTENT: frozenset({State.HELD, State.NOT_NEEDED, State.RUNNING, State.CANCELLED, State.SUPERSEDED}),
    State.HELD: frozenset({State.INTENT, State.WATCHING, State.CANCELLED, State.SUPERSEDED}),
    State.RUNNING: frozenset({State.VERIFYING, State.RETRY_WAIT, State.FAILED, State.UNKNOWN}),
    State.RETRY_WAIT: frozenset({State.RUNNING, State.FAILED, State.HELD}),
    State.UNKNOWN: frozenset({State.VERIFYING, State.INTENT, State.CANCELLED}),
    State.VERIFYING: frozenset({State.ROLLED_BACK, State.NOT_RECOVERED}),
}


FINAL: frozenset[State] = frozenset(State) - frozenset(TRANSITIONS)


GOES_FORWARD_IN: frozenset[State] = frozenset({State.SMOKE, State.WATCHING})  # in any other nothing may any more


# While it is held for its migration, or goes back; a migration taken back later would be another deploy's.
TAKES_DOWN_IN: frozenset[State] = frozenset(
    {State.HELD, State.INTENT, State.RUNNING, State.RETRY_WAIT, State.UNKNOWN, State.VERIFYING}
)


UPDATED = "updated"  # parameter of a roll-out's rollback: the servers that have the new version


RESTING: frozenset[State] = FINAL | {State.HELD, State.UNKNOWN}


class ActionKind(StrEnum):
    """What goes over the one fenced edge: every production change, and the questions that come before one."""

    SMOKE = "smoke"
    LOOK_AHEAD = "look_ahead"  # would the way back be open? asked when the watch begins; changes nothing
    SCHEMA = "schema"  # which version of its schema the database has; changes nothing
    ROLLBACK = "rollback"
    PROMOTE = "promote"
    SWITCH = "switch"
    PAUSE = "pause"
    RESUME = "resume"
    RESTORE_POINT = "restore_point"
    MIGRATE_DOWN = "migrate_down"


class ActionState(StrEnum):
    INTENT = "INTENT"  # recorded, nobody has started it
    HELD = "HELD"  # recorded, waits for a human
    RUNNING = "RUNNING"  # claimed; its hook may be running
    RETRY_WAIT = "RETRY_WAIT"  # surely not applied, to be tried again
    UNKNOWN = "UNKNOWN"  # nobody can tell whether it took effect
    APPLIED = "APPLIED"
    NOT_NEEDED = "NOT_NEEDED"  # production had moved on before we touched it
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTION_TRANSITIONS: dict[ActionState, frozenset[ActionState]] = {
    ActionState.INTENT: frozenset(
        {ActionState.HELD, ActionState.RUNNING, ActionState.NOT_NEEDED, ActionState.CANCELLED}
    ),
    ActionState.HELD: frozenset({ActionState.INTENT, ActionState.CANCELLED}),
    ActionState.RUNNING: frozenset(
        {
            ActionState.APPLIED,
            ActionState.RETRY_WAIT,
            ActionState.FAILED,
            ActionState.UNKNOWN,
        }
    ),
    ActionState.RETRY_WAIT: frozenset(
        {ActionState.RUNNING, ActionState.FAILED, ActionState.HELD, ActionState.CANCELLED}
    ),
    ActionState.UNKNOWN: frozenset({ActionState.APPLIED, ActionState.INTENT, ActionState.CANCELLED}),
}


class DecisionKind(StrEnum):
    """The policy's word."""

    WAIT = "WAIT"
    PROMOTE = "PROMOTE"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    PASS = "PASS"
    ROLL_BACK = "ROLL_BACK"
    HOLD = "HOLD"
    ESCALATE = "ESCALATE"
    CONCLUDE = "CONCLUDE"  # end INCONCLUSIVE: the watch is over and nobody can tell


class HoldReason(StrEnum):
    MODE_OBSERVE = "MODE_OBSERVE"
    MODE_NOTIFY = "MODE_NOTIFY"
    APPROVAL = "APPROVAL"
    KILL_SWITCH = "KILL_SWITCH"
    COOL_DOWN = "COOL_DOWN"
    NO_HOOK = "NO_HOOK"
    NO_TARGET = "NO_TARGET"
    MIGRATION = "MIGRATION"
    SHARED_CAUSE = "SHARED_CAUSE"
    NO_COUNTERPART = "NO_COUNTERPART"  # worse in what the old version did not serve: new routes, or a fault
    UNCALIBRATED = "UNCALIBRATED"
    TRAIN = "TRAIN"  # another deploy of its release train did not go back, and it would have to go first
    TWO_DEPLOYS = "TWO_DEPLOYS"  # another deploy went live in the same time, and only before and after are known
    USUAL_COURSE = "USUAL_COURSE"  # earlier days got worse alike at these hours
    SHARE_MISMATCH = "SHARE_MISMATCH"  # the candidate gets another share of the traffic than was asked for
    PROMOTE_FAILED = "PROMOTE_FAILED"
    SWITCH_FAILED = "SWITCH_FAILED"
    BREAKER = "BREAKER"  # too many rollbacks at once: the fault is probably elsewhere
    BAD_TARGET = "BAD_TARGET"  # the version to go back to was itself rolled back, or found worse, not long ago
    DAMAGED = "DAMAGED"  # what the ledger has of it cannot be read, so that nobody can judge it
    TARGET_GONE = "TARGET_GONE"  # the version to go back to does not answer


STILL_JUDGED = frozenset(  # nobody has called it worse yet, or worse than usual
    {HoldReason.SHARE_MISMATCH, HoldReason.PROMOTE_FAILED, HoldReason.USUAL_COURSE, HoldReason.NO_COUNTERPART}
)


class LowTraffic(StrEnum):
    """What a step does when its bake time is over and nobody can tell."""

    WAIT = "wait"
    ADVANCE = "advance"


class LabelKind(StrEnum):
    """What an analyst says of a verdict afterwards."""

    RIGHT = "right"
    FALSE_ALARM = "false_alarm"  # it was called DEGRADED and was not worse
    MISSED = "missed"  # it was worse and was not called DEGRADED
    UNCLEAR = "unclear"  # looked at, and nobody can tell


class Severity(StrEnum):
    INFO = "info"
    GOOD = "good"
    WARNING = "warning"
    PAGE = "page"  # somebody must look now


class MessageKind(StrEnum):
    STARTED = "started"
    PROGRESS = "progress"
    SOURCE_DOWN = "source_down"
    SOURCE_BACK = "source_back"
    DEGRADED = "degraded"
    HELD = "held"
    ACTION = "action"
    ENDED = "ended"


class Recorded(StrEnum):
    """What became of a deploy event: new, known already, or known with another body."""

    CREATED = "created"
    SAME = "same"
    CONFLICT = "conflict"
