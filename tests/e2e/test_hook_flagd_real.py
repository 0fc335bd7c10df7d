"""The hook `flagd` seen by a client: the OpenFeature SDK with its flagd provider, which reads the same file.

The provider evaluates in the program itself, by the same rules as the flagd server, which is not part of this test."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext

from tests.flag_file import FLAG, fractional, written
from tests.hook_calls import promote, rollback
from tests.servers import wait_until
from watchdog.clock import SystemClock
from watchdog.hooks.flagd import FlagdHook, FlagdOptions
from watchdog.ports import HookOutcome

pytestmark = pytest.mark.e2e
PEOPLE = [EvaluationContext(f"visitor-{n}") for n in range(400)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "flags.json", targeting=fractional(("v2", 10), ("v1", 90)))


@pytest.fixture
def client(file: Path) -> Iterator[OpenFeatureClient]:
    """A program that asks its provider, which looks at the file every 50 ms."""
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file), deadline_ms=50)
    api.set_provider_and_wait(provider, "shop")
    yield api.get_client("shop")
    api.shutdown()


def on_new(client: OpenFeatureClient) -> float:
    return sum(client.get_string_value(FLAG, "old", person) == "new" for person in PEOPLE) / len(PEOPLE)


def test_a_client_sees_the_flag_grow_and_go_off(client: OpenFeatureClient, file: Path) -> None:
    """Off for everybody within two seconds of the decision, and at no moment is the file unreadable to it."""
    hook = FlagdHook("flag", FlagdOptions(file=str(file), flag=FLAG), SystemClock(), {}, file.parent / "state")
    faults: list[object] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            details = client.get_string_details(FLAG, "old", PEOPLE[0])
            if details.error_code is not None:
                faults.append(details)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert on_new(client) == pytest.approx(0.1, abs=0.06)
        assert hook.run(promote(0.5, 1)).outcome is HookOutcome.OK
        wait_until(lambda: on_new(client) == pytest.approx(0.5, abs=0.1), within_s=5, what="half of them have it")
        decided = time.monotonic()
        assert hook.run(rollback(2)).outcome is HookOutcome.OK
        wait_until(lambda: on_new(client) == 0, within_s=5, what="it is off")
        assert time.monotonic() - decided < 2.0
    finally:
        stop.set()
        watcher.join()
    assert faults == []
