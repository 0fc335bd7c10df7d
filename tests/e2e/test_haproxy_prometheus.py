"""The daemon beside somebody else's production: Debian's Prometheus scrapes a shop behind Debian's HAProxy.

A bad canary is rolled back over HAProxy's runtime API by the hook `haproxy`. What counts is the traffic that the
new version gets afterwards, as HAProxy and the new version itself count it, not what the hook says about itself.
"""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.talk import answers, call, wait_for

HOST = "127.0.0.1"
TOKEN = "e2e-token-0123456789abcdef"
SHOPS = {"v1-a": "v1", "v1-b": "v1", "v2-a": "v2"}
FAULTS = {"v1": "", "v2": "errors=0.08"}
RATE = 250
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Production:
    """Shop, HAProxy, Prometheus, visitors and the daemon, all on loopback; gone when the stack is closed."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        ports = free_ports(2 * len(SHOPS) + 2)
        self.front, self.daemon = ports[:2]
        self.ports = dict(zip(SHOPS, ports[2::2], strict=True))
        self.metrics = dict(zip(SHOPS, ports[3::2], strict=True))
        self.processes = Processes(folder, remove=False)
        stack.callback(self.processes.close)
        self._start_shops()
        self.haproxy = stack.enter_context(servers.haproxy(self._haproxy_config(), port=self.front))
        addresses = [f"{HOST}:{port}" for port in self.metrics.values()]
        self.prometheus = stack.enter_context(servers.prometheus([(addresses, {"job": "shop"})]))
        visit = ["--front", self.haproxy.url, "--rate", str(RATE), "--seed", "11"]
        self.processes.start("visitors", ["-m", "watchdog.demo.visitors", *visit])

    # --- what runs ----------------------------------------------------------------------------------------

    def _start_shops(self) -> None:
        for name, version in SHOPS.items():
            ports = ["--port", str(self.ports[name]), "--metrics-port", str(self.metrics[name])]
            given = ["--version", version, "--db", str(self.folder / "orders.db"), "--seed", "11", *ports]
            self.processes.start(name, ["-m", "watchdog.demo.shop", *given, "--fault", FAULTS[version]])
        for name in SHOPS:
            wait_for(partial(answers, self.metrics[name], "/metrics"), what=name, within_s=30)

    def _haproxy_config(self) -> str:
        weights = {"v1": 45, "v2": 0}
        behind = {name: (port, weights[SHOPS[name]]) for name, port in self.ports.items()}
        return servers.haproxy_config(f"{HOST}:{self.front}", behind)

    def start_daemon(self) -> None:
        config = self.folder / "config.toml"
        config.write_text(
            f"""
