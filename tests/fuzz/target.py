"""What is fuzzed: a piece of the daemon that reads what others wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`check` reads one input and raises where the piece breaks a promise: anything but its documented errors, a
    forgery that is accepted, a text that becomes markup."""

    name: str
    corpus: Sequence[bytes]
    check: Callable[[bytes], None]
    words: Sequence[bytes] = ()
