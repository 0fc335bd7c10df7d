"""What every hook kind in the table must do. A new entry without a case here fails."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.flag_file import written
from tests.git_desk import GitDesk
from tests.kube_server import NAMESPACE, kube_server
from tests.receivers import Answer, Receiver, receiver
from tests.runtime_api import runtime_api
from tests.unleash_server import ENVIRONMENT, TOKEN, small_unleash
from watchdog.clock import SystemClock
from watchdog.hooks import HOOKS
from watchdog.hooks.wanted_state import WantedStateHook
from watchdog.model import ActionKind
from watchdog.ports import Hook, HookCall, HookOutcome, HookResult, LooksAhead, ProbeAnswer, SharesTraffic

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
# kind → options of a hook that works, and of one that fails; `{url}` is a server that says 200, or 500 at /bad;
# `{kube}` is a cluster where shop went from v1 to v2 and back;
# `{haproxy}` has backend "shop" with v1-a in and v2-a out; `{folder}` holds what `places` puts there
UPSTREAM = {"upstream": "shop", "servers": {"v1": ("127.0.0.1:1",), "v2": ("127.0.0.1:2",)}, "nginx": ("true",)}
UNLEASH = {"environment": ENVIRONMENT, "off": ("v1",), "token_env": "UNLEASH_TOKEN"}
WORKS: dict[str, dict[str, Any]] = {
    "command": {"argv": ("sh", "-c", "exit 0"), "probe_argv": ("sh", "-c", "exit 0")},
    "http": {"url": "{url}/good", "probe_url": "{url}/good"},
    "dry_run": {},
    "gate": {},
    "haproxy": {"addresses": ("{haproxy}",), "backend": "shop"},
    "nginx": {"file": "{folder}/upstream.conf", **UPSTREAM},
    "git_revert": {"remote": "{folder}/remote.git"},
    "flagd": {"file": "{folder}/flags.json", "flag": "new-checkout"},
    "unleash": {"url": "{unleash}", "flag": "new-checkout", **UNLEASH},
    "kubernetes": {"url": "{kube}", "namespace": NAMESPACE, "deployment": "shop"},
    "argo_rollouts": {"url": "{kube}", "namespace": NAMESPACE, "rollout": "argo-shop"},
}
FAILS: dict[str, dict[str, Any] | None] = {
    "command": {"argv": ("sh", "-c", "exit 1"), "probe_argv": ("sh", "-c", "exit 1")},
    "http": {"url": "{url}/bad", "probe_url": "{url}/bad"},
    "dry_run": None,  # it cannot
    "gate": None,
    "haproxy": {"addresses": ("{haproxy}",), "backend": "none"},
    "nginx": {"file": "{folder}/none.conf", **UPSTREAM},
    "git_revert": {"remote": "{folder}/remote.git", "tag": "none-{version}"},
    "flagd": {"file": "{folder}/flags.json", "flag": "none"},
    "unleash": {"url": "{unleash}", "flag": "none", **UNLEASH},
    "kubernetes": {"url": "{kube}", "namespace": NAMESPACE, "deployment": "none"},
    "argo_rollouts": {"url": "{kube}", "namespace": NAMESPACE, "rollout": "none"},
}
IDEMPOTENT_IF_DECLARED = frozenset({"command", "http"})  # the others are by what they do: they set a wanted state
Build = Callable[[str, dict[str, Any]], Hook]


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        server.otherwise = lambda request: Answer(500 if request.path == "/bad" else 200, b'{"state": "applied"}')
        yield server


@pytest.fixture
def places(web: Receiver, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What stands for the words in braces."""
    (tmp_path / "upstream.conf").write_text("upstream shop {\n    server 127.0.0.1:1;\n}\n")
    written(tmp_path / "flags.json")
    with runtime_api({"v1-a": 100, "v2-a": 0}) as haproxy, kube_server() as kube, small_unleash() as unleash:
        kube.create("deployments", "shop", "v1")
        kube.create("rollouts", "argo-shop", "v1", strategy={"canary": {}})
        for version in ("v2", "v1"):
            kube.deploy("deployments", "shop", version)
            kube.deploy("rollouts", "argo-shop", version)
        unleash.new_flag(name="new-checkout", on=False)
        addresses = {"{haproxy}": haproxy.address, "{kube}": kube.url, "{unleash}": unleash.url}
        yield {"{url}": web.url, "{folder}": str(tmp_path), **addresses}


