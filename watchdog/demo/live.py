"""How a running demo is shown: a live view on a terminal, plain lines everywhere else."""

import math
import sys
from typing import Protocol, TextIO

from watchdog.demo.scene import Scene, clock, traffic

PLAIN_EVERY_S = 5.0


class View(Protocol):
    """Takes the scenes of a demo, about two a second."""

    def show(self, scene: Scene) -> None: ...
    def close(self) -> None: ...


def open_view(*, json_output: bool) -> View:
    """The view that suits where the output goes. With --json it is stderr, so that stdout holds one line."""
    if json_output:
        return PlainView(sys.stderr)
    if sys.stdout.isatty():
        from watchdog.demo.live_terminal import TerminalView

        return TerminalView()
    return PlainView(sys.stdout)


class PlainView:
    """One line when something new is said, at most every few seconds while only figures move."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said = ""
        self._state = ""
        self._sentence = ""
        self._sentence_at_s = -math.inf
        self._told = 0

    def show(self, scene: Scene) -> None:
        if scene.says != self._said:
            self._said = scene.says
            self._line(scene.since_deploy_s, scene.says)
        timeline = scene.timeline
        for at_s, text in timeline[self._told :]:
            self._line(at_s, text)
        self._told = max(self._told, len(timeline))
        self._show_sentence(scene)

    def _show_sentence(self, scene: Scene) -> None:
        now_s = scene.since_deploy_s or 0.0
        if scene.sentence == self._sentence or any(_is_told_by(text, scene.sentence) for _, text in scene.timeline):
            return
        if scene.state == self._state and now_s - self._sentence_at_s < PLAIN_EVERY_S:
            return
        self._sentence, self._state, self._sentence_at_s = scene.sentence, scene.state, now_s
        self._line(scene.since_deploy_s, f"{scene.sentence}  [{traffic(scene)}]")

    def _line(self, at_s: float | None, text: str) -> None:
        self._out.write(f"{clock(at_s):>8}  {text}\n")
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


def _is_told_by(text: str, sentence: str) -> bool:
    """A decision in the timeline says all that the sentence after its title says."""
    _, _, said = sentence.partition(": ")
    return bool(said) and text.endswith(f": {said}")
