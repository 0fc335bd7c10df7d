"""The hook `unleash`: on the real server by `make e2e-unleash`, in every run on a small one with the same answers."""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.hook_calls import promote, rollback, switch
from tests.receivers import Answer, receiver
from tests.unleash_server import ENVIRONMENT, TOKEN, Unleash, gradual, real_unleash, small_unleash
from watchdog.clock import SystemClock
from watchdog.hooks.unleash import UnleashHook, UnleashOptions
from watchdog.ports import HookOutcome, ProbeAnswer

IS_REAL = os.environ.get("E2E") == "unleash"
STAFF = {"constraints": [{"contextName": "email", "operator": "STR_ENDS_WITH", "values": ["@shop.example"]}]}
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", params=["small", "real"] if IS_REAL else ["small"])
def unleash(request: pytest.FixtureRequest) -> Iterator[Unleash]:
    with real_unleash() if request.param == "real" else small_unleash() as server:
        yield server


def a_hook(unleash: Unleash, flag: str, folder: Path, **options: Any) -> UnleashHook:
    options = {"url": unleash.url, "environment": ENVIRONMENT, "flag": flag, "off": ("v1",), **options}
    return UnleashHook("flag", UnleashOptions(token_env="TOKEN", **options), SystemClock(), {"TOKEN": TOKEN}, folder)


def test_it_grows_by_the_gradual_rollout_and_goes_off(unleash: Unleash, tmp_path: Path) -> None:
    """The percentage is set, off is the environment's switch, and a second run changes nothing."""
    flag = unleash.new_flag()
    hook = a_hook(unleash, flag, tmp_path)
    assert (hook.share(promote(0.1)), hook.share(rollback())) == (0.1, 0.9)
    assert hook.run(promote(0.25, 1)).outcome is HookOutcome.OK
    assert (hook.probe(promote(0.25)), hook.share(promote(0.25))) == (ProbeAnswer.APPLIED, 0.25)
    assert unleash.flag(flag)["strategies"][0]["parameters"]["rollout"] == "25"
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    assert [hook.run(rollback(n)).outcome for n in (2, 3)] == [HookOutcome.OK] * 2
    assert unleash.flag(flag)["enabled"] is False
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)


