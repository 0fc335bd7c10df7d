"""What every hook kind in the table must do. A new entry without a case here fails."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.receivers import Answer, Receiver, receiver
from watchdog.clock import SystemClock
from watchdog.hooks import HOOKS
from watchdog.model import ActionKind
from watchdog.ports import Hook, HookCall, HookOutcome, HookResult, ProbeAnswer

CALL = HookCall(
    action_id="c" * 64,
    kind=ActionKind.ROLLBACK,
    attempt=1,
    fence=1,
    service="shop",
    environment="production",
    from_version="v2",
    to_version="v1",
    deploy_id="d1",
)
# kind → options of a hook that works, and of one that fails; `{url}` is a server that says 200, or 500 at /bad
WORKS: dict[str, dict[str, Any]] = {
    "command": {"argv": ("sh", "-c", "exit 0"), "probe_argv": ("sh", "-c", "exit 0")},
    "http": {"url": "{url}/good", "probe_url": "{url}/good"},
    "dry_run": {},
}
FAILS: dict[str, dict[str, Any] | None] = {
    "command": {"argv": ("sh", "-c", "exit 1"), "probe_argv": ("sh", "-c", "exit 1")},
    "http": {"url": "{url}/bad", "probe_url": "{url}/bad"},
    "dry_run": None,  # it cannot
}
Build = Callable[[str, dict[str, Any]], Hook]


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        server.otherwise = lambda request: Answer(500 if request.path == "/bad" else 200, b'{"state": "applied"}')
        yield server


@pytest.fixture
def build(web: Receiver, tmp_path: Path) -> Build:
    """Construct a hook exactly as the composition root does."""

    def built(kind: str, options: dict[str, Any]) -> Hook:
        told = {k: v.replace("{url}", web.url) if isinstance(v, str) else v for k, v in options.items()}
        adapter: Any = HOOKS[kind]
        made: Hook = adapter(
            name="back",
            options=adapter.Options(**told),
            clock=SystemClock(),
            env={"PATH": os.environ["PATH"]},
            state_dir=tmp_path / "state",
        )
        return made

    return built


def test_every_kind_has_its_cases() -> None:
    """Adding a hook means adding how it works and how it fails."""
    assert set(HOOKS) == set(WORKS) == set(FAILS)


@pytest.mark.parametrize("kind", HOOKS)
def test_the_table_names_each_kind_as_it_names_itself(kind: str) -> None:
    """Table, class and configuration say the same word."""
    assert HOOKS[kind].kind == kind


@pytest.mark.parametrize("kind", HOOKS)
def test_options_are_described_frozen_and_closed(kind: str) -> None:
    """Every key is documented, unknown ones are refused, nothing changes after the start."""
    options = HOOKS[kind].Options
    assert issubclass(options, BaseModel)
    assert [name for name, known in options.model_fields.items() if not known.description] == []
    assert options.model_config.get("frozen")
    with pytest.raises(ValidationError, match="extra_forbidden"):
        options(**WORKS[kind], no_such_key=1)


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_that_works_says_ok(kind: str, build: Build) -> None:
    """OK, within its time, and no attempt of it is left."""
    hook = build(kind, WORKS[kind])
    result = hook.run(CALL)
    assert isinstance(result, HookResult)
    assert result.outcome is HookOutcome.OK
    assert 0 <= result.duration_s <= hook.timeout_s
    assert not hook.still_running(CALL.action_id)


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_may_be_called_again(kind: str, build: Build) -> None:
    """The next attempt of an action finds nothing of the former one in its way."""
    hook = build(kind, WORKS[kind])
    assert [hook.run(replace(CALL, attempt=n)).outcome for n in (1, 2, 3)] == [HookOutcome.OK] * 3


@pytest.mark.parametrize("kind", [kind for kind, options in FAILS.items() if options is not None])
def test_a_hook_that_fails_says_so_and_never_raises(kind: str, build: Build) -> None:
    """FAILED and UNKNOWN are answers, not exceptions."""
    options = FAILS[kind]
    assert options is not None
    hook = build(kind, options)
    assert hook.run(CALL).outcome is HookOutcome.FAILED
    assert hook.probe(CALL) is ProbeAnswer.UNKNOWN


@pytest.mark.parametrize("kind", HOOKS)
def test_the_probe_speaks_only_where_there_is_one(kind: str, build: Build) -> None:
    """has_probe tells whether an answer other than UNKNOWN can come."""
    hook = build(kind, WORKS[kind])
    assert hook.probe(CALL) is (ProbeAnswer.APPLIED if hook.has_probe else ProbeAnswer.UNKNOWN)


@pytest.mark.parametrize("kind", [kind for kind in HOOKS if kind != "dry_run"])
def test_nothing_is_idempotent_unless_declared(kind: str, build: Build) -> None:
    """Blind retries are the operator's word, not our guess."""
    assert build(kind, WORKS[kind]).idempotent is False
    assert build(kind, {**WORKS[kind], "idempotent": True}).idempotent is True


@pytest.mark.parametrize("kind", HOOKS)
def test_hostile_words_change_nothing_but_text(kind: str, build: Build, tmp_path: Path) -> None:
    """Shell, header, path and query tricks in every field: an answer comes, and no file."""
    hostile = "$(touch owned)`touch owned`;touch owned\r\nX-Evil: 1\n../../owned?a=b&c#d"
    call = replace(CALL, service=hostile, from_version=hostile, to_version=hostile, params={"x": hostile})
    assert isinstance(build(kind, WORKS[kind]).run(call), HookResult)
    assert not list(tmp_path.rglob("owned*"))
    assert not Path("owned").exists()
