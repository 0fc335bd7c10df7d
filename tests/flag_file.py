"""A flag definition file on disk, and flagd's OFREP service as far as a hook asks it.

flagd itself is a Go program. `ofrep` stands in for its HTTP service alone: the file is evaluated by the OpenFeature
project's own `FlagdCore`, and the answers follow https://openfeature.dev/docs/reference/other-technologies/ofrep/openapi.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError

from tests.receivers import Answer, Received, Receiver, receiver

FLAG = "new-checkout"
OTHERS: dict[str, Any] = {
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@shop.example"]}},
}


def written(path: Path, *, flag: str = FLAG, **changes: Any) -> Path:
    """A file with our flag, on v1 for all but for `changes`, and a flag of somebody else's after it."""
    ours = {
        "state": "ENABLED",
        "variants": {"v1": "old", "v2": "new", "v3": "newer"},
        "defaultVariant": "v1",
        **changes,
    }
    theirs = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "metadata": {"ä": 1}}
    path.write_text(json.dumps({**OTHERS, "flags": {flag: ours, "dark-mode": theirs}}))
    return path


def fractional(*parts: tuple[str, int]) -> dict[str, Any]:
    return {"fractional": [list(part) for part in parts]}


def flag_in(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["flags"][FLAG]
    return found


@contextmanager
def ofrep(path: Path, *, reload: bool = True) -> Iterator[Receiver]:
    """flagd's evaluation service over the file; without `reload` it goes on with what the file said at first."""
    first = path.read_text()

    def answer(request: Received) -> Answer:
        core = FlagdCore()
        core.set_flags(path.read_text() if reload else first)
        key = request.path.removeprefix("/ofrep/v1/evaluate/flags/")
        context = request.json()["context"]
        try:
            found = core.resolve_string_value(key, "", EvaluationContext(context["targetingKey"], context))
        except FlagNotFoundError:
            return Answer(404, json.dumps({"key": key, "errorCode": "FLAG_NOT_FOUND"}).encode())
        said = {"key": key, "reason": str(found.reason), "variant": found.variant, "value": found.value}
        return Answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    with receiver() as web:
        web.otherwise = answer
        yield web
