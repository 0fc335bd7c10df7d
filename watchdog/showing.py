"""What a sink may offer besides words: pictures below a message."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from watchdog.ports import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of a verdict. `says` is for those who cannot see it."""

    png: bytes
    title: str
    says: str


@runtime_checkable
class ShowsPictures(Protocol):
    """What a sink may offer besides: a picture below a message that it has delivered. Asked once; SinkError."""

    @property
    def wants_pictures(self) -> bool: ...
    def show(self, delivery: Delivery, picture: Picture) -> None: ...
