"""The one file that reads the real time and draws real identifiers."""

import time
import uuid


class SystemClock:
    """The machine's own clocks; tests put a simulated one in its place."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def new_id(self) -> str:
        return uuid.uuid4().hex
