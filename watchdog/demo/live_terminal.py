"""The live view: shares, error rates, the daemon's sentence, its evidence and the timeline, redrawn in place."""

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from watchdog.demo.scenario import NEW, OLD
from watchdog.demo.scene import Scene, clock, percent

COLOURS = {OLD: "green", NEW: "yellow"}
STATE_COLOURS = {"WATCHING": "cyan", "PASSED": "green", "ROLLED_BACK": "magenta", "INCONCLUSIVE": "yellow"}
TIMELINE_LINES = 8
BAR_WIDTH = 50


class TerminalView:
    """Draws scenes with rich until closed; the last one stays."""

    def __init__(self) -> None:
        self._live = Live(auto_refresh=False, transient=False)
        self._live.start()

    def show(self, scene: Scene) -> None:
        self._live.update(drawn(scene), refresh=True)

    def close(self) -> None:
        self._live.stop()


def drawn(scene: Scene) -> RenderableType:
    """One scene as a panel."""
    title = Text.assemble("deploy-watchdog demo: ", (scene.scenario.name, "bold"))
    parts = [Text(scene.scenario.story), Text(), _traffic(scene), Text(), _judgement(scene)]
    if scene.timeline:
        parts += [Text(), _timeline(scene)]
    return Panel(Group(*parts), title=title, subtitle=Text(scene.says), border_style="blue")


def _traffic(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    for version in (OLD, NEW):
        share, rates = scene.shares.get(version, 0.0), scene.rates[version]
        colour = COLOURS[version]
        table.add_row(
            Text(version, style=f"bold {colour}"),
            ProgressBar(total=1.0, completed=share, width=BAR_WIDTH, complete_style=colour, finished_style=colour),
            Text(f"{share:.0%}"),
            Text(f"{rates.requests_per_s:.0f} requests/s"),
            Text(f"errors {percent(rates.error_share)}", style="red" if rates.error_share > 0.03 else ""),
        )
    return table


def _judgement(scene: Scene) -> RenderableType:
    state = Text(scene.state or "waiting", style=f"bold {STATE_COLOURS.get(scene.state, 'white')}")
    line = Text.assemble(state, "  ", Text(clock(scene.since_deploy_s), style="dim"))
    parts: list[RenderableType] = [line, Text(scene.sentence)]
    if scene.evidence is not None:
        have, need = scene.evidence
        bar = ProgressBar(
            total=need, completed=min(have, need), width=BAR_WIDTH, complete_style="red", finished_style="bold red"
        )
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text("evidence against v2"), bar, Text(f"{have:g} of {need:g}"))
        parts.append(grid)
    return Group(*parts)


def _timeline(scene: Scene) -> Table:
    table = Table.grid(padding=(0, 2))
    for at_s, text in scene.timeline[-TIMELINE_LINES:]:
        table.add_row(Text(clock(at_s), style="dim"), Text(text))
    return table
