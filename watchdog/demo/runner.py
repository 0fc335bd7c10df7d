"""Runs one scenario from the first visitor to the report: what `deploy-watchdog demo` and the tests call."""

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from watchdog.demo.live import View, open_view
from watchdog.demo.report import Ending, as_json, as_text
from watchdog.demo.scenario import NEW, OLD
from watchdog.demo.scenarios import scenario_named
from watchdog.demo.scene import Rates, RollingRates, Scene
from watchdog.demo.tape import Tape, counted
from watchdog.demo.world import DECISION, World

GLANCE_S = 0.4  # between two scenes
AFTER_S = 2.0  # how long the front is watched after the end
LOG_LINES = 15


class DemoFailed(Exception):  # noqa: N818 - an outcome, told in one sentence
    """The demo could not be brought to an end."""


def run(scenario: str, *, json_output: bool = False, keep: Path | None = None, stay: bool = False) -> int:
    """Show one scenario. 0: it ended as it must; 1: it did not; 4: it could not be run at all.

    With `stay`, shop, daemon and pages go on after the report until Ctrl-C.
    """
    try:
        asked = scenario_named(scenario)
        folder = _folder(keep)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 4
    try:
        with _stoppable(), World(asked, folder, keep=keep is not None) as world:
            with _shown(json_output) as view:
                ending = play(world, view, folder if keep is not None else None)
            sys.stdout.write((json.dumps(as_json(ending)) if json_output else as_text(ending, stays=stay)) + "\n")
            if stay:
                _stay(world)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; everything was cleaned up\n")
        return 1
    except (DemoFailed, TimeoutError, RuntimeError, OSError) as error:
        sys.stderr.write(f"the demo broke: {error}\n{_last_words(folder)}")
        return 1
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if ending.as_expected else 1


def play(world: World, view: View, kept: Path | None) -> Ending:
    """Open the shop, deploy, follow the watch to its end, and count."""
    show = Camera(world, view)
    show.scene("opening the shop")
    world.open_shop()
    world.start_daemon()
    _warm_up(world, show)
    world.deploy()
    show.scene("v2 is live; the watchdog looks on")
    watch = follow(world, show)
    show.scene(f"ended: {watch['outcome']}")
    after_end = _after_end(world)
    watch = world.watch() or watch
    front = counted(
        show.tape,
        world.counts_before,
        watch,
        world.front_weights()["changes"],
        scenario=world.scenario,
        after_end=after_end,
    )
    posts = world.slack_desk.posts() if world.slack_desk is not None else None
    return Ending(scenario=world.scenario, watch=watch, front=front, posts=posts, kept=kept)


def _stay(world: World) -> None:
    """Leave everything up to be looked at until Ctrl-C, which is the wanted end here."""
    sys.stderr.write(f"\nThe pages stay up: {world.page}\nSign in with {world.token}\nCtrl-C ends it.\n")
    with contextlib.suppress(KeyboardInterrupt):
        while world.processes.alive("daemon"):
            time.sleep(GLANCE_S)


def follow(world: World, show: "Camera") -> Mapping[str, Any]:
    """Look on until the watch has an outcome; what the scenario holds in store happens at its time."""
    turns = list(world.scenario.turns)
    while True:
        since_s = world.since_deploy_s
        while turns and since_s >= turns[0].after_s:
            turn = turns.pop(0)
            show.scene(world.turn(turn))
        watch = show.scene()
        if watch is not None and watch["outcome"] is not None:
            return watch
        if not world.processes.alive("daemon"):
            raise DemoFailed("the daemon has stopped")
        if since_s > world.scenario.deadline_s:
            raise DemoFailed(f"no outcome {world.scenario.deadline_s:g} s after the deploy")
        time.sleep(GLANCE_S)


class Camera:
    """Turns the world into scenes for the view."""

    def __init__(self, world: World, view: View) -> None:
        self._world = world
        self._view = view
        self._rates = RollingRates()
        self._says = ""
        self.tape = Tape()
        self._decisions: Mapping[tuple[float, str], str] = {}

    def scene(self, says: str | None = None) -> Mapping[str, Any] | None:
        """Show the present moment; returns the watch as it stands."""
        self._says = says if says is not None else self._says
        deployed = self._world.deployed_at is not None
        watch = self._decided(self._world.watch()) if deployed else None
        shares, rates = self._front()
        self._view.show(
            Scene(
                scenario=self._world.scenario,
                says=self._says,
                since_deploy_s=self._world.since_deploy_s if deployed else None,
                shares=shares,
                rates=rates,
                watch=watch,
            )
        )
        return watch

    def _decided(self, watch: dict[str, Any] | None) -> dict[str, Any] | None:
        """The watch with the sentence of each look that decided in its timeline: as the watch's own it is soon gone."""
        if watch is None:
            return None
        known = [(float(entry["at"]), str(entry["event"])) for entry in watch["timeline"]]
        if any(event.startswith(DECISION) and (at, event) not in self._decisions for at, event in known):
            self._decisions = self._world.decisions()
        timeline = [
            {**entry, "text": self._decisions.get(key, entry["text"])}
            for key, entry in zip(known, watch["timeline"], strict=True)
        ]
        return {**watch, "timeline": timeline}

    def _front(self) -> tuple[Mapping[str, float], Mapping[str, Rates]]:
        try:
            weights = self._world.front_weights()["weights"]
            counts = self._world.front_counts()
            self.tape.add(time.time(), counts)
            rates = self._rates.add(time.monotonic(), counts)
        except OSError:  # not open yet
            return {OLD: 0.0, NEW: 0.0}, {OLD: Rates(), NEW: Rates()}
        total = sum(weights.values())
        shares = {OLD: 0.0, NEW: 0.0}
        for name, weight in weights.items():  # a version, or one of its servers
            shares[name.partition("/")[0]] += weight / total
        return shares, rates


def _warm_up(world: World, show: Camera) -> None:
    """Let the daemon see the old version first; longest where the time before is the only baseline."""
    until = time.monotonic() + world.scenario.warm_s
    while (left := until - time.monotonic()) > 0:
        show.scene(f"visitors come; v2 is deployed after {world.scenario.warm_s:g} s of traffic")
        time.sleep(min(GLANCE_S, left))
    show.scene(f"deploying: {world.scenario.story}")


def _after_end(world: World) -> int:
    """Requests that the new version still gets when the watch has ended."""
    ended = world.front_counts()[NEW]["requests"]
    time.sleep(AFTER_S)
    return int(world.front_counts()[NEW]["requests"]) - int(ended)


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="deploy-watchdog-demo-"))
    folder = keep.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{keep} is not empty; --keep wants a folder of its own, so that nothing old is mixed in")
    return folder


@contextlib.contextmanager
def _shown(json_output: bool) -> Iterator[View]:
    view = open_view(json_output=json_output)
    try:
        yield view
    finally:
        view.close()


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end a demo as Ctrl-C does: through every cleanup."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _last_words(folder: Path) -> str:
    log = folder / "daemon.log"
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "".join(f"  daemon: {line}\n" for line in lines)