[daemon]
listen = "{HOST}:{self.daemon}"
ledger = "watchdog.db"
[[auth.tokens]]
name = "ci"
token_env = "E2E_TOKEN"
scopes = ["read", "trigger"]
[sources.metrics]
kind = "prometheus"
url = "{self.prometheus.url}"
[hooks.back]
kind = "haproxy"
addresses = [{json.dumps(str(self.haproxy.admin_socket))}]
backend = "shop"
[sinks.log]
kind = "log"
[services.shop]
mode = "auto"
strategy = "canary"
source = "metrics"
rollback_hook = "back"
selector = {{ job = "shop" }}
watch_s = 120
look_s = 5
settle_s = 2
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'shop_requests_total{{code=~"5.."}}'
total = "shop_requests_total"
by = ["route"]
critical = true
[[services.shop.metrics]]
name = "latency"
kind = "latency"
histogram = "shop_request_duration_seconds"
unit = "s"
"""
        )
        self.processes.start("daemon", ["-m", "watchdog", "run", "--config", str(config)], env={"E2E_TOKEN": TOKEN})
        wait_for(lambda: answers(self.daemon, "/-/ready"), what="the daemon", within_s=30)

    def instances(self) -> dict[str, list[str]]:
        """The arms as Prometheus names their instances."""
        arms = {"baseline": "v1", "candidate": "v2"}
        return {
            arm: [f"{HOST}:{self.metrics[n]}" for n in SHOPS if SHOPS[n] == version] for arm, version in arms.items()
        }

    # --- what is asked ------------------------------------------------------------------------------------

    def served_by_haproxy(self, server: str) -> int:
        """Requests that HAProxy has sent to one server so far."""
        lines = [line.split(",") for line in self.haproxy.command("show stat").splitlines() if line]
        column = lines[0].index("stot")
        return int(next(line[column] for line in lines if line[:2] == ["shop", server]))

    def counted_by_shop(self, name: str) -> int:
        """Requests that one instance has answered so far, by its own count."""
        page = urllib.request.urlopen(f"http://{HOST}:{self.metrics[name]}/metrics", timeout=5).read().decode()
        return int(sum(float(value) for value in re.findall(r"^shop_requests_total\{.*\} (\S+)$", page, re.M)))

    def weights(self) -> dict[str, int]:
        lines = self.haproxy.command("show servers state shop").splitlines()
        header = next(line for line in lines if line.startswith("# ")).split()[1:]
        rows = [dict(zip(header, line.split(), strict=False)) for line in lines[2:] if line]
        return {row["srv_name"]: int(row["srv_uweight"]) for row in rows}

    def is_scraped(self) -> bool:
        """Whether Prometheus has seen every instance alive."""
        query = urllib.parse.quote("count(up == 1) == 3")
        with urllib.request.urlopen(f"{self.prometheus.url}/api/v1/query?query={query}", timeout=5) as answer:
            return bool(json.load(answer)["data"]["result"])

    def ask_daemon(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return call(method, self.daemon, path, body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout_s=40.0)

    def watch(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask_daemon("GET", "/api/v1/deploys/e2e-1")[1]
        return answer


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    """A production that is gone after the test, whatever happened in it."""
    with ExitStack() as stack:
        yield Production(tmp_path, stack)


@pytest.mark.timeout(240)
def test_a_bad_canary_gets_no_traffic_after_its_rollback(production: Production) -> None:
    """Noticed through Prometheus, undone at HAProxy once, proven by 0 new requests to the new version."""
    wait_for(production.is_scraped, what="samples of all instances", within_s=30, step_s=0.5)
    production.start_daemon()
    assert production.served_by_haproxy("v2-a") == 0
    production.haproxy.command("set server shop/v2-a weight 10")
    event = {"id": "e2e-1", "service": "shop", "version": "v2", "previous_version": "v1", "share": 0.1}
    event |= {"instances": production.instances()}
    assert production.ask_daemon("POST", "/api/v1/deploys", event)[0] == 201

    wait_for(lambda: production.watch()["outcome"] is not None, what="an outcome", within_s=150, step_s=0.5)
    watch = production.watch()
    assert (watch["outcome"], watch["verdict"], watch["metric"]) == ("rolled_back", "DEGRADED", "errors"), watch
    assert production.weights() == {"v1-a": 45, "v1-b": 45, "v2-a": 0}

    sent, answered, old = production.served_by_haproxy("v2-a"), production.counted_by_shop("v2-a"), _old(production)
    wait_for(lambda: _old(production) > old + 2 * RATE, what="traffic of the old version", within_s=20, step_s=0.2)
    assert production.served_by_haproxy("v2-a") == sent
    assert production.counted_by_shop("v2-a") == answered

    # what is answered after the last scrape that was judged is not counted; on a busy machine that may be a second
    assert watch["exposed_requests"] == pytest.approx(sent, rel=0.05, abs=0.1 * RATE)
    assert watch["time_to_detect_s"] <= 40, watch["timeline"]


def _old(production: Production) -> int:
    return production.served_by_haproxy("v1-a") + production.served_by_haproxy("v1-b")
