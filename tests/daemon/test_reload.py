"""SIGHUP: another configuration is taken whole, or not at all; what is being watched goes on as it began."""

import gc
import logging
import random
import signal
import subprocess
import sys
import urllib.request
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.fakes import FakeClock
from tests.servers import answers, free_port, wait_until
from watchdog.app import build, load_config
from watchdog.model import AuditEntry, Watch
from watchdog.running import Running, spare_collector

REPO = Path(__file__).resolve().parents[2]
ENV = {"OLD": "an-old-token-0123456789", "NEW": "a-new-token-0123456789"}
CONFIG = """
[daemon]
listen = "127.0.0.1:{port}"
ledger = "{ledger}"
tick_s = 0.2

[[auth.tokens]]
name = "ci"
token_env = "OLD"
scopes = ["read", "trigger", "admin"]

[sources.pages]
kind = "scrape"
targets = [{{ url = "http://127.0.0.1:1/metrics", labels = {{ version = "v1" }} }}]

[hooks.back]
kind = "command"
argv = ["/bin/false"]

[sinks.log]
kind = "log"

[services.shop]
source = "pages"
watch_s = 600.0
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{{code="500"}}'
total = "r"
"""
ANOTHER_SERVICE = """
[services.other]
source = "more"
[[services.other.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{code="500"}'
total = "r"

[sources.more]
kind = "scrape"
targets = [{ url = "http://127.0.0.1:1/other", labels = { version = "v1" } }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(port=free_port(), ledger=tmp_path / "w.db"))
    return path


@pytest.fixture
def running(file: Path) -> Iterator[Running]:
    """A daemon that has started to read its pages; nothing ticks."""
    daemon = Running(build(load_config(file, ENV), clock=FakeClock(), env=ENV), lambda: load_config(file, ENV))
    for source in daemon.app.sources.values():
        source.start()
    yield daemon
    daemon.stop()


def deploy(running: Running, service: str, *, token: str = "OLD", name: str = "d1") -> int:
    """Tell the daemon of a deploy; the status of its answer."""
    client = TestClient(running.web)
    body = {"id": name, "service": service, "version": "v2", "previous_version": "v1"}
    return client.post("/api/v1/deploys", json=body, headers={"Authorization": f"Bearer {ENV[token]}"}).status_code


def watch(running: Running, name: str = "d1") -> Watch:
    found = running.app.ledger.watch(name)
    assert found is not None
    return found


def metric(running: Running, name: str) -> float:
    found = running.app.frame.telemetry.registry.get_sample_value(f"deploy_watchdog_{name}")
    assert found is not None
    return found


def in_force(running: Running) -> list[AuditEntry]:
    return [entry for entry in running.app.ledger.audit() if entry.event == "config.in_force"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('source = "pages"', 'source = "page"', "did you mean 'pages'"),
        ('kind = "ratio"', "kind = ratio", "config.toml:"),
        ('token_env = "OLD"', 'token_env = "NOWHERE"', "NOWHERE"),
        ("[sinks.log]", "[sinks.log", "config.toml:"),
        ("tick_s = 0.2", "tick_s = 0.2\nlease_s = 0.0001", "lease_s"),
    ],
)
def test_a_mistake_keeps_the_former_configuration(
    running: Running, file: Path, caplog: pytest.LogCaptureFixture, before: str, after: str, told: str
) -> None:
    """Not a part of it is taken: the log names the line, a metric says so, and deploys are taken as before."""
    former, text = running.app, file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after) + ANOTHER_SERVICE)
    with caplog.at_level(logging.ERROR):
        assert not running.reload()
    assert running.app is former
    assert told in caplog.text
    assert metric(running, "config_last_reload_successful") == 0
    assert (deploy(running, "shop"), deploy(running, "other", name="d2")) == (201, 404)
    assert len(in_force(running)) == 1
    file.write_text(text)
    assert running.reload()
    assert metric(running, "config_last_reload_successful") == 1


def test_a_file_that_is_gone_keeps_the_former_configuration(running: Running, file: Path) -> None:
    """An editor that writes anew, or a mount that is not there yet, stops nobody."""
    file.unlink()
    assert not running.reload()
    assert deploy(running, "shop") == 201


def test_another_configuration_holds_for_what_comes_and_not_for_what_is_watched(running: Running, file: Path) -> None:
    """New services, tokens and lengths for new deploys; the watch that has begun keeps its plan."""
    assert deploy(running, "shop") == 201
    plan = watch(running).plan
    text = file.read_text().replace('token_env = "OLD"', 'token_env = "NEW"').replace("600.0", "900.0")
    file.write_text(text + ANOTHER_SERVICE)
    assert running.reload()
    assert deploy(running, "shop", name="late") == 401
    assert deploy(running, "shop", token="NEW", name="d2") == 201
    assert deploy(running, "other", token="NEW", name="d3") == 201
    assert watch(running).plan == plan
    assert (plan.watch_s, watch(running, "d2").plan.watch_s) == (600.0, 900.0)
    first, second = in_force(running)
    assert first.details["digest"] != second.details["digest"]
    assert (first.details["services"], second.details["services"]) == (1, 2)


def test_sources_that_did_not_change_keep_what_they_have_read(running: Running, file: Path) -> None:
    """Counts between two readings would be lost with the first one; what changed is begun anew."""
    pages = running.app.sources["pages"]
    file.write_text(file.read_text() + ANOTHER_SERVICE)
    assert running.reload()
    assert running.app.sources["pages"] is pages is running.app.pipeline.sources["pages"]
    more = running.app.sources["more"]
    file.write_text(file.read_text().replace("/other", "/elsewhere"))
    assert running.reload()
    assert running.app.sources["more"] is not more
    assert running.app.sources["pages"] is pages


@pytest.mark.parametrize("key", ["listen", "ledger", "judges"])
def test_what_cannot_change_is_refused_and_named(
    running: Running, file: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """Half of a change would be worse than none."""
    lines = file.read_text().replace("[daemon]", "[daemon]\njudges = 0").splitlines()
    other = {"judges": "judges = 1", "listen": 'listen = "127.0.0.1:9"', "ledger": 'ledger = "elsewhere.db"'}[key]
    file.write_text("\n".join(other if line.startswith(f"{key} =") else line for line in lines) + ANOTHER_SERVICE)
    assert not running.reload()
    assert f"daemon.{key}" in caplog.text
    assert "restart it" in caplog.text
    assert deploy(running, "other") == 404


def test_whatever_the_file_says_it_is_taken_whole_or_not_at_all(
    running: Running, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """60 damaged files: each is refused with a sentence, or in force; never a traceback."""
    text, draw = file.read_text() + ANOTHER_SERVICE, random.Random(5)
    taken = 0
    for _ in range(60):
        damaged = bytearray(text.encode())
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(damaged))
            damaged[at : at + draw.randint(0, 3)] = bytes(draw.choices(b'"=[]{}.\n #0a\xff', k=draw.randint(0, 2)))
        file.write_bytes(damaged)
        former = running.app
        changed = running.reload()
        assert (running.app is not former) is changed
        taken += changed
    assert 0 < taken < 60
    assert "Traceback" not in caplog.text
    file.write_text(text)
    assert running.reload()
    assert deploy(running, "other") == 201


def test_a_real_daemon_takes_sighup(file: Path) -> None:
    """A broken file first: it goes on; a good one next: it is in force, without a restart."""
    listen = load_config(file, ENV).daemon.listen
    argv = [sys.executable, "-m", "watchdog", "run", "--config", str(file)]
    good = file.read_text()

    def shown(wanted: str) -> bool:
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
            return wanted in answer.read().decode().splitlines()

    with subprocess.Popen(argv, cwd=REPO, env=ENV, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            wait_until(lambda: answers(f"http://{listen}/-/ready"), within_s=60, what="the daemon is ready")
            assert shown("deploy_watchdog_config_last_reload_successful 1.0")
            file.write_text("[daemon")
            daemon.send_signal(signal.SIGHUP)
            failed = "deploy_watchdog_config_last_reload_successful 0.0"
            wait_until(lambda: shown(failed), within_s=60, what="the failure is shown")
            file.write_text(good.replace("[sinks.log]", "[sinks.other]"))
            daemon.send_signal(signal.SIGHUP)
            taken = "deploy_watchdog_config_last_reload_successful 1.0"
            wait_until(lambda: shown(taken), within_s=60, what="the good one is in force")
            assert answers(f"http://{listen}/-/healthy")
            daemon.send_signal(signal.SIGTERM)
            _, said = daemon.communicate(timeout=60)
        finally:
            daemon.kill()
    assert daemon.returncode == 0
    assert "the former one stays" in said
    assert "Traceback" not in said


class Knot:
    """Something that refers to itself: only the garbage collector can free it."""

    def __init__(self) -> None:
        self.me = self


def test_what_is_there_at_the_start_is_spared_and_later_garbage_is_not() -> None:
    """Full collections pass over what stays as long as the daemon; what comes and goes is still found."""
    before = gc.get_threshold()
    try:
        spare_collector()
        assert gc.get_freeze_count() > 10_000
        knot = Knot()
        gone = weakref.ref(knot)
        del knot
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