def filled(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, tuple):
        return tuple(filled(inner, places) for inner in value)
    for word, place in places.items():
        value = value.replace(word, place) if isinstance(value, str) else value
    return value


def v2_was_taken_back(folder: Path) -> None:
    desk = GitDesk(folder)
    for tag, content in (("v1", "v1"), ("v2", "v2"), (None, "v1")):
        desk.deploy(tag, {"app.txt": content})


@pytest.fixture
def build(places: dict[str, str], tmp_path: Path) -> Build:
    """Construct a hook exactly as the composition root does."""

    def built(kind: str, options: dict[str, Any]) -> Hook:
        if kind == "git_revert" and not (tmp_path / "remote.git").exists():
            v2_was_taken_back(tmp_path)
        told = {key: filled(value, places) for key, value in options.items()}
        adapter: Any = HOOKS[kind]
        made: Hook = adapter(
            name="back",
            options=adapter.Options(**told),
            clock=SystemClock(),
            env={"PATH": os.environ["PATH"], "UNLEASH_TOKEN": TOKEN},
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


@pytest.mark.parametrize("kind", sorted(IDEMPOTENT_IF_DECLARED))
def test_what_we_cannot_know_is_not_idempotent_unless_declared(kind: str, build: Build) -> None:
    """Blind retries of somebody else's program are the operator's word, not our guess."""
    assert build(kind, WORKS[kind]).idempotent is False
    assert build(kind, {**WORKS[kind], "idempotent": True}).idempotent is True


@pytest.mark.parametrize("kind", sorted(set(HOOKS) - IDEMPOTENT_IF_DECLARED))
def test_our_own_hooks_may_run_twice(kind: str, build: Build) -> None:
    """They set a wanted state; the second run finds it there and changes nothing."""
    hook = build(kind, WORKS[kind])
    assert hook.idempotent
    assert [hook.run(CALL).outcome, hook.run(CALL).outcome] == [HookOutcome.OK] * 2


@pytest.mark.parametrize("kind", [kind for kind in HOOKS if issubclass(HOOKS[kind], WantedStateHook)])
def test_an_older_fence_changes_nothing(kind: str, build: Build) -> None:
    """A slow promote that comes after the rollback is refused, also by another instance of the hook."""
    assert build(kind, WORKS[kind]).run(replace(CALL, fence=8)).outcome is HookOutcome.OK
    late = build(kind, WORKS[kind]).run(replace(CALL, fence=7, kind=ActionKind.PROMOTE, params={"share": 1.0}))
    assert (late.outcome, "older" in late.output) == (HookOutcome.FAILED, True)


@pytest.mark.parametrize("kind", [kind for kind in HOOKS if issubclass(HOOKS[kind], WantedStateHook)])
def test_they_look_ahead_and_read_the_share(kind: str, build: Build) -> None:
    """Nothing is in the way of what works, something is of what does not, and both are answers."""
    works = build(kind, WORKS[kind])
    assert isinstance(works, LooksAhead)
    assert works.preflight(CALL) is None
    fails = build(kind, FAILS[kind] or {})
    assert isinstance(fails, LooksAhead)
    assert fails.preflight(CALL)
    assert isinstance(fails, SharesTraffic)
    assert fails.share(CALL) is None


@pytest.mark.parametrize("kind", HOOKS)
def test_hostile_words_change_nothing_but_text(kind: str, build: Build, tmp_path: Path) -> None:
    """Shell, header, path and query tricks in every field: an answer comes, and no file."""
    hostile = "$(touch owned)`touch owned`;touch owned\r\nX-Evil: 1\n../../owned?a=b&c#d"
    call = replace(CALL, service=hostile, from_version=hostile, to_version=hostile, params={"x": hostile})
    assert isinstance(build(kind, WORKS[kind]).run(call), HookResult)
    assert not list(tmp_path.rglob("owned*"))
    assert not Path("owned").exists()