def test_a_client_sees_it_go_off(unleash: Unleash, tmp_path: Path) -> None:
    """By the API that clients ask, within two seconds."""
    if not unleash.client_token:
        pytest.skip("the small server has no API for clients: make e2e-unleash")
    flag = unleash.new_flag()

    def seen() -> dict[str, Any]:
        request = urllib.request.Request(
            f"{unleash.url}/api/client/features/{flag}", headers={"Authorization": unleash.client_token}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found

    hook = a_hook(unleash, flag, tmp_path)
    assert seen()["enabled"] is True
    ended = hook.run(rollback())
    assert (seen()["enabled"], ended.duration_s < 2) == (False, True)


def test_a_switch_turns_it_on_for_everybody_and_a_promotion_never_does(unleash: Unleash, tmp_path: Path) -> None:
    """What somebody turned off stays off until somebody turns it on."""
    flag = unleash.new_flag(on=False)
    hook = a_hook(unleash, flag, tmp_path)
    ended = hook.run(promote(0.5, 1))
    assert (ended.outcome, "hands off" in ended.output) == (HookOutcome.FAILED, True)
    assert hook.probe(promote(0.5)) is ProbeAnswer.MOVED_ON
    assert unleash.flag(flag)["strategies"][0]["parameters"]["rollout"] == "10"
    assert hook.run(switch(2)).outcome is HookOutcome.OK
    assert (hook.probe(switch()), hook.share(switch())) == (ProbeAnswer.APPLIED, 1.0)


def test_going_back_may_mean_on(unleash: Unleash, tmp_path: Path) -> None:
    """A deploy that turned an old feature off is taken back by turning it on for everybody."""
    flag = unleash.new_flag(on=False)
    hook = a_hook(unleash, flag, tmp_path, off=("v2",))
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert (hook.probe(rollback()), unleash.flag(flag)["enabled"]) == (ProbeAnswer.APPLIED, True)


def test_strategies_of_others_stay_as_they_are(unleash: Unleash, tmp_path: Path) -> None:
    """Staff have a rollout of their own; ours is the one without constraints, or the one that is named."""
    flag = unleash.new_flag(gradual(100, **STAFF), gradual(5))
    hook = a_hook(unleash, flag, tmp_path)
    assert hook.run(promote(0.5)).outcome is HookOutcome.OK
    assert [s["parameters"]["rollout"] for s in unleash.flag(flag)["strategies"]] == ["100", "50"]
    two = unleash.new_flag(gradual(5, title="a"), gradual(7, title="b"))
    assert "2 gradual rollouts" in a_hook(unleash, two, tmp_path).run(promote(0.5, 2)).output
    assert a_hook(unleash, two, tmp_path, title="b").run(promote(0.5, 3)).outcome is HookOutcome.OK
    assert [s["parameters"]["rollout"] for s in unleash.flag(two)["strategies"]] == ["5", "50"]


def test_a_flag_for_everybody_is_no_share(unleash: Unleash, tmp_path: Path) -> None:
    """A standard strategy beside ours gives it to all; off is off all the same."""
    standard = {"name": "default", "parameters": {}, "constraints": [], "segments": []}
    flag = unleash.new_flag(gradual(5), standard)
    hook = a_hook(unleash, flag, tmp_path)
    assert hook.share(promote(0.5)) == 1.0
    assert hook.run(promote(0.5, 1)).outcome is HookOutcome.RETRY
    assert hook.run(rollback(2)).outcome is HookOutcome.OK
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED


@pytest.mark.parametrize("share", [0.125, 0.001])
def test_a_share_between_two_percents_is_refused(unleash: Unleash, tmp_path: Path, share: float) -> None:
    """Clients draw by whole percents; nothing is rounded silently."""
    flag = unleash.new_flag()
    assert "whole percents" in a_hook(unleash, flag, tmp_path).run(promote(share)).output
    assert unleash.flag(flag)["strategies"][0]["parameters"]["rollout"] == "10"


def test_what_is_in_the_way_is_told_when_the_watch_begins(unleash: Unleash, tmp_path: Path) -> None:
    """No such flag, a token that is not taken, versions that mean the same; the token is not repeated."""
    flag = unleash.new_flag()
    assert a_hook(unleash, flag, tmp_path).preflight(rollback()) is None
    assert "404" in str(a_hook(unleash, "none", tmp_path).preflight(rollback()))
    stranger = a_hook(unleash, flag, tmp_path)
    stranger._headers = {"Authorization": "*:*.somebody-else"}
    said = str(stranger.preflight(rollback()))
    assert ("401" in said, "somebody-else" in said) == (True, False)
    assert "both mean on" in str(a_hook(unleash, flag, tmp_path, off=("v0",)).preflight(rollback()))


def test_a_server_that_is_away_or_mad_is_an_answer(tmp_path: Path) -> None:
    """Also one that says 200 and changes nothing: no OK."""
    away = a_hook(Unleash("http://127.0.0.1:1"), "x", tmp_path)
    assert (away.run(rollback(1)).outcome, away.probe(rollback())) == (HookOutcome.RETRY, ProbeAnswer.UNKNOWN)
    for body, outcome in ((b"ok", HookOutcome.FAILED), (b'{"enabled": 1}', HookOutcome.FAILED)):
        with receiver() as web:
            web.otherwise = lambda request, body=body: Answer(200, body)  # type: ignore[misc]
            assert a_hook(Unleash(web.url), "x", tmp_path).run(rollback(2)).outcome is outcome
    with receiver() as web:
        web.otherwise = lambda request: Answer(200, b'{"enabled": true, "strategies": []}')
        assert a_hook(Unleash(web.url), "x", tmp_path).run(rollback(3)).outcome is HookOutcome.RETRY


@pytest.mark.parametrize("wrong", [{"url": "unleash"}, {"off": ()}, {"flag": ""}])
def test_mistakes_are_found_by_check(wrong: dict[str, Any]) -> None:
    """An address is whole, and something means off."""
    with pytest.raises(ValidationError):
        UnleashOptions(**{"url": "https://unleash.example", "environment": "production", "flag": "x", **wrong})
