"""Flagger and Argo Rollouts ask before they go on; the answer follows the watch and all its brakes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.intake_desk import CONFIG, Desk, desk, sent
from tests.samples import a_watch
from watchdog.gate import Word, gate
from watchdog.intended import rollback_action
from watchdog.model import ActionState, AuditEntry, Change, HoldReason, MessageKind, Mode, Severity, State
from watchdog.telling import message

NOW = 1_700_000_000.0
QUESTIONS = ("confirm-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "rollback")
# what Flagger may be told in each state: a letter for each of QUESTIONS, y is 200 and n is 409
IN_AUTO = {
    State.WATCHING: "yyynn",
    State.PASSED: "yyyyn",
    State.HELD: "yynnn",
    State.INCONCLUSIVE: "yynnn",
    State.INTENT: "yyynn",  # the kill switch may still keep it from being claimed
    State.RUNNING: "ynnny",
    State.VERIFYING: "ynnny",
    State.ROLLED_BACK: "ynnny",
    State.NOT_RECOVERED: "ynnny",
    State.FAILED: "ynnny",
    State.UNKNOWN: "ynnny",
    State.SUPERSEDED: "yynnn",
}
ID = "flagger:prod:shop:5bf8cd5b8b"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


@pytest.fixture
def begun(daemon: Desk) -> Desk:
    assert daemon.send("flagger", "flagger-pre-rollout").json()["id"] == ID
    return daemon


def move(daemon: Desk, *states: State, watch_id: str = ID, hold: HoldReason | None = None) -> None:
    """Take a watch along the road as the pipeline would."""
    for state in states:
        watch, now = daemon.watch(watch_id), daemon.clock.now()
        said = message(watch, MessageKind.PROGRESS, Severity.INFO, state.value, state=state, key=f"{state}{now}")
        entry = AuditEntry(at=now, watch_id=watch.id, actor="daemon", event="test", after=state.value)
        fields = {"hold": hold, "sentence": f"shop is {state.value}"}
        moved = Change(watch_id=watch.id, at=now, expect_state=watch.state, to_state=state, fields=fields,
                       audit=(entry,), messages=(said,))  # fmt: skip
        assert daemon.app.ledger.commit(moved)


def answers(daemon: Desk) -> str:
    told = [daemon.ask(question).status_code for question in QUESTIONS]
    return "".join({200: "y", 409: "n"}[status] for status in told)


@pytest.mark.parametrize("state", IN_AUTO)
def test_the_gate_in_auto_follows_the_state(state: State) -> None:
    """`rollback` is answered with yes exactly where a rollback was claimed, never by accident."""
    from watchdog.reception import _YES
    from watchdog.senders.flagger import QUESTIONS as ASKED

    watch = replace(a_watch(), state=state, updated_at=NOW, mode=Mode.AUTO, hold=HoldReason.MIGRATION)
    word = gate(watch, (), NOW).word
    assert "".join("y" if word in _YES[ASKED[hook]] else "n" for hook in QUESTIONS) == IN_AUTO[state]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY])
@pytest.mark.parametrize("state", list(State))
def test_what_only_tells_holds_nothing_up(mode: Mode, state: State) -> None:
    """In observe and notify every answer is go, whatever was found."""
    assert gate(replace(a_watch(), mode=mode, state=state), ("Alert",), NOW).word is Word.GO


def test_only_a_claimed_rollback_opens_the_way_back() -> None:
    """Over all states and modes: `back` never without the daemon's own action having begun, or a smoke test failed."""
    began = {State.RUNNING, State.RETRY_WAIT, State.VERIFYING, State.UNKNOWN, State.ROLLED_BACK, State.NOT_RECOVERED,
             State.FAILED, State.SMOKE_FAILED}  # fmt: skip
    for state in State:
        for mode in Mode:
            word = gate(replace(a_watch(), mode=mode, state=state, updated_at=NOW), (), NOW).word
            assert (word is Word.BACK) == (state in began and mode in (Mode.APPROVE, Mode.AUTO))


def test_an_old_rollback_does_not_roll_back_a_new_roll_out() -> None:
    """The same version, rolled out anew before anybody told of it: a human is asked."""
    watch = replace(a_watch(), state=State.ROLLED_BACK, updated_at=NOW)
    assert gate(watch, (), NOW + watch.plan.watch_s).word is Word.BACK
    assert gate(watch, (), NOW + watch.plan.watch_s + 1).word is Word.ASK


