"""`backtest --config`: the real past deploys of a service, judged as the daemon would have judged them."""

import json as json_text
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchdog.cli.live_past import deploys_of, seconds, service_of
from watchdog.cli.output import print_lines, print_table, tell, when
from watchdog.cli.progress import progress
from watchdog.cli.whole_file import write_whole
from watchdog.errors import WatchdogError
from watchdog.telling import lasting

if TYPE_CHECKING:
    from watchdog.past import Replayed

_COLUMNS = ("deployed", "version", "before", "would", "after", "metric", "what would have been said")
_WOULD = {"roll back": "be rolled back", "hold": "be held", "pass": "pass", "nothing": "be left alone"}


def backtest_live(
    config: Path, service: str | None, *, since: str, deploys: Path | None, out: Path | None
) -> "list[Replayed]":
    """Replay the deploys since then, and print or write what would have been said of each."""
    from watchdog.past import replay

    with service_of(config, service) as past:
        until = past.clock.now()
        begin = until - seconds(since)
        found, _ = deploys_of(past, deploys, since=begin, until=until)
        if not found:
            raise WatchdogError(
                f"no deploy of {past.name} since {when(begin)}: none is on record, and no version began to serve while "
                "another one did; tell them by --deploys CSV, with the columns time and version"
            )
        with progress("judging") as told:
            judged = replay(past, found, until=until, progress=told)
    lines = [json_text.dumps(_document(past.name, one), ensure_ascii=False) for one in judged]
    if out is not None:
        write_whole(out, "".join(f"{line}\n" for line in lines))
    if out is None or str(out) != "-":
        print_table(_COLUMNS, [_row(one) for one in judged])
    (tell if out is not None and str(out) == "-" else _print_line)(_summary(judged))
    return judged


def _print_line(line: str) -> None:
    sys.stdout.flush()
    print_lines([line])


def _row(one: "Replayed") -> tuple[str, ...]:
    after = "-" if one.alarm_at_s is None else lasting(one.alarm_at_s)
    before = one.deploy.previous_version or "-"
    return (when(one.deploy.at), one.deploy.version, before, one.would, after, one.metric or "-", one.sentence)


def _document(service: str, one: "Replayed") -> dict[str, Any]:
    told = asdict(one)
    deploy = told.pop("deploy")
    return {
        "id": deploy["id"] or f"{service}-{deploy['version']}",
        "service": service,
        "deployed_at": deploy["at"],
        "version": deploy["version"],
        "previous_version": deploy["previous_version"],
        "found_in": deploy["found_in"],
        **told,
    }


def _summary(judged: "Sequence[Replayed]") -> str:
    many = Counter(one.would for one in judged)
    told = ", ".join(f"{many[would]} would {words}" for would, words in _WOULD.items() if many[would])
    return f"{len(judged)} deploy{'' if len(judged) == 1 else 's'}, in mode auto: {told}"
