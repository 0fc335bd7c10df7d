"""Everything around the daemon: shop, front, visitors and the third party, as processes, and what happens to them."""

import json
from pathlib import Path

from watchdog.demo.faults import Fault, render_fault
from watchdog.demo.orders import CENTS, TOTAL_CENTS
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.roll_out import RollOut
from watchdog.demo.scenario import NEW, OLD, Actor, Scenario, Turn
from watchdog.demo.serving import HOST
from watchdog.demo.talk import answers, call, wait_for

START_S = 60.0  # a busy machine imports slowly


class EndedEarlyError(RuntimeError):
    """One of the world's processes ended before it answered."""


def wait_answers(processes: Processes, port: int, path: str, who: str) -> None:
    """Wait until somebody answers there; EndedEarlyError as soon as `who` has ended."""

    def answered() -> bool:
        if not processes.alive(who):
            raise EndedEarlyError(f"{who} ended before it answered; its last words are in {who}.log")
        return answers(port, path)

    wait_for(answered, what=f"an answer of {who}", within_s=START_S)


class Street:
    """Starts what a scenario needs and lets its turns happen."""

    def __init__(self, scenario: Scenario, folder: Path, processes: Processes) -> None:
        self._scenario = scenario
        self._folder = folder
        self._processes = processes
        instances = scenario.instances
        ports = free_ports(4 + 2 * len(instances))
        self.front_port, self.front_admin_port, self._visitors_port, self._payments_port = ports[:4]
        self._ports = dict(zip(instances, ports[4::2], strict=True))
        self.metrics_ports = dict(zip(instances, ports[5::2], strict=True))
        self.payments_url = f"http://{HOST}:{self._payments_port}"
        self.roll_out = RollOut(self.front_admin_port)

    def open(self) -> None:
        """The old version serves everybody."""
        if self._scenario.payments:
            self._processes.start("payments", ["-m", "watchdog.demo.payments", "--port", str(self._payments_port)])
        old = self._scenario.of_version(OLD)
        for instance in old:
            self._start_instance(instance)
        upstreams = [part for version in (OLD, NEW) for part in self._upstreams(version)]
        ports = ["--port", str(self.front_port), "--admin-port", str(self.front_admin_port)]
        state = ["--state", str(self._folder / "weights.json")]
        self._processes.start("front", ["-m", "watchdog.demo.front", *ports, *upstreams, *state])
        for instance in old:
            wait_answers(self._processes, self.metrics_ports[instance], "/metrics", instance)
        wait_answers(self._processes, self.front_admin_port, "/weights", "front")
        visit = ["--front", f"http://{HOST}:{self.front_port}", "--rate", str(self._scenario.rate)]
        visit += ["--admin-port", str(self._visitors_port), "--mix", json.dumps(self._scenario.mix)]
        self._processes.start("visitors", ["-m", "watchdog.demo.visitors", *visit])

    def _upstreams(self, version: str) -> list[str]:
        """What the front knows of a version: all its servers together, or each by itself where they are replaced."""
        urls = {name: f"http://{HOST}:{self._ports[name]}" for name in self._scenario.of_version(version)}
        if self._scenario.strategy == "rolling":
            return [word for name, url in urls.items() for word in ("--upstream", f"{name.replace('-', '/')}={url}")]
        return ["--upstream", f"{version}={','.join(urls.values())}"]

    def _start_instance(self, instance: str) -> None:
        scenario = self._scenario
        version = scenario.instances[instance]
        fault = scenario.usual
        if version != OLD and scenario.fault != Fault():
            fault = scenario.fault
        fault = scenario.server_faults.get(instance, fault)
        given = ["--version", version or OLD, "--db", str(self._folder / "orders.db")]
        given += ["--port", str(self._ports[instance]), "--metrics-port", str(self.metrics_ports[instance])]
        if not version:
            given += ["--variations", f"{OLD},{NEW}"]
        if scenario.migrates == "rename":
            given += ["--column", TOTAL_CENTS if version == NEW else CENTS]
        if scenario.payments:
            given += ["--payments", self.payments_url]
        self._processes.start(instance, ["-m", "watchdog.demo.shop", *given, "--fault", render_fault(fault)])

    def start_new(self, *, first_only: bool) -> None:
        """Start the new version; nobody is sent to it yet. first_only: its other servers come one by one."""
        started = [name for name, version in self._scenario.instances.items() if version == NEW]
        for instance in started[:1] if first_only else started:
            self._start_instance(instance)
            if not self._scenario.fault.hang:
                wait_answers(self._processes, self.metrics_ports[instance], "/metrics", instance)

    def turn(self, turn: Turn) -> str:
        """Let something happen; returns what to say of it."""
        if turn.actor is Actor.ROLL_OUT:
            done = self._update(str(turn.changes["server"]))
            return turn.says if done else "the roll-out was stopped: no further server gets v2"
        admins = {
            Actor.SHOP: [
                (self.metrics_ports[name], "/-/fault")
                for version in turn.versions
                for name in self._scenario.of_version(version)
                if self._processes.alive(name)  # a server that is not updated yet has no new version
            ],
            Actor.VISITORS: [(self._visitors_port, "/-/visits")],
            Actor.FRONT: [(self.front_admin_port, "/skew")],
            Actor.PAYMENTS: [(self._payments_port, "/-/fault")],
        }
        for port, path in admins[turn.actor]:
            status, answer = call("PUT", port, path, dict(turn.changes))
            if status != 200:
                raise RuntimeError(f"{turn.actor.value} refuses {turn.changes}: {answer}")
        return turn.says

    def _update(self, server: str) -> bool:
        """The next server of a roll-out, unless that was stopped or undone; the old process stands by meanwhile."""
        if not self.roll_out.may_go_on():
            return False
        self._start_instance(f"{NEW}-{server}")
        wait_answers(self._processes, self.metrics_ports[f"{NEW}-{server}"], "/metrics", f"{NEW}-{server}")
        return self.roll_out.update(server)
