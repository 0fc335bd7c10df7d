"""Another service of the same street, small and watched too: it asks the same third party for its money."""

import json
from pathlib import Path

from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.scenario import NEW, OLD
from watchdog.demo.serving import HOST
from watchdog.demo.street import wait_answers
from watchdog.demo.talk import call
from watchdog.demo.visitors import MIX

KIOSK = "kiosk"
RATE = 30.0  # visitors per second, all of them buyers
_INSTANCES = {"kiosk-a": OLD, "kiosk-b": NEW}


class Kiosk:
    """Two processes of the shop's program behind a front of their own; half of its visitors get its new version."""

    def __init__(self, folder: Path, processes: Processes, *, payments: str) -> None:
        self._folder = folder
        self._processes = processes
        self._payments = payments
        ports = free_ports(2 + 2 * len(_INSTANCES))
        self._front_port, self._front_admin_port = ports[:2]
        self._ports = dict(zip(_INSTANCES, ports[2::2], strict=True))
        self._metrics_ports = dict(zip(_INSTANCES, ports[3::2], strict=True))

    def open(self) -> None:
        """Both versions, the front and the buyers; the old version serves everybody."""
        upstreams = []
        for name, version in _INSTANCES.items():
            given = ["--version", version, "--db", str(self._folder / "kiosk.db"), "--payments", self._payments]
            given += ["--port", str(self._ports[name]), "--metrics-port", str(self._metrics_ports[name])]
            self._processes.start(name, ["-m", "watchdog.demo.shop", *given])
            upstreams += ["--upstream", f"{version}=http://{HOST}:{self._ports[name]}"]
        ports = ["--port", str(self._front_port), "--admin-port", str(self._front_admin_port)]
        self._processes.start("kiosk-front", ["-m", "watchdog.demo.front", *ports, *upstreams])
        for name in _INSTANCES:
            wait_answers(self._processes, self._metrics_ports[name], "/metrics", name)
        wait_answers(self._processes, self._front_admin_port, "/weights", "kiosk-front")
        mix = json.dumps({page: float(page == "checkout") for page in MIX})
        visit = ["--front", f"http://{HOST}:{self._front_port}", "--rate", str(RATE), "--mix", mix]
        self._processes.start("kiosk-visitors", ["-m", "watchdog.demo.visitors", *visit])

    def deploy(self, at: float) -> dict[str, object]:
        """Give the new version half of the buyers; returns the event that CI sends."""
        status, answer = call("POST", self._front_admin_port, "/weights", {OLD: 50, NEW: 50})
        if status != 200:
            raise RuntimeError(f"the kiosk's front refuses the weights: {answer}")
        return {
            "id": "demo-kiosk",
            "service": KIOSK,
            "version": NEW,
            "previous_version": OLD,
            "strategy": "canary",
            "share": 0.5,
            "deployed_at": at,
        }

    def config(self, *, look_s: float, watch_s: float) -> str:
        """Its part of the daemon's configuration."""
        targets = "\n".join(
            f'[[sources.kiosk.targets]]\nurl = "http://{HOST}:{self._metrics_ports[name]}/metrics"\n'
            f'labels = {{ version = "{version}" }}\n'
            for name, version in _INSTANCES.items()
        )
        return f"""
[sources.kiosk]
kind = "scrape"
{targets}
[services.{KIOSK}]
environment = "demo"
mode = "notify"
source = "kiosk"
look_s = {look_s:g}
watch_s = {watch_s:g}

[[services.{KIOSK}.metrics]]
name = "errors"
kind = "ratio"
bad = 'shop_requests_total{{code=~"5.."}}'
total = "shop_requests_total"
critical = true
"""
