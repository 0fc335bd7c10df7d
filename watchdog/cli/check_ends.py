"""What `check` says of the ends of the road: programs and probes of hooks, and whether sinks can be reached."""

import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from watchdog.app import Parts
from watchdog.cli.findings import Finding
from watchdog.config import Config, read_secret
from watchdog.errors import WatchdogError
from watchdog.model import ActionKind
from watchdog.ports import Hook, HookCall, ProbeAnswer

_CONNECT_S = 3.0
_NO_VERSION = "deploy-watchdog-check"  # a version that never was: the probe is asked about going back from it
_PORTS = {"http": 80, "https": 443}


def hook_findings(config: Config) -> Iterator[Finding]:
    """Say whether the programs of the hooks are there. None is run: a hook changes production."""
    for name, hook in config.hooks.items():
        for key in ("argv", "probe_argv"):
            argv = getattr(hook.options, key, ())
            if argv:
                yield _program(f"hooks.{name}.{key}", argv[0])
        probes = [getattr(hook.options, key) for key in ("probe_argv", "probe_url") if hasattr(hook.options, key)]
        if probes and not any(probes):
            yield Finding(
                "warning",
                f"hooks.{name}",
                "without a probe nobody can tell whether an interrupted rollback took effect; it will wait as UNKNOWN",
                "set probe_argv or probe_url",
            )


def _program(about: str, program: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return Finding(
            "problem", about, f"there is no program {program!r} that may be run", "install it, or chmod +x it"
        )
    return Finding("ok", about, found)


def probe_findings(config: Config, parts: Parts, versions: Mapping[str, str]) -> Iterator[Finding]:
    """Ask every rollback hook's probe, which changes nothing, about a rollback to the version that is live now."""
    asked: set[str] = set()
    for name, service in config.services.items():
        hook = parts.hooks.get(service.rollback_hook or "")
        if service.rollback_hook is None or hook is None or not hook.has_probe or service.rollback_hook in asked:
            continue
        asked.add(service.rollback_hook)
        version = versions.get(name, "")
        if not version:
            yield Finding(
                "ok", f"hooks.{service.rollback_hook}", "its probe was not asked: no version is live to ask about"
            )
            continue
        yield _probed(f"hooks.{service.rollback_hook}", hook, name, service.environment, version)


def _probed(about: str, hook: Hook, service: str, environment: str, version: str) -> Finding:
    call = HookCall(
        action_id="check",
        kind=ActionKind.ROLLBACK,
        attempt=1,
        fence=0,
        service=service,
        environment=environment,
        from_version=_NO_VERSION,
        to_version=version,
        deploy_id="check",
    )
    try:
        answer = hook.probe(call)
    except WatchdogError as error:
        return Finding("warning", about, f"its probe could not be asked: {error.message}", "see that it runs here")
    if answer is ProbeAnswer.UNKNOWN:
        remedy = "see that its addresses, files and programs can be reached from here"
        if hook.kind == "command":
            remedy = "it must say 0 in effect, 3 not, 4 in part or 5 neither; run it by hand with TO=" + version
        return Finding("warning", about, f"its probe cannot tell whether {version} is live", remedy)
    return Finding("ok", about, f"its probe, asked whether {version} is live, says {answer.value}")


def sink_findings(config: Config) -> Iterator[Finding]:
    """Say whether somebody listens where the sinks send. Nothing is sent."""
    for name, sink in config.sinks.items():
        address = _address(sink.options, config.base)
        if not address:
            continue
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
        try:
            socket.create_connection((host, port), timeout=_CONNECT_S).close()
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            remedy = "see that its address is right and that it can be reached from here"
            yield Finding("warning", f"sinks.{name}", f"{host}:{port} cannot be reached: {why}", remedy)
        else:
            yield Finding("ok", f"sinks.{name}", f"{host}:{port} can be reached")


def _address(options: Any, base: Path) -> str:
    """Where a sink sends: a secret address, else the one of its options. Only its host is ever shown."""
    env, file = getattr(options, "webhook_url_env", ""), getattr(options, "webhook_url_file", "")
    secret = read_secret(env, file, os.environ, base) if env or file else None
    if secret is not None:
        return secret.get_secret_value()
    return str(getattr(options, "url", "") or getattr(options, "base_url", ""))
