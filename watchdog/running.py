"""The daemon as a process: serves until it is told to stop, and takes another configuration by SIGHUP."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

from starlette.types import ASGIApp, Receive, Scope, Send

from watchdog.app import App, build, rebuilt
from watchdog.config import Config, config_digest
from watchdog.errors import ConfigError, Problem, WatchdogError
from watchdog.model import AuditEntry
from watchdog.web import serve

_log = logging.getLogger(__name__)

COLLECT = (10_000, 10, 10)  # new objects before the young are looked at, and how often before those that stayed are
LASTING = (
    "listen",
    "ledger",
    "ledger_password_env",
    "ledger_password_file",
    "traces",
    "judges",
)  # for as long as it runs


def run(config: Config, read: Callable[[], Config]) -> None:
    """Build a daemon and serve until SIGTERM or Ctrl-C. `read` reads the configuration again, when SIGHUP comes."""
    door = _listening(config.daemon.listen)  # first of all: a daemon that nobody can reach does not begin to work
    running = Running(build(config), read)
    host, _, port = config.daemon.listen.rpartition(":")
    # The server raises the signal again once it has closed; as an exception it lets the daemon stop in order.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.signal(signal.SIGHUP, running.reload_soon)
    try:
        running.app.start()
        spare_collector()
        _log.info("listening on http://%s, ledger %s", config.daemon.listen, config.daemon.ledger)
        serve(running.web, host.strip("[]"), int(port)).run(sockets=[door])
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):  # stopping has begun; nothing hurries a hook
            signal.signal(number, signal.SIG_IGN)
        running.stop()


def _listening(listen: str) -> socket.socket:
    """
    Raises
    ------
    WatchdogError
        The address is taken, or not of this machine.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        told = f"nothing can listen on {listen}: {why}; stop what does, or change [daemon] listen"
        raise WatchdogError(told, permanent=True) from None


def spare_collector() -> None:
    """Tell the garbage collector that what is there now stays.

    A full collection looks at all else, holds up every thread meanwhile (for a sixth of a second beside a thousand
    watches, before this was done), and finds next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


class Running:
    """A daemon whose configuration can be exchanged: all of it, or none."""

    def __init__(self, app: App, read: Callable[[], Config]) -> None:
        self.app = app
        self._read = read
        self._one_at_a_time = threading.Lock()
        self._told(app.config, ok=True)

    @property
    def web(self) -> ASGIApp:
        """Whatever is in force when a request comes in answers it."""

        async def now(scope: Scope, receive: Receive, send: Send) -> None:
            await self.app.web(scope, receive, send)

        return now

    def reload_soon(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of SIGHUP: requests and rounds go on meanwhile."""
        threading.Thread(target=self.reload, name="reload", daemon=True).start()

    def reload(self) -> bool:
        """Read the configuration again and go on by it. One with a mistake changes nothing, aloud."""
        with self._one_at_a_time:
            try:
                config = self._read()
                _refuse_what_lasts(self.app.config, config)
                self._exchange(rebuilt(self.app, config))
            except ConfigError as error:
                for problem in error.problems:
                    _log.error("the configuration was not taken, the former one stays: %s", problem)
            except WatchdogError as error:
                _log.error("the configuration was not taken, the former one stays: %s", error)
            except Exception:  # noqa: BLE001 (whatever it was, the daemon goes on as it was)
                _log.exception("the configuration was not taken, the former one stays")
            else:
                self._told(config, ok=True)
                return True
            self._told(self.app.config, ok=False)
            return False

    def stop(self) -> None:
        """Stop in order; a reload that has begun ends first."""
        with self._one_at_a_time:
            self.app.stop()

    def _exchange(self, app: App) -> None:
        former = self.app
        fresh = [source for name, source in app.sources.items() if former.sources.get(name) is not source]
        try:
            for source in fresh:
                source.start()
        except BaseException:
            for source in fresh:
                source.close()
            raise
        self.app = app
        app.scheduler.exchange(app.pipeline, sinks=app.sinks, easel=app.easel, tick_s=app.config.daemon.tick_s)
        app.frame.in_force.config = app.config  # from now on messages are for its sinks: the outbox knows them
        for name, source in former.sources.items():
            if app.sources.get(name) is not source:
                source.close()

    def _told(self, config: Config, *, ok: bool) -> None:
        now, frame = self.app.clock.now(), self.app.frame
        frame.telemetry.configured(ok=ok, at=now)
        if not ok:
            return
        digest = config_digest(config)
        _log.info("configuration %s in force, services: %s", digest[:12], ", ".join(config.services) or "none")
        why = "deploys from now on are watched by it; those that are being watched keep theirs"
        details = {"digest": digest, "services": len(config.services)}
        entry = AuditEntry(
            at=now, watch_id=None, actor="daemon", event="config.in_force", why=why, details=details
        )  # fmt: skip
        try:
            frame.ledger.append_audit(entry)
        except WatchdogError as error:
            _log.warning("the audit could not be told of the configuration in force: %s", error)


def _refuse_what_lasts(former: Config, config: Config) -> None:
    """
    Raises
    ------
    ConfigError
        Something changed that a running daemon cannot change.
    """
    changed = [key for key in LASTING if getattr(former.daemon, key) != getattr(config.daemon, key)]
    if changed:
        told = "cannot change while the daemon runs; restart it, or put the former value back"
        raise ConfigError([Problem("", None, f"daemon.{key}", told) for key in changed])
