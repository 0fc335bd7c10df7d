"""The wired daemon as a process."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port, wait_until
from watchdog.app import build, load_config

REPO = Path(__file__).resolve().parents[2]
CONFIG = """
[daemon]
listen = "127.0.0.1:{port}"
ledger = "{ledger}"

[sources.pages]
kind = "scrape"
targets = [{{ url = "http://127.0.0.1:{closed}/metrics", labels = {{ version = "v1" }} }}]

[sinks.log]
kind = "log"

[services.shop]
source = "pages"
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{{code="500"}}'
total = "r"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    ledger = tmp_path / "w.db"
    path.write_text(CONFIG.format(port=free_port(), closed=free_port(), ledger=ledger))
    return path


def answers(url: str) -> bool:
    try:
        with closing(urllib.request.urlopen(url, timeout=1)) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_sigterm_stops_the_daemon_in_order(config: Path) -> None:
    """Exit 0, and the next daemon finds an unlocked ledger without a leftover log of writes."""
    listen = load_config(config, {}).daemon.listen
    argv = [sys.executable, "-m", "watchdog", "run", "--config", str(config)]
    with subprocess.Popen(argv, cwd=REPO, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            wait_until(lambda: answers(f"http://{listen}/-/healthy"), what="the daemon answers", within_s=40)
            daemon.send_signal(signal.SIGTERM)
            _, said = daemon.communicate(timeout=30)
        finally:
            daemon.kill()  # nothing is left behind, whatever failed
    assert daemon.returncode == 0, said
    assert "Traceback" not in said
    assert not (config.parent / "w.db-wal").exists(), "the ledger was closed, not dropped"
    again = build(load_config(config, {}), env={})
    again.ledger.close()


def test_a_built_daemon_takes_a_deploy_and_says_what_it_cannot_see(config: Path) -> None:
    """Everything is wired: intake, ledger, pipeline, source, telling."""
    from watchdog.intake import DeployRequest

    app = build(load_config(config, {}), env={})
    try:
        fields: dict[str, Any] = {"id": "d1", "service": "shop", "version": "v2", "previous_version": "v1"}
        _, watch = app.intake.receive(DeployRequest.model_validate(fields), actor="test")
        assert app.ledger.watch("d1") == watch
        assert app.pipeline.tick() == 0, "not due yet"
        assert [row.message.key for row, _ in app.ledger.messages("d1")] == ["started"]
    finally:
        app.ledger.close()
