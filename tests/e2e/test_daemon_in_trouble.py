"""A real daemon in trouble: a full disk, a ledger that somebody else holds, a sink that hangs."""

import asyncio
import http.client
import json
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.crash import fake_shop
from tests.crash.crash_plan import Schedule
from tests.crash.crash_world import TOKEN, World
from watchdog.demo.processes import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATIENCE_S = 60.0
FEW_BYTES = 4096


class Daemon:
    """One that nobody kills, with a bad v2 before it."""

    def __init__(self, world: World, port: int) -> None:
        self.world, self.port = world, port

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        """Status and headers of an answer; 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        except OSError:
            return 0, {}
        finally:
            connection.close()

    def deploy(self, name: str) -> tuple[int, dict[str, str]]:
        deploy = {"id": name, "service": "shop", "environment": name, "version": "v2", "previous_version": "v1"}
        return self.ask("POST", "/api/v1/deploys", deploy)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something of the daemon, which must not end meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            asyncio.run(self.world.glance())
            assert self.world.played.kills == 0, "the daemon ended"

    def is_ready(self, *, status: int) -> bool:
        return self.ask("GET", "/-/ready")[0] == status

    def stored(self) -> dict[str, str]:
        with closing(sqlite3.connect(f"file:{self.world.folder}/watchdog.db?mode=ro", uri=True)) as ledger:
            return dict(ledger.execute("SELECT id, state FROM watches").fetchall())

    def calls(self) -> int:
        path = self.world.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    root, port = tmp_path / "worlds", free_ports(1)[0]
    root.mkdir()
    with fake_shop.running(root) as shop_port:
        world = World(root / "w", Schedule("probe", ()), port=port, shop_port=shop_port, anew=True)
        daemon = Daemon(world, port)
        try:
            daemon.until(lambda: daemon.is_ready(status=200), "the daemon is ready")
            yield daemon
        finally:
            world.kill()


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Nothing that the process writes may reach beyond the first few bytes of a file, as on a disk without room."""
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FEW_BYTES, unlimited))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))


def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_rolled_back(daemon: Daemon) -> None:
    """503 with Retry-After, not ready, no hook without an intent on disk; with room again the rollback comes."""
    without_traffic = daemon.world.folder / "switched.v2"
    without_traffic.touch()
    assert daemon.deploy("first")[0] == 201
    pid = daemon.world._pid
    assert pid is not None
    with full_disk(pid):
        without_traffic.unlink()  # v2 is bad from now on
        status, headers = daemon.deploy("late")
        assert (status, int(headers["retry-after"]) > 0) == (503, True)
        daemon.until(lambda: daemon.is_ready(status=503), "not ready")
        over = time.monotonic() + 3.0  # six looks, each of which finds it bad
        daemon.until(lambda: time.monotonic() > over, "time goes by")
        assert (daemon.stored(), daemon.calls()) == ({"first": "WATCHING"}, 0)
    daemon.until(lambda: daemon.is_ready(status=200), "ready again")
    daemon.until(lambda: daemon.stored() == {"first": "ROLLED_BACK"}, "the rollback")
    assert daemon.calls() == 1
    assert daemon.deploy("late")[0] == 201
    daemon.world.check_ledger()
    assert daemon.world.played.wrong == []


def test_while_somebody_else_holds_the_ledger_nothing_is_acknowledged(daemon: Daemon) -> None:
    """503 with Retry-After for as long as it lasts, 201 afterwards; what was answered with 2xx is on record."""
    assert daemon.deploy("before")[0] == 201
    other = sqlite3.connect(daemon.world.folder / "watchdog.db", isolation_level=None, timeout=30)
    with closing(other):
        other.execute("BEGIN EXCLUSIVE")
        status, headers = daemon.deploy("during")
        assert (status, int(headers["retry-after"]) > 0) == (503, True)
        daemon.until(lambda: daemon.is_ready(status=503), "not ready")
        other.execute("ROLLBACK")
    assert "during" not in daemon.stored()
    daemon.until(lambda: daemon.is_ready(status=200), "ready again")
    assert daemon.deploy("during")[0] == 201
    assert set(daemon.stored()) == {"before", "during"}
    daemon.until(lambda: daemon.stored()["before"] == "ROLLED_BACK", "the rollback that was due goes on")
    assert daemon.calls() >= 1


def test_a_sink_that_hangs_is_not_in_the_way_of_a_rollback(daemon: Daemon) -> None:
    """The rollback is over while not one message has been taken; afterwards they are told."""
    silent, told = daemon.world.folder / "silent", daemon.world.folder / "told"
    silent.touch()
    assert daemon.deploy("first")[0] == 201
    daemon.until(lambda: daemon.stored() == {"first": "ROLLED_BACK"}, "the rollback")
    assert not told.exists()
    silent.unlink()
    daemon.until(lambda: told.exists() and "ROLLED_BACK" in told.read_text(), "what was kept back is told")
