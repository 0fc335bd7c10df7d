"""Three real daemons on one PostgreSQL, each with a folder of its own as on a machine of its own, to be ill-treated."""

import asyncio
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash import forked
from tests.crash.ci_client import ON_RECORD, tell
from tests.crash.crash_world import TOKEN, TOKEN_ENV, config
from tests.servers import PostgresServer, wait_until
from watchdog.demo.processes import free_ports

REPLICAS = 3
LEASE_S = 5.0
NO_BRAKES = """
cool_down_s = 0
bad_target_s = 0
breaker_rollbacks = 1000
breaker_window_s = 0.001
"""
GLANCE_S = 0.05
PATIENCE_S = 120.0


class Replica:
    """One daemon."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._pid: int | None = None

    @property
    def alive(self) -> bool:
        return self._pid is not None and not forked.reap(self._pid)

    @property
    def frozen(self) -> bool:
        """Whether it is stopped, as by a long pause of its machine."""
        stat = Path(f"/proc/{self._pid}/stat")
        return self.alive and stat.read_text().rpartition(") ")[2].startswith("T")

    def start(self, death: str = "") -> None:
        """Start it; `death`: name:n:kill or name:n:stop."""
        secret = "whsec_" + "c2VjcmV0" * 4
        self._pid = forked.start(
            self.folder, {TOKEN_ENV: TOKEN, "CRASH_SECRET": secret, "FAILPOINTS": death}, anew=False
        )

    def kill(self) -> None:
        if self._pid is not None and self.alive:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = None

    def freeze(self) -> None:
        if self._pid is not None and self.alive:
            os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._pid is not None and self.alive:
            os.kill(self._pid, signal.SIGCONT)


class Trio:
    """Three replicas, the world that their hooks change, and the database they share."""

    def __init__(self, root: Path, server: PostgresServer, *, shop_port: int, mode: str = "probe") -> None:
        root.mkdir()
        self.world = root
        self.server = server
        self.schema = f"s{root.name}"
        self.url = server.new_schema(self.schema)
        self.replicas = [Replica(root / f"r{n}", port) for n, port in enumerate(free_ports(REPLICAS))]
        daemon = f'ledger = "{self.url}"\nlease_s = {LEASE_S}\nfetch_deadline_s = 2.0'
        for replica in self.replicas:
            replica.folder.mkdir()
            text = config(
                root, port=replica.port, shop_port=shop_port, mode=mode, daemon=daemon, policy=NO_BRAKES,
                hook="timeout_s = 2.0\ngrace_s = 1.0",
            )  # fmt: skip
            (replica.folder / "config.toml").write_text(text)

    @contextmanager
    def running(self) -> Iterator[None]:
        """All three, from the first answer of each to their end."""
        try:
            for replica in self.replicas:
                replica.start()
            for replica in self.replicas:
                what = f"the replica in {replica.folder} answers"
                wait_until(lambda port=replica.port: _listens(port), within_s=PATIENCE_S, what=what)  # type: ignore[misc]
            yield
        finally:
            for replica in self.replicas:
                replica.kill()

    async def deploy(self, name: str) -> None:
        """Tell whoever answers, as behind a load balancer, until it is on record."""
        deploy = {"id": name, "service": "shop", "environment": name, "version": name, "previous_version": "v1"}
        for number in self._tries(f"{name} on record"):
            replica = self.replicas[number % REPLICAS]
            if replica.alive and not replica.frozen and await tell(replica.port, TOKEN, deploy) in ON_RECORD:
                return
            await asyncio.sleep(GLANCE_S)

    def _tries(self, what: str) -> Iterator[int]:
        deadline, number = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < deadline:
            yield number
            number += 1
        raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the ledger, past all daemons."""
        return self.server.query(statement, schema=self.schema)

    def effects(self) -> Counter[str]:
        """How often production was changed by each action, as the hook wrote it down."""
        path = self.world / "effects"
        return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()

    async def ill_treat(self, over: asyncio.Event, dice: random.Random) -> int:
        """Freeze one after the other for moments, some longer than a lease; the number of pauses."""
        pauses = 0
        while not over.is_set():
            replica = dice.choice(self.replicas)
            replica.freeze()
            await asyncio.sleep(dice.uniform(0.02, 0.3) if dice.random() < 0.9 else dice.uniform(0.3, 1.4 * LEASE_S))
            replica.thaw()
            pauses += 1
            await asyncio.sleep(dice.uniform(0.01, 0.15))
        return pauses


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex(("127.0.0.1", port)) == 0