def test_a_human_may_let_it_stay_but_silence_is_no_answer() -> None:
    """Denied or cancelled by somebody: go. A hold that ran out: ask."""
    watch = replace(a_watch(), state=State.CANCELLED)
    assert gate(watch, (), NOW).word is Word.GO
    assert gate(replace(watch, hold=HoldReason.MIGRATION), (), NOW).word is Word.ASK


# --- Flagger ----------------------------------------------------------------------------------------------


def test_flagger_begins_the_watch_before_traffic(daemon: Desk) -> None:
    """`confirm-rollout` may pass before anything is known; `pre-rollout` begins; repeated it is the same deploy."""
    assert daemon.ask("confirm-rollout").status_code == 200
    assert daemon.app.ledger.watches() == []
    assert daemon.ask("pre-rollout").status_code == 201
    assert daemon.ask("pre-rollout").status_code == 200
    assert [watch.id for watch in daemon.app.ledger.watches()] == [ID]


def test_while_nobody_told_of_it_nothing_is_rolled_back_or_promoted(daemon: Desk) -> None:
    """Flagger's `rollback` means roll back on 2xx: a daemon that knows nothing says no."""
    assert answers(daemon) == "yynnn"
    assert "nobody has told" in daemon.ask("rollback").json()["sentence"]


def test_the_answers_follow_the_watch(begun: Desk) -> None:
    """From watching over a rollback that is on its way to its end."""
    assert answers(begun) == "yyynn"
    move(begun, State.INTENT, State.RUNNING)
    assert answers(begun) == "ynnny"
    move(begun, State.VERIFYING, State.ROLLED_BACK)
    assert answers(begun) == "ynnny"


def test_a_promotion_waits_for_the_verdict(begun: Desk) -> None:
    """409 while it is watched, 200 once it passed."""
    move(begun, State.PASSED)
    assert answers(begun) == "yyyyn"


def test_a_held_deploy_waits_for_a_human(begun: Desk) -> None:
    """No traffic, no promotion, no rollback; what fails in Flagger's eyes (`rollout`) is not failed."""
    move(begun, State.HELD, hold=HoldReason.MIGRATION)
    assert answers(begun) == "yynnn"


@pytest.mark.parametrize("hook", ["rollback", "rollout", "confirm-promotion", "confirm-traffic-increase"])
def test_a_refusal_never_looks_like_a_yes(begun: Desk, hook: str) -> None:
    """No credential, a malformed body, an unknown service: never 2xx."""
    body = sent("flagger-pre-rollout").body
    assert begun.post("flagger", body, hook=hook, known=False).status_code == 401
    assert begun.post("flagger", {**body, "name": 7}, hook=hook).status_code == 422
    assert begun.post("flagger", {**body, "name": "none"}, hook=hook).status_code in (403, 404)
    assert begun.post("flagger", b"", hook=hook).status_code == 422


def test_another_canary_does_not_answer_for_this_one(begun: Desk) -> None:
    """A new checksum that nobody told of: its predecessor's rollback is not its own."""
    move(begun, State.INTENT, State.RUNNING, State.VERIFYING, State.ROLLED_BACK)
    assert begun.ask("rollback", checksum="66f9dd5f4d").status_code == 409
    assert begun.ask("rollback").status_code == 200


def test_the_same_checksum_later_is_a_new_deploy(begun: Desk) -> None:
    """A, then B, then A again: a watch of its own each time, and questions go to the newest."""
    move(begun, State.INTENT, State.RUNNING, State.VERIFYING, State.ROLLED_BACK)
    begun.clock.advance(10)
    assert begun.ask("pre-rollout", checksum="66f9dd5f4d").status_code == 201
    begun.clock.advance(10)
    assert begun.ask("rollback").status_code == 409, "the newest is B"
    again = begun.ask("pre-rollout")
    assert (again.status_code, again.json()["id"]) == (201, f"{ID}+2")
    assert begun.ask("rollback").json()["id"] == f"{ID}+2"
    assert answers(begun) == "yyynn"


def test_a_deploy_that_ci_told_is_found_by_its_version(daemon: Desk) -> None:
    """The hook's metadata names the version that CI sent."""
    body = {"id": "ci-7", "service": "shop", "version": "v42", "previous_version": "v41"}
    token = {"Authorization": "Bearer token-of-systems-0123456789"}
    assert daemon.client.post("/api/v1/deploys", json=body, headers=token).status_code == 201
    assert daemon.ask("rollback", metadata={"version": "v42"}).json()["id"] == "ci-7"
    assert daemon.ask("rollback", metadata={"version": "v43"}).json()["id"] is None


