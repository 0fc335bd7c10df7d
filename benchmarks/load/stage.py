"""Everything that a load test starts: the pretended Prometheus and the real daemon, each a process of its own."""

import base64
import contextlib
import http.client
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load.town import TOKEN_ENV, TOKENS, WEBHOOK_ENV, Town

READY_S = 120.0
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A daemon that runs, and what it is asked by."""

    town: Town
    port: int
    prometheus_port: int
    process: subprocess.Popen[bytes]
    ledger: Path
    tokens: tuple[str, ...]
    webhook_key: bytes = field(repr=False)

    def metrics(self) -> dict[str, float]:
        """What the daemon says about itself, by series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def asked(self) -> bytes:
        """How often the Prometheus was asked, as it counts."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus_port}/counts", timeout=60) as answer:
            return bytes(answer.read())

    def rss_mb(self) -> float:
        """Resident memory of the daemon and the processes that judge for it."""
        return sum(int(fields[21]) for fields in self._processes()) * PAGE / 1e6

    def cpu_s(self) -> float:
        """Processor time that they have used."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._processes()) / TICKS

    def _processes(self) -> Iterator[list[str]]:
        """Fields 3 and following of /proc/PID/stat, of the daemon and its children."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(path.parent.name) == self.process.pid or int(fields[1]) == self.process.pid:
                    yield fields


def p99_s(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    """The bucket bound below which 99 % of what was observed between two readings of a histogram lies."""
    buckets = {
        float(found[1]): after[series] - before.get(series, 0.0)
        for series in after
        if (found := re.fullmatch(rf'deploy_watchdog_{name}_bucket\{{le="([^"]+)"\}}', series))
    }
    total = max(buckets.values(), default=0.0)
    return min((le for le, count in buckets.items() if count >= 0.99 * total), default=float("inf"))


@contextlib.contextmanager
def stage(
    folder: Path, town: Town, *, look_s: float, watch_s: float, baseline_s: float, judges: int
) -> Iterator[Stage]:
    """Start both, wait until the daemon is ready, and stop both in the end."""
    tokens = tuple(secrets.token_hex(16) for _ in range(TOKENS))
    key = secrets.token_bytes(32)
    env = {
        **os.environ,
        **{f"{TOKEN_ENV}_{at}": token for at, token in enumerate(tokens)},
        WEBHOOK_ENV: "whsec_" + base64.b64encode(key).decode(),
    }
    asked = [sys.executable, "-m", "benchmarks.load.prometheus"]
    with contextlib.ExitStack() as running:
        prometheus = running.enter_context(subprocess.Popen(asked, stdout=subprocess.PIPE, env=env))
        running.callback(prometheus.kill)
        assert prometheus.stdout is not None
        prometheus_port, port = int(prometheus.stdout.readline()), _free_port()
        config = folder / "config.toml"
        text = town.config(
            listen=f"127.0.0.1:{port}",
            prometheus=f"http://127.0.0.1:{prometheus_port}",
            ledger=folder / "load.db",
            look_s=look_s,
            watch_s=watch_s,
            baseline_s=baseline_s,
            judges=judges,
        )
        config.write_text(text)
        log = running.enter_context((folder / "daemon.log").open("wb"))
        run = [sys.executable, "-m", "watchdog", "run", "--config", str(config)]
        daemon = running.enter_context(subprocess.Popen(run, stderr=log, env=env))
        running.callback(_stop, daemon)
        found = Stage(
            town=town,
            port=port,
            prometheus_port=prometheus_port,
            process=daemon,
            ledger=folder / "load.db",
            tokens=tokens,
            webhook_key=key,
        )
        _wait_until_ready(found, folder / "daemon.log")
        yield found


def _stop(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.wait(60)
    daemon.kill()


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_until_ready(found: Stage, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if found.process.poll() is not None:
            break
        connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/-/healthy")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.2)
    raise SystemExit(f"the daemon did not start; its last words:\n{log.read_text()[-2000:]}")
