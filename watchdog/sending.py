"""What other systems send us, as a port: a deploy, a question, alerts, an end, or nothing of ours.

A sender reads; it never asks anybody anything. Addresses in a payload are not followed, and not even stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel

from watchdog.deploy_request import DeployRequest

Payload = TypeVar("Payload", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One POST of a known sender. The body is one JSON object, already checked to be plain and bounded."""

    headers: Mapping[str, str]  # names in lower case
    body: bytes
    hook: str = ""  # the last word of the address, where the sender has several

    def typed(self, model: type[Payload]) -> Payload:
        """The body as a typed payload; pydantic's ValidationError says all that is wrong with it."""
        return model.model_validate_json(self.body, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployTold:
    """A version is live."""

    request: DeployRequest
    again: bool = False  # an end of the deploy of this id does not keep a new one from beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTold:
    """Whoever rolls out has ended it: there is nothing left to watch."""

    service: str
    environment: str | None
    deploy_id: str
    why: str


class Question(StrEnum):
    """What a system that rolls out by itself asks before it goes on."""

    START = "start"  # may it begin?
    GO_ON = "go_on"  # is anything so bad that it must go back? a no counts against the deploy
    GROW = "grow"  # may it take more traffic?
    PROMOTE = "promote"  # may it take all of it?
    GO_BACK = "go_back"  # shall it go back? a yes rolls back


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about the newest deploy of a service, if it is this one, by its id or by its version."""

    question: Question
    service: str
    environment: str | None
    deploy_id: str
    version: str  # where the sender names one; else empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert of somebody else's rules about a service. `starts_at` in Unix seconds."""

    key: str  # the same for every notification about it
    name: str
    service: str
    environment: str | None
    starts_at: float
    is_firing: bool
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsTold:
    """The alerts of one notification that are about a service; the others are counted."""

    alerts: tuple[Alert, ...]
    unrelated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrelated:
    """Well-formed, and nothing to do here."""

    why: str


Heard = DeployTold | EndTold | Asked | AlertsTold | Unrelated


class Sender(Protocol):
    """Reads what one kind of system sends."""

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    hooks: ClassVar[frozenset[str]]  # last words of its address; empty: it has one address
    content_types: ClassVar[frozenset[str]]

    def __init__(self, name: str, options: Any, env: Mapping[str, str]) -> None: ...

    # By the sender's own scheme; None: it has none, or none is set up, and a token of ours decides. Constant time.
    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None: ...

    # RefusedError or pydantic's ValidationError, with what is wrong; nothing else, whatever was sent.
    def read(self, arrived: Arrived) -> Heard: ...
