"""What a system that rolls out by itself may do next, as far as one deploy is concerned. Pure.

Flagger and Argo Rollouts change production themselves, when they are told to. So that every brake holds for them too,
"go back" is said only once the daemon's own rollback action has been claimed (see the hook `gate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from analysis.sentence import named
from watchdog.model import Mode, State, Watch

_GOING_BACK = frozenset({State.RUNNING, State.RETRY_WAIT, State.VERIFYING, State.UNKNOWN})
_WENT_BACK = frozenset({State.ROLLED_BACK, State.NOT_RECOVERED, State.FAILED, State.SMOKE_FAILED})
_UNDECIDED = frozenset({State.SMOKE, State.WATCHING, State.INTENT})
_ONLY_TELLS = frozenset({Mode.OBSERVE, Mode.NOTIFY})


class Word(StrEnum):
    GO = "go"  # nothing speaks against going on
    WAIT = "wait"  # nobody can tell yet
    ASK = "ask"  # a human must look before it goes on
    BACK = "back"  # go back


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    word: Word
    why: str


def gate(watch: Watch, alerts: Sequence[str], now: float) -> Gate:
    """What may be done with a deploy now; `alerts` are those that fire since it went live.

    In `observe` and `notify` the daemon acts on nothing, so nothing is ever kept from going on.
    """
    if watch.mode in _ONLY_TELLS:
        return Gate(word=Word.GO, why=f"mode is {watch.mode.value}: nothing is held up; {watch.sentence}")
    if watch.state in _GOING_BACK:
        return Gate(word=Word.BACK, why=watch.sentence)
    if watch.state in _WENT_BACK:
        # The same version may be rolled out anew; a decision about it is good for as long as one watch.
        if now - watch.updated_at <= watch.plan.watch_s:
            return Gate(word=Word.BACK, why=watch.sentence)
        return Gate(word=Word.ASK, why=f"this was an earlier roll-out of it: {watch.sentence}")
    if watch.state in _UNDECIDED:
        if alerts:
            return Gate(
                word=Word.ASK,
                why=f"{named(alerts)} {'fires' if len(alerts) == 1 else 'fire'} since the deploy; {watch.sentence}",
            )
        return Gate(word=Word.WAIT, why=watch.sentence)
    by_a_human = watch.state is State.CANCELLED and watch.hold is None
    return Gate(word=Word.GO if watch.state is State.PASSED or by_a_human else Word.ASK, why=watch.sentence)
