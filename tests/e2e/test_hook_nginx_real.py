"""The hook `nginx` on a real nginx under load: clients get what was asked for, and no reload costs them a request."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.hook_calls import promote, rollback, switch
from tests.traffic import Traffic, load, versions
from watchdog.clock import SystemClock
from watchdog.hooks.nginx import TEMPLATE, NginxHook, NginxOptions
from watchdog.ports import HookOutcome, ProbeAnswer

CONFIG = """
worker_processes 2;
events { worker_connections 512; }
http {
    access_log off;
    include {file};
    server {
        listen 127.0.0.1:{port};
        location = /-/state { return 200 $shop_state; }
        location / { proxy_pass http://shop; }
    }
}
"""
pytestmark = pytest.mark.e2e


@dataclass
class Stage:
    traffic: Traffic
    nginx: servers.NginxServer
    file: Path
    options: dict[str, Any]
    state_dir: Path

    def hook(self, **changed: Any) -> NginxHook:
        return NginxHook("back", NginxOptions(**{**self.options, **changed}), SystemClock(), {}, self.state_dir)

    def sees(self, share: float, *, within: float) -> None:
        """The clients' own count of v2, over 400 answers; those under way when the hook returned came before."""
        for _ in range(2):
            self.traffic.forget()
            servers.wait_until(lambda: self.traffic.total >= 400, within_s=20, what="400 answers")
        assert self.traffic.of("v2") / self.traffic.total == pytest.approx(share, abs=within)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """v1 and v2 behind nginx, v2 failing every tenth request by itself, 16 clients."""
    port, file = servers.free_port(), tmp_path / "upstream.conf"
    with ExitStack() as stack:
        traffic = stack.enter_context(versions({"v1": 0, "v2": 10}))
        addresses = {version: f"127.0.0.1:{number}" for version, number in traffic.ports.items()}
        first = TEMPLATE.replace("{name}", "shop").replace("{digest}", "d0")
        file.write_text(first.replace("{servers}", f"    server {addresses['v1']};\n"))
        config = CONFIG.replace("{file}", str(file)).replace("{port}", str(port))
        nginx = stack.enter_context(servers.nginx(config, port=port))
        started = [servers.program("nginx"), "-p", str(nginx.folder), "-c", f"{nginx.folder}/nginx.conf"]
        started += ["-e", f"{nginx.folder}/logs/error.log"]
        options = {
            "file": str(file), "upstream": "shop", "servers": {v: (a,) for v, a in addresses.items()},
            "nginx": tuple(started), "state_url": f"{nginx.url}/-/state",
        }  # fmt: skip
        stack.enter_context(load(traffic, nginx.url))
        yield Stage(traffic, nginx, file, options, tmp_path / "state")


def test_the_share_is_what_was_asked_and_no_request_is_lost(stage: Stage) -> None:
    """Promote, promote, switch, back: every failure a client saw was v2's own answer."""
    hook = stage.hook()
    for fence, share in enumerate((0.1, 0.5), 1):
        assert hook.run(promote(share, fence)).outcome is HookOutcome.OK
        assert hook.share(promote(share)) == pytest.approx(share)
        stage.sees(share, within=0.08)  # two workers, each with a turn of its own
    assert hook.run(switch(3)).outcome is HookOutcome.OK
    stage.sees(1.0, within=0.05)
    assert hook.probe(rollback(4)) is ProbeAnswer.NOT_APPLIED
    assert hook.run(rollback(4)).outcome is HookOutcome.OK
    stage.sees(0.0, within=0.0)
    assert hook.probe(rollback(4)) is ProbeAnswer.APPLIED
    assert stage.traffic.not_their_own_fault() == []


def test_a_file_that_nginx_refuses_never_reaches_it(stage: Stage) -> None:
    """The real nginx -t says why; the file and the traffic stay as they were."""
    before = stage.file.read_text()
    broken = stage.hook(template="upstream {name} {\n{servers} no_such_directive;\n}\n", state_url="")
    refused = broken.run(promote(0.5, 1))
    assert (refused.outcome, "no_such_directive" in refused.output) == (HookOutcome.FAILED, True)
    assert stage.file.read_text() == before
    stage.sees(0.0, within=0.0)


def test_a_changed_file_that_nobody_loaded_is_no_success(stage: Stage) -> None:
    """The running nginx is asked: a reload that did nothing is found out, and then done."""
    hook = stage.hook(reload=("true",), timeout_s=0.5)
    assert hook.run(promote(0.5, 1)).outcome is HookOutcome.TIMED_OUT
    assert stage.hook().probe(promote(0.5)) is ProbeAnswer.PARTIAL
    assert stage.hook().run(promote(0.5, 2)).outcome is HookOutcome.OK
    assert stage.hook().probe(promote(0.5)) is ProbeAnswer.APPLIED
    assert stage.traffic.not_their_own_fault() == []
