"""Deploy events first: a round over many watches can wait for a moment, CI that waits for an answer shall not.

Both need the interpreter's lock, which would otherwise be handed back and forth between them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock

MOST_S = 0.02  # at one step; however many events come, every step is made in the end


class RightOfWay:
    """Who answers goes ahead; who can wait asks before each of its steps."""

    def __init__(self, *, most_s: float = MOST_S) -> None:
        self._most_s = most_s
        self._lock = Lock()
        self._ahead = 0
        self._clear = Event()
        self._clear.set()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Go ahead of everybody who gives way."""
        with self._lock:
            self._ahead += 1
            self._clear.clear()
        try:
            yield
        finally:
            with self._lock:
                self._ahead -= 1
                if not self._ahead:
                    self._clear.set()

    def give(self) -> None:
        """Wait while others go ahead, for so long at most."""
        if not self._clear.is_set():
            self._clear.wait(self._most_s)
