"""What is written to the ledger in one transaction. Times are Unix seconds (`_at`), durations seconds (`_s`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.result import Verdict
from watchdog.model.limits import DEFAULT_LIMITS, Limits
from watchdog.model.nouns import Action, AuditEntry, Message, StoredLook, Watch
from watchdog.model.words import ActionState, State


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUpdate:
    """A compare-and-set on one action. `fence` says which attempt is meant: a late word about an earlier one loses."""

    id: str
    expect: frozenset[ActionState]
    to: ActionState
    fields: Mapping[str, Any] = field(default_factory=dict)
    fence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's wish to start one attempt of one action: granted in one transaction with everything that could forbid
    it (lease, kill switch, newer deploys, what others were rolled back lately), or not at all."""

    action_id: str
    owner: str
    now: float
    timeout_s: float
    limits: Limits = DEFAULT_LIMITS
    updated: tuple[str, ...] = ()  # of a roll-out: the servers to put back, as far as is known now; empty: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """A watch that begins because another one ended."""

    watch: Watch
    messages: tuple[Message, ...]
    audit: tuple[AuditEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that changes at one moment of a watch. The ledger writes all of it in ONE transaction, or none.

    expect_state and expect_epoch are compared first; `to_state` must be allowed by TRANSITIONS. A transition
    carries at least one audit entry and one message.
    """

    watch_id: str
    at: float
    expect_state: State
    expect_epoch: int | None = None
    expect_newest: bool = False  # no deploy of the same place was recorded since
    to_state: State | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # other Watch columns to set
    looks: tuple[StoredLook, ...] = ()
    verdict: Verdict | None = None
    new_action: Action | None = None
    action: ActionUpdate | None = None
    then: Follow | None = None
    audit: tuple[AuditEntry, ...] = ()
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beginning:
    """A deploy as it is first recorded. ended: what older watches of its place become by it."""

    watch: Watch
    messages: Sequence[Message]
    audit: Sequence[AuditEntry]
    actions: Sequence[Action] = ()
    ended: Sequence[Change] = ()
