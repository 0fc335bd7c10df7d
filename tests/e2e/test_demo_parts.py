"""The demo's parts as real processes: a shop that tells the truth, a front that keeps its shares, a careful hook."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from watchdog.demo import rollback
from watchdog.demo.processes import Processes, environment, free_ports
from watchdog.demo.serving import HOST
from watchdog.demo.talk import answers, call, wait_for

HOOK = [sys.executable, "-I", "-S", str(Path(rollback.__file__))]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes that end with the test."""
    running = Processes(tmp_path, remove=False)
    yield running
    running.close()


def start_shop(processes: Processes, tmp_path: Path, *, version: str = "v1", fault: str = "") -> tuple[int, int]:
    port, metrics = free_ports(2)
    given = ["--version", version, "--port", str(port), "--metrics-port", str(metrics), "--seed", "7"]
    processes.start(
        version, ["-m", "watchdog.demo.shop", *given, "--db", str(tmp_path / "orders.db"), "--fault", fault]
    )
    if "hang" not in fault:
        wait_for(lambda: answers(metrics, "/metrics"), what="a shop", within_s=15)
    return port, metrics


def start_front(processes: Processes, tmp_path: Path, upstreams: dict[str, int]) -> tuple[int, int]:
    port, admin = free_ports(2)
    given = ["--port", str(port), "--admin-port", str(admin), "--state", str(tmp_path / "weights.json")]
    for version, upstream in upstreams.items():
        given += ["--upstream", f"{version}=http://{HOST}:{upstream}"]
    processes.start("front", ["-m", "watchdog.demo.front", *given])
    wait_for(lambda: answers(admin, "/weights"), what="a front", within_s=15)
    return port, admin


