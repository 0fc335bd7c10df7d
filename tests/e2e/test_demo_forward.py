"""The demo's hook going forward, on a real front: absolute, done once, asked about, and never against a rollback."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog.demo import rollback
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.roll_out import RollOut
from watchdog.demo.rollback import FENCED_OFF, IMPOSSIBLE, IN_EFFECT, MOVED_ON, NOT_IN_EFFECT, Order
from watchdog.demo.serving import HOST
from watchdog.demo.talk import answers, call, wait_for


class Front:
    """A real front, and the hook that works on it."""

    def __init__(self, processes: Processes, folder: Path, *upstreams: str) -> None:
        port, self.admin = free_ports(2)
        self.url = f"http://{HOST}:{self.admin}"
        self.effects = str(folder / "effects.jsonl")
        self._fence = 0
        given = [word for upstream in upstreams for word in ("--upstream", upstream)]
        ports = ["--port", str(port), "--admin-port", str(self.admin)]
        processes.start("front", ["-m", "watchdog.demo.front", *ports, *given])
        wait_for(lambda: answers(self.admin, "/weights"), what="a front", within_s=30)

    def order(self, kind: str, *, share: float = 0.0, fence: int | None = None) -> Order:
        self._fence = self._fence + 1 if fence is None else fence
        old, new = ("v2", "v1") if kind == "rollback" else ("v1", "v2")
        return Order(
            kind=kind, action_id=f"{kind}-{share}", attempt=1, fence=self._fence, from_version=old, to_version=new,
            share=share,
        )  # fmt: skip

    def run(self, kind: str, *, share: float = 0.0, fence: int | None = None) -> int:
        return rollback.run(self.url, self.order(kind, share=share, fence=fence), self.effects)

    def probe(self, kind: str, *, share: float = 0.0) -> int:
        return rollback.probe(self.url, self.order(kind, share=share))

    def set(self, weights: dict[str, int]) -> None:
        assert call("POST", self.admin, "/weights", weights)[0] == 200

    @property
    def weights(self) -> dict[str, int]:
        found: dict[str, int] = call("GET", self.admin, "/weights")[1]["weights"]
        return found


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes that end with the test."""
    running = Processes(tmp_path, remove=False)
    yield running
    running.close()


@pytest.fixture
def front(processes: Processes, tmp_path: Path) -> Front:
    """A front over two versions nobody serves."""
    return Front(processes, tmp_path, f"v1=http://{HOST}:1", f"v2=http://{HOST}:2")


def test_a_promotion_sets_the_asked_share_once_and_never_brings_back_what_was_taken_out(front: Front) -> None:
    """10 → 25 %; again is no change; after the rollback neither a stale nor a fresh promotion gives v2 anything."""
    front.set({"v1": 90, "v2": 10})
    assert front.probe("promote", share=0.25) == NOT_IN_EFFECT
    assert [front.run("promote", share=0.25) for _ in range(2)] == [IN_EFFECT, IN_EFFECT]
    assert front.probe("promote", share=0.25) == IN_EFFECT
    assert front.weights == {"v1": 750, "v2": 250}
    assert front.probe("promote", share=0.1) == MOVED_ON  # somebody went further
    stale = front.order("promote", share=0.5)
    assert front.run("rollback") == IN_EFFECT
    assert rollback.run(front.url, stale, front.effects) == FENCED_OFF
    assert (front.run("promote", share=0.5), front.probe("promote", share=0.5)) == (MOVED_ON, MOVED_ON)
    assert front.weights["v2"] == 0


def test_promotions_racing_a_rollback_leave_v2_nothing(front: Front) -> None:
    """Races of two threads on a real front; the rollback has the higher fence, as the daemon's always has."""
    for turn in range(int(os.environ.get("RACES", "20"))):
        front.set({"v1": 90, "v2": 10})
        orders = [front.order("promote", share=0.5), front.order("rollback")]
        running = [
            threading.Thread(target=rollback.run, args=(front.url, order, front.effects))
            for order in (orders if turn % 2 else reversed(orders))
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert front.weights["v2"] == 0, turn


def test_a_switch_gives_v2_everything_and_a_rollback_gives_it_back(front: Front) -> None:
    """Each is in effect only after it was made."""
    assert front.probe("switch") == NOT_IN_EFFECT
    assert front.run("switch") == IN_EFFECT
    assert (front.probe("switch"), front.probe("rollback")) == (IN_EFFECT, NOT_IN_EFFECT)
    assert front.run("rollback") == IN_EFFECT
    assert front.weights == {"v1": 100, "v2": 0}


def test_a_roll_out_is_paused_resumed_and_put_back_server_by_server(processes: Processes, tmp_path: Path) -> None:
    """Only the servers already updated go back, each to its own old process; and the roll-out stops by itself."""
    upstreams = [f"{version}/{server}=http://{HOST}:1" for version in ("v1", "v2") for server in "abc"]
    front = Front(processes, tmp_path, *upstreams)
    roll_out = RollOut(front.admin)
    assert [roll_out.update(server) for server in "ab"] == [True, True]
    assert front.run("pause") == front.probe("pause") == IN_EFFECT
    assert not roll_out.update("c")
    assert front.probe("resume") == NOT_IN_EFFECT
    assert front.run("resume") == IN_EFFECT
    assert roll_out.may_go_on()
    assert front.probe("rollback") == NOT_IN_EFFECT
    assert front.run("rollback") == front.probe("rollback") == IN_EFFECT
    assert front.weights == {f"v1/{s}": 100 for s in "abc"} | {f"v2/{s}": 0 for s in "abc"}
    assert not roll_out.update("c"), "nobody rolls out what was put back"


@pytest.mark.parametrize(
    ("fault", "code"), [("errors=0.05", IN_EFFECT), ("route=/checkout,route_errors=1", IMPOSSIBLE)]
)
def test_a_smoke_test_asks_every_page_of_the_new_version_itself(
    processes: Processes, tmp_path: Path, fault: str, code: int
) -> None:
    """A few errors are no reason to stop a deploy, a page that never answers is; no traffic is moved for it."""
    port, metrics = free_ports(2)
    given = ["--version", "v2", "--port", str(port), "--metrics-port", str(metrics), "--db", str(tmp_path / "o.db")]
    processes.start("v2", ["-m", "watchdog.demo.shop", *given, "--fault", fault])
    wait_for(lambda: answers(metrics, "/metrics"), what="a shop", within_s=30)
    front = Front(processes, tmp_path, f"v1=http://{HOST}:1", f"v2=http://{HOST}:{port}")
    assert front.run("smoke") == code
    assert front.weights == {"v1": 100, "v2": 0}