def test_what_flagger_ended_is_watched_no_longer(begun: Desk) -> None:
    """Flagger's own analysis failed: cancelled, with the reason; a rollback of ours goes on to be verified."""
    answer = begun.send("flagger", "flagger-event")
    assert answer.status_code == 200
    assert begun.watch(ID).state is State.CANCELLED
    assert "Flagger went back by itself" in begun.watch(ID).sentence
    assert "ignored" in begun.send("flagger", "flagger-event").json()


def test_a_roll_out_in_another_environment_is_not_held_up(tmp_path: Path) -> None:
    """Where the table says that its namespace is one that is not watched: go on, and never back."""
    text = CONFIG.replace('kind = "flagger"\n', 'kind = "flagger"\nenvironments = {{ prod = "staging" }}\n')
    with desk(tmp_path, config=text) as staging:
        assert "ignored" in staging.ask("pre-rollout").json()
        told = {hook: staging.ask(hook).status_code for hook in QUESTIONS}
        assert told == {hook: 409 if hook == "rollback" else 200 for hook in QUESTIONS}
        assert "staging" in staging.ask("confirm-promotion").json()["sentence"]


@pytest.mark.parametrize("phase", ["Initialized", "Waiting", "Progressing", "Promoting", "Finalising", ""])
def test_other_phases_change_nothing(begun: Desk, phase: str) -> None:
    """200 and the reason."""
    answer = begun.send("flagger", "flagger-event", phase=phase)
    assert (answer.status_code, "ignored" in answer.json()) == (200, True)
    assert begun.watch(ID).state is State.WATCHING


def test_a_rollback_that_runs_is_not_cancelled_by_flaggers_end(begun: Desk) -> None:
    """Failed is what our own yes leads to."""
    move(begun, State.INTENT, State.RUNNING, State.VERIFYING)
    begun.send("flagger", "flagger-event")
    assert begun.watch(ID).state is State.VERIFYING


# --- the hook `gate`, and Argo Rollouts ---------------------------------------------------------------------


def test_the_gate_hook_opens_the_way_back(begun: Desk) -> None:
    """Intended, claimed and run by the daemon's own edge; only then the answer is yes."""
    watch, now = begun.watch(ID), begun.clock.now()
    action = rollback_action(watch, ActionState.INTENT, now)
    said = message(watch, MessageKind.DEGRADED, Severity.WARNING, "worse", state=State.INTENT, key="degraded")
    entry = AuditEntry(at=now, watch_id=ID, actor="daemon", event="decision.roll_back", after="INTENT")
    assert begun.app.ledger.commit(
        Change(watch_id=ID, at=now, expect_state=State.WATCHING, to_state=State.INTENT, new_action=action,
               audit=(entry,), messages=(said,))
    )  # fmt: skip
    begun.app.ledger.set_paused(True, actor="ann", why="freeze", at=now)
    assert action is not None
    begun.app.pipeline.edge.carry_out(action.id)
    assert begun.ask("rollback").status_code == 409, "the kill switch holds for Flagger too"
    begun.app.ledger.set_paused(False, actor="ann", why="", at=now)
    begun.app.desk.approve(ID, actor="ann", why="the freeze is over")
    begun.app.pipeline.edge.carry_out(action.id)
    assert begun.watch(ID).state is State.VERIFYING
    assert begun.ask("rollback").status_code == 200


def test_argo_rollouts_reads_one_word(begun: Desk) -> None:
    """go, wait, ask or back, beside the verdict and the sentence."""
    told = begun.gate(service="shop", version="shop").json()
    assert (told["id"], told["gate"], told["verdict"], told["outcome"]) == (ID, "wait", None, "watching")
    move(begun, State.INTENT, State.RUNNING, State.VERIFYING, State.ROLLED_BACK)
    told = begun.gate(service="shop", version="shop", environment="production").json()
    assert (told["gate"], told["outcome"], told["sentence"]) == ("back", "rolled_back", "shop is ROLLED_BACK")
    assert begun.gate(service="shop").json() == told


def test_a_version_that_nobody_told_of_waits(daemon: Desk) -> None:
    """An error would count against the new version in Argo's eyes."""
    told = daemon.gate(service="shop", version="v9")
    assert (told.status_code, told.json()["gate"], told.json()["id"]) == (200, "wait", None)
    assert daemon.gate(service="other").status_code == 403
    assert daemon.gate(service="shop", version="a b").status_code == 422
    assert daemon.client.get("/api/v1/gate?service=shop").status_code == 401