def counters(metrics_port: int, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of one name on a metrics page, by their labels."""
    page = urllib.request.urlopen(f"http://{HOST}:{metrics_port}/metrics", timeout=5).read().decode()
    samples = itertools.chain.from_iterable(f.samples for f in text_string_to_metric_families(page))
    return {tuple(sorted(s.labels.items())): s.value for s in samples if s.name == name}


def checkout(port: int) -> int:
    request = urllib.request.Request(f"http://{HOST}:{port}/checkout", data=b"items=1.2&customer=ada")
    try:
        return int(urllib.request.urlopen(request, timeout=5).status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_shop_counts_what_it_answers(processes: Processes, tmp_path: Path) -> None:
    """Codes, routes, histogram and orders on the metrics page equal what the visitor saw and the table holds."""
    port, metrics = start_shop(processes, tmp_path, fault="errors=0.3")
    seen = [checkout(port) for _ in range(60)]
    requests = counters(metrics, "shop_requests_total")
    by_code = {code: requests[("code", code), ("route", "/checkout"), ("version", "v1")] for code in ("201", "500")}
    assert by_code == {"201": seen.count(201), "500": seen.count(500)}
    assert 5 <= seen.count(500) <= 35
    assert counters(metrics, "shop_request_duration_seconds_count")[("route", "/checkout"), ("version", "v1")] == 60
    assert counters(metrics, "shop_orders_total")[(("version", "v1"),)] == seen.count(201)
    with sqlite3.connect(tmp_path / "orders.db") as orders:
        rows = orders.execute("SELECT version, items, cents FROM orders").fetchall()
    orders.close()
    assert rows == [("v1", "1.2", 4340)] * seen.count(201)


def test_shop_with_a_fault_behaves_so(processes: Processes, tmp_path: Path) -> None:
    """A dead shop fails every request; its metrics page can be made to die while visitors are still answered."""
    port, metrics = start_shop(processes, tmp_path, fault="dead")
    assert [call("GET", port, "/")[0] for _ in range(20)] == [500] * 20
    assert call("PUT", metrics, "/-/fault", {"dead": False, "errors": 0.0, "metrics": False})[0] == 200
    with pytest.raises(OSError, match=r".*"):
        call("GET", metrics, "/metrics")
    assert [call("GET", port, path)[0] for path in ("/", "/product/3", "/cart?items=1", "/search?q=tea")] == [200] * 4
    assert call("GET", port, "/product/99")[0] == 404


def test_slow_fault_slows_median_and_tail(processes: Processes, tmp_path: Path) -> None:
    """With slow=3 the recorded time per request is about three times as long."""
    means = []
    for version, fault in (("v1", "errors=0"), ("v2", "errors=0,slow=3")):
        port, metrics = start_shop(processes, tmp_path, version=version, fault=fault)
        for _ in range(40):
            call("GET", port, "/product/1")
        recorded = counters(metrics, "shop_request_duration_seconds_sum")
        means.append(recorded[("route", "/product/{id}"), ("version", version)] / 40)
    assert 2.0 < means[1] / means[0] < 4.0


def test_hanging_shop_never_answers_then_refuses(processes: Processes, tmp_path: Path) -> None:
    """It has no metrics page from the start, holds its visitors, and soon takes no connection at all."""
    port, metrics = start_shop(processes, tmp_path, version="v2", fault="hang")
    assert not answers(metrics, "/metrics")

    def refuses() -> bool:
        try:
            call("GET", port, "/", timeout_s=0.3)
        except ConnectionRefusedError:
            return True
        except OSError:
            held.append(1)
        return False

    held: list[int] = []
    wait_for(lambda: not refuses(), what="a listening shop", within_s=15)
    wait_for(refuses, what="a refusal", within_s=15)
    assert held


def test_front_keeps_its_shares_exactly_and_counts_both_sides(processes: Processes, tmp_path: Path) -> None:
    """90:10 over 200 visitors is 180 and 20, evenly spread; a dead version's errors are counted to it alone."""
    good, _ = start_shop(processes, tmp_path, version="v1", fault="errors=0,slow=0.05")
    dead, _ = start_shop(processes, tmp_path, version="v2", fault="dead")
    port, admin = start_front(processes, tmp_path, {"v1": good, "v2": dead})
    assert call("POST", admin, "/weights", {"v1": 90, "v2": 10})[0] == 200
    seen = [call("GET", port, "/product/1")[0] for _ in range(200)]
    assert [seen[i : i + 10].count(500) for i in range(0, 200, 10)] == [1] * 20
    counts = call("GET", admin, "/stats")[1]["versions"]
    assert {v: (c["requests"], c["errors"], c["unanswered"]) for v, c in counts.items()} == {
        "v1": (180, 0, 0),
        "v2": (20, 20, 0),
    }


def test_front_gives_a_refusing_version_s_visitors_a_502(processes: Processes, tmp_path: Path) -> None:
    """Nobody listens at v2: its visitors get 502, counted to v2, and v1's are untouched."""
    good, _ = start_shop(processes, tmp_path, fault="errors=0")
    port, admin = start_front(processes, tmp_path, {"v1": good, "v2": free_ports(1)[0]})
    call("POST", admin, "/weights", {"v1": 1, "v2": 1})
    assert sorted(call("GET", port, "/")[0] for _ in range(10)) == [200] * 5 + [502] * 5
    counts = call("GET", admin, "/stats")[1]["versions"]
    assert (counts["v2"]["errors"], counts["v2"]["unanswered"], counts["v1"]["errors"]) == (5, 5, 0)


def test_admin_requests_that_make_no_sense_are_answered_so(processes: Processes, tmp_path: Path) -> None:
    """Not JSON, not an object, not a number: a 400 that says why, from front and shop alike, and nothing changes."""
    _, metrics = start_shop(processes, tmp_path)
    _, admin = start_front(processes, tmp_path, {"v1": 1, "v2": 2})
    for body in ([1], 7, "no", {"v3": 1}, {"v1": [1]}, None):
        status, answer = call("POST", admin, "/weights", body)
        assert (status, bool(answer["error"])) == (400, True), body
        assert call("PUT", metrics, "/-/fault", body)[0] == 400, body
    assert call("POST", admin, "/weights", {"v1": 1}, headers={"X-Fence": "high"})[0] == 400
    assert call("GET", admin, "/weights")[1]["weights"] == {"v1": 100, "v2": 0}


def test_front_remembers_weights_and_fence_over_a_crash(processes: Processes, tmp_path: Path) -> None:
    """A front that is killed comes back with its weights, its revision and the highest fence it has seen."""
    _, admin = start_front(processes, tmp_path, {"v1": 1, "v2": 2})
    assert call("POST", admin, "/weights", {"v2": 100}, headers={"X-Fence": "5"})[0] == 200
    before = call("GET", admin, "/weights")[1]
    processes.kill("front")
    _, admin = start_front(processes, tmp_path, {"v1": 1, "v2": 2})
    assert call("GET", admin, "/weights")[1] == before
    assert call("POST", admin, "/weights", {"v1": 100}, headers={"X-Fence": "4"})[0] == 409


class Hook:
    """The demo's hook, run as the daemon runs it."""

    def __init__(self, admin: int, effects: Path, *, fence: int = 0) -> None:
        self._argv = [*HOOK, "--front", f"http://{HOST}:{admin}", "--effects", str(effects)]
        self._effects = effects
        self._fence = fence  # the highest that the front has seen before this test

    def run(self, *more: str, action_id: str = "a1", attempt: int = 1, fence: int = 1, **env: str) -> int:
        return self.start(*more, action_id=action_id, attempt=attempt, fence=fence, **env).wait(timeout=20)

    def start(
        self, *more: str, action_id: str = "a1", attempt: int = 1, fence: int = 1, **env: str
    ) -> "subprocess.Popen[bytes]":
        told = {"ACTION_ID": action_id, "ATTEMPT": str(attempt), "FENCE": str(self._fence + fence)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            [*self._argv, *more], env={**told, "FROM": "v2", "TO": "v1", **env}, stdout=quiet, stderr=quiet
        )

    def effects(self) -> list[dict[str, Any]]:
        if not self._effects.exists():
            return []
        return [json.loads(line) for line in self._effects.read_text().splitlines()]


@pytest.fixture(scope="module")
def front_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The admin port of a front with three versions; its fence only rises, as in life."""
    folder = tmp_path_factory.mktemp("front")
    running = Processes(folder, remove=False)
    yield start_front(running, folder, {"v1": 1, "v2": 2, "v3": 3})[1]
    running.close()


@pytest.fixture
def hook(front_of_three: int, tmp_path: Path) -> tuple[Hook, int]:
    """A hook, and the admin port of the front it works on."""
    fence = call("GET", front_of_three, "/weights")[1]["fence"]
    return Hook(front_of_three, tmp_path / "effects.jsonl", fence=fence), front_of_three


def test_hook_run_twice_has_one_effect(hook: tuple[Hook, int]) -> None:
    """The second run finds its order in effect; the front saw one change of that action."""
    program, admin = hook
    call("POST", admin, "/weights", {"v1": 90, "v2": 10})
    assert program.run("--probe") == 3
    assert [program.run(action_id="twice", attempt=n, fence=n) for n in (1, 2)] == [0, 0]
    assert program.run("--probe", fence=2) == 0
    assert [e["effect"] for e in program.effects()] == ["set", "already"]
    document = call("GET", admin, "/weights")[1]
    assert document["weights"] == {"v1": 100, "v2": 0, "v3": 0}
    assert [c["attempt"] for c in document["changes"] if c["action_id"] == "twice"] == [1]


def test_hook_with_an_older_fence_is_refused(hook: tuple[Hook, int]) -> None:
    """A daemon that lost its turn cannot undo what a later one or a human did, even if that run found nothing to do."""
    program, admin = hook
    assert program.run(action_id="later", fence=9) == 0  # nothing to do, and yet its fence counts
    call("POST", admin, "/weights", {"v1": 90, "v2": 10})
    assert program.run(action_id="stale", fence=8) == 6
    assert call("GET", admin, "/weights")[1]["weights"] == {"v1": 90, "v2": 10, "v3": 0}
    assert program.run(action_id="next", fence=10) == 0


def test_hook_answers_for_every_standing(hook: tuple[Hook, int]) -> None:
    """The exit codes of probe and run for each way the traffic may lie; where neither version is live, hands off."""
    program, admin = hook
    for weights, probe, run in (
        ({"v1": 90, "v2": 10}, 3, 0),
        ({"v2": 100}, 3, 0),
        ({"v1": 100}, 0, 0),
        ({"v1": 90, "v3": 10}, 0, 0),
        ({"v3": 100}, 5, 5),
    ):
        call("POST", admin, "/weights", weights)
        assert (program.run("--probe"), program.run()) == (probe, run), weights
        left = call("GET", admin, "/weights")[1]["weights"]
        assert left == dict.fromkeys(("v1", "v2", "v3"), 0) | (weights if probe != 3 else {"v1": 100}), weights


def test_hook_without_a_front_asks_for_another_try(tmp_path: Path) -> None:
    """No answer is no effect: the run asks for a retry, the probe says that it cannot tell."""
    program = Hook(free_ports(1)[0], tmp_path / "effects.jsonl")
    assert program.run() == 75
    assert program.run("--probe") == 1
    assert program.effects() == []


def test_hook_does_not_put_back_to_a_version_nobody_serves(hook: tuple[Hook, int]) -> None:
    """A target that the front does not know is impossible, said at once, and changes nothing."""
    program, admin = hook
    call("POST", admin, "/weights", {"v2": 100})
    assert program.run(TO="v0") == 1
    assert call("GET", admin, "/weights")[1]["weights"]["v2"] == 100


def test_hooks_racing_each_other_have_one_effect(hook: tuple[Hook, int]) -> None:
    """Four runs of one action at once: the front changes once."""
    program, admin = hook
    call("POST", admin, "/weights", {"v1": 90, "v2": 10})
    running = [program.start(action_id="race") for _ in range(4)]
    assert [p.wait(timeout=20) for p in running] == [0] * 4
    assert sum(e["effect"] == "set" for e in program.effects()) == 1
    assert sum(c["action_id"] == "race" for c in call("GET", admin, "/weights")[1]["changes"]) == 1


def test_visitors_and_front_and_shop_agree(processes: Processes, tmp_path: Path) -> None:
    """Every visitor is counted once everywhere, and the front adds no error of its own."""
    shop, metrics = start_shop(processes, tmp_path, fault="errors=0.05")
    port, admin = start_front(processes, tmp_path, {"v1": shop})
    processes.start("visitors", ["-m", "watchdog.demo.visitors", "--front", f"http://{HOST}:{port}", "--rate", "150"])
    wait_for(lambda: call("GET", admin, "/stats")[1]["versions"]["v1"]["requests"] > 300, what="300", within_s=20)
    processes.stop("visitors")
    got = json.loads((tmp_path / "visitors.out").read_text())["visitors"]
    front = call("GET", admin, "/stats")[1]["versions"]["v1"]
    served = counters(metrics, "shop_requests_total")
    failed = sum(value for labels, value in served.items() if ("code", "500") in labels)
    assert set(got) <= {"ok", "5xx"}
    assert sum(got.values()) == front["requests"] == sum(served.values())
    assert got.get("5xx", 0) == front["errors"] == failed > 0
    assert front["unanswered"] == 0


def test_guard_ends_what_a_killed_demo_leaves(tmp_path: Path) -> None:
    """SIGKILL of the demo itself: its processes end and its folder goes, though no cleanup of its own ran."""
    folder = tmp_path / "world"
    folder.mkdir()
    program = (
        "import sys, time; from pathlib import Path; from watchdog.demo.processes import Processes\n"
        "p = Processes(Path(sys.argv[1]), remove=True)\n"
        "p.start('sleeper', ['-c', 'import time; time.sleep(600)'])\n"
        "print(p._running['sleeper'].pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, env=environment(None)
    ) as demo:
        assert demo.stdout is not None
        sleeper = int(demo.stdout.readline())
        demo.kill()
    wait_for(lambda: not folder.exists() and not running(sleeper), what="the guard's cleanup", within_s=15)


def running(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stopping_is_quick_and_clean(processes: Processes, tmp_path: Path) -> None:
    """A shop told to stop is gone within moments and leaves nothing on stderr."""
    start_shop(processes, tmp_path)
    pid = processes._running["v1"].pid
    processes.stop("v1")
    assert not running(pid)
    assert (tmp_path / "v1.log").read_text() == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
