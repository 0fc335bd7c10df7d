"""What the demo's versions share, as real parts: table, lock, schema, pool; and a front that skews a route."""

import sqlite3
from pathlib import Path

import pytest

from watchdog.app import load_config
from watchdog.demo.kiosk import KIOSK
from watchdog.demo.migration import drop, rename
from watchdog.demo.orders import TOTAL_CENTS, BrokenError, BusyError, Orders
from watchdog.demo.pool import SLOTS, ConnectionPool
from watchdog.demo.report import FrontCount
from watchdog.demo.scenarios import SCENARIOS
from watchdog.demo.settings import SERVICE, SLACK_TOKEN_ENV, TOKEN_ENV
from watchdog.demo.skew import Skew
from watchdog.demo.tape import Tape, counted
from watchdog.demo.weights import Request, load
from watchdog.demo.world import World
from watchdog.model import Mode


def sell(orders: Orders) -> int:
    return orders.add(version="v", customer="ada", items="1", cents=3450)


def test_a_renamed_column_breaks_who_knows_the_old_name_only(tmp_path: Path) -> None:
    """The schema of v2: v1 cannot write any more, v2 can only now."""
    old, new = Orders(tmp_path / "o.db"), Orders(tmp_path / "o.db", column=TOTAL_CENTS)
    assert sell(old) == 1
    with pytest.raises(BrokenError, match=TOTAL_CENTS):
        sell(new)
    db = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
    rename(db)
    drop(db)
    with pytest.raises(BrokenError, match="cents"):
        sell(old)
    assert sell(new) == 2
    for opened in (old, new, db):
        opened.close()


def test_a_locked_table_is_busy_for_every_writer_and_free_again_afterwards(tmp_path: Path) -> None:
    """Nobody waits inside the call: the shop's event loop goes on."""
    orders = Orders(tmp_path / "o.db")
    db = sqlite3.connect(tmp_path / "o.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError):
        sell(orders)
    db.execute("COMMIT")
    assert sell(orders) == 1
    orders.close()
    db.close()


def test_a_pool_is_empty_for_everybody_when_one_keeps_its_connections(tmp_path: Path) -> None:
    """Two pools over the same slots, as two processes have."""
    ours, theirs = ConnectionPool(tmp_path), ConnectionPool(tmp_path)
    kept = [theirs.take() for _ in range(SLOTS)]
    assert None not in kept
    assert ours.take() is None
    for slot in kept:
        assert slot is not None
        theirs.give_back(slot)
    again = ours.take()
    assert again is not None
    ours.give_back(again)


def test_a_skewed_route_changes_the_mix_and_not_the_share() -> None:
    """Three checkouts of ten go to v2, and v2 still gets a tenth of all visitors."""
    weights, skew = load(["v1", "v2"], None), Skew(version="v2")
    weights.change(Request(weights={"v1": 90, "v2": 10}))
    skew.change({"/checkout": 0.3})
    visits = ["/checkout" if number % 7 == 0 else "/" for number in range(7000)]
    served = [(path, skew.moved(weights.pick(), "v1", path)) for path in visits]
    in_v2 = [path for path, version in served if version == "v2"]
    assert abs(len(in_v2) - 700) <= 10
    assert 0.25 < in_v2.count("/checkout") / 1000 < 0.35
    with pytest.raises(ValueError, match="share"):
        skew.change({"/checkout": 3})


def test_a_front_that_is_paused_says_so_and_refuses_what_is_no_pause() -> None:
    """Under the same fence as the weights; kept over a restart with them."""
    front = load(["v1", "v2"], None)
    assert front.pause(Request(weights={"paused": True}, fence=4))
    assert not front.pause(Request(weights={"paused": True}, fence=4))
    assert (front.paused, front.revision) == (True, 1)
    for asked in (Request(weights={"paused": 1}), Request(weights={}), Request(weights={"paused": False}, fence=3)):
        with pytest.raises(Exception, match=r"expected|fence"):
            front.pause(asked)
    assert front.paused


def test_front_and_daemon_are_compared_at_the_same_moment() -> None:
    """The front's figures are those of the daemon's last look; missing orders are counted at v1's rate."""
    tape = Tape()
    zero = {"requests": 0, "errors": 0, "orders": 0}
    for second in range(31):
        v1 = {"requests": 90 * second, "errors": second, "orders": 9 * second}
        tape.add(1000.0 + second, {"v1": v1, "v2": {"requests": 10 * second, "errors": 0, "orders": 0}})
    watch = {"degraded_at": 1019.0, "time_to_detect_s": 19.0, "deployed_at": 1000.0, "looks": 4}
    changes = [
        {"at": 1005.0, "action_id": "", "weights": {"v1": 100, "v2": 0}},
        {"at": 1019.4, "action_id": "a", "weights": {"v1": 100, "v2": 0}},
    ]
    found = counted(tape, {"v1": zero, "v2": zero}, watch, changes, scenario=SCENARIOS["business"], after_end=0)
    assert found == FrontCount(exposed=200, errors=0, total=2000, after_end=0, missing_orders=20, traffic_back_s=0.4)


def test_the_kiosk_is_a_service_of_its_own_that_only_tells(tmp_path: Path) -> None:
    """Two services in one configuration, each with its own pages; nothing of the kiosk is rolled back."""
    scenario = SCENARIOS["dependency-outage"]
    with World(scenario, tmp_path, keep=True) as world:
        (tmp_path / "config.toml").write_text(world._config())
    loaded = load_config(tmp_path / "config.toml", {TOKEN_ENV: "t" * 32, SLACK_TOKEN_ENV: "xoxb-1"})
    kiosk, shop = loaded.services[KIOSK], loaded.services[SERVICE]
    assert (kiosk.mode, kiosk.environment) == (Mode.NOTIFY, shop.environment)
    assert kiosk.source != shop.source
