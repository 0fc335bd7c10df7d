"""For all tests: nobody talks to another machine; an empty ledger and its clock; simulated deploys, made once."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT
from watchdog.ledger import open_ledger
from watchdog.ports import Ledger

_HERE = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")
_REAL_SERVERS = Path(__file__).parent / "e2e"
_CRASHES = frozenset({"test_crash_schedules.py", "test_replicas.py", "test_demo_kill.py"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In CI a test beside real servers has a second try, which the report names: its machine may be busy elsewhere.

    At a desk it has none, and neither have the crash tests, whose one failure in a thousand is what they look for.
    Where several processes share the tests, those that wait for servers come first, so that all end at one time.
    """
    if os.environ.get("CI"):
        for item in items:
            if _REAL_SERVERS in item.path.parents and item.path.name not in _CRASHES:
                item.add_marker(pytest.mark.flaky(reruns=1))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _REAL_SERVERS not in item.path.parents)


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """Connections to anything but loopback fail at once, as on a machine without a network."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        if _is_elsewhere(self, address):
            raise OSError(errno.ENETUNREACH, f"tests may only talk to this machine, not to {address[0]}")
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        return errno.ENETUNREACH if _is_elsewhere(self, address) else connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket.socket, "connect_ex", guarded_ex)
        yield


def _is_elsewhere(sock: socket.socket, address: Any) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_HERE)


@pytest.fixture
def clock() -> FakeClock:
    """It stands at the moment of the sample deploy."""
    return FakeClock(DEPLOYED_AT)


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    """An empty one in SQLite, by the test's own clock where it has one; every service tells the sink `log`."""
    opened = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every service of the simulation deployed twice, through the daemon's own road; its users share one worker.

    The seed is one of the first in which all three words are said.
    """
    from notebooks.simulated_ledger import simulate

    path = tmp_path_factory.mktemp("simulated") / "simulated.db"
    simulate(path, rounds=2, seed=5)
    return path


@pytest.fixture(autouse=True)
def every_verdict_replays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Afterwards every verdict in every ledger that any test left behind is judged again, and must be the same."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is None or request.node.get_closest_marker("spoils_its_ledger"):
        return
    if any(folder.rglob("*.db")):
        from tests.reviewed import replayed_otherwise

        assert replayed_otherwise(folder) == []
