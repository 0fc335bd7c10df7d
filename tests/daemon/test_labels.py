"""What analysts say of verdicts, and what follows from it: labels, their audit, the quality of the detector."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.evaluate import exact_interval
from analysis.prepare import Cells, LookFacts
from analysis.result import Evidence, Reason, Verdict, VerdictKind
from tests.fakes import FakeClock
from tests.samples import a_deploy, a_watch
from tests.web_server import World, running
from watchdog.cli import command_line
from watchdog.cli.quality import LabelWord, share_words
from watchdog.errors import NotFoundError, RefusedError
from watchdog.label_desk import LabelDesk
from watchdog.ledger import SqlLedger, open_ledger, verify_chain
from watchdog.model import Change, LabelKind, State, StoredLook, Watch
from watchdog.ports import Tally
from watchdog.quality import over_time, quality, report
from watchdog.web.bodies import LabelBody, QualityBody, WatchBody

DAY = 86400.0


def ended(
    number: int, *, verdict: str = "HEALTHY", state: State = State.PASSED, service: str = "shop", at: float = 1.7e9
) -> Watch:
    deploy = replace(a_deploy(deploy_id=f"d{number}"), service=service)
    return replace(a_watch(deploy_id=f"d{number}"), deploy=deploy, verdict=verdict, state=state, created_at=at)


@pytest.fixture
def ledger(home: str) -> Iterator[SqlLedger]:
    opened = open_ledger(home, clock=FakeClock(), owner="me", sinks_for=lambda service: ())
    yield opened
    opened.close()


def test_a_label_is_kept_and_every_change_of_it_is_audited(ledger: SqlLedger) -> None:
    """The newest word counts; the chain holds both, with the word before."""
    ledger.record_deploy(ended(1, verdict="DEGRADED", state=State.ROLLED_BACK), [], [])
    desk = LabelDesk(ledger=ledger, clock=FakeClock())
    desk.label("d1", LabelKind.FALSE_ALARM, actor="ann", note="a load test")
    desk.label("d1", LabelKind.RIGHT, actor="bob")
    assert ledger.labels(["d1", "d2"])["d1"].kind is LabelKind.RIGHT
    assert [(e.actor, e.before, e.after, e.why) for e in ledger.audit("d1")] == [
        ("ann", "", "false_alarm", "a load test"),
        ("bob", "false_alarm", "right", ""),
    ]
    assert verify_chain(ledger.audit_chain()).problem is None


def test_a_label_must_not_contradict_the_verdict_nor_come_too_early(ledger: SqlLedger) -> None:
    """What was not called DEGRADED is no false alarm, what was cannot be missed, and a running watch has no end."""
    for watch in (ended(1), ended(2, verdict="DEGRADED"), ended(3, state=State.WATCHING)):
        ledger.record_deploy(watch, [], [])
    desk = LabelDesk(ledger=ledger, clock=FakeClock())
    refused = [("d1", LabelKind.FALSE_ALARM), ("d2", LabelKind.MISSED), ("d3", LabelKind.RIGHT)]
    for deploy_id, kind in refused:
        with pytest.raises(RefusedError):
            desk.label(deploy_id, kind, actor="ann")
    with pytest.raises(NotFoundError):
        desk.label("d9", LabelKind.RIGHT, actor="ann")
    assert ledger.labels(["d1", "d2", "d3"]) == {}
    assert ledger.audit() == []


def test_tallies_count_in_the_database_what_is_on_record(ledger: SqlLedger) -> None:
    """By service, day, state, verdict and label, with the budget frozen in the plan."""
    for number in range(5):
        ledger.record_deploy(ended(number, at=1.7e9 + number * DAY), [], [])
    ledger.record_deploy(ended(9, service="till"), [], [])
    LabelDesk(ledger=ledger, clock=FakeClock()).label("d4", LabelKind.MISSED, actor="ann")
    found = ledger.tallies(service="shop", since=1.7e9 + 2.5 * DAY)
    assert [(t.day, t.count, t.label, t.budget) for t in found] == [
        (19678, 1, None, 0.01),
        (19679, 1, LabelKind.MISSED, 0.01),
    ]
    assert sum(t.count for t in ledger.tallies()) == 6


def test_a_list_goes_on_after_the_last_one_shown_also_among_equal_times(ledger: SqlLedger) -> None:
    """Page after page, every deploy once, with and without filters; services and environments are known."""
    for number in range(7):
        ledger.record_deploy(ended(number, service="till" if number % 3 == 0 else "shop"), [], [])
    seen: list[str] = []
    while page := ledger.watches(
        limit=2, before=1.7e9 if seen else None, before_id=seen[-1] if seen else None, services=frozenset({"shop"})
    ):
        seen += [watch.id for watch in page]
    assert seen == ["d5", "d4", "d2", "d1"]
    assert ledger.services() == ["shop", "till"]
    assert ledger.environments() == ["production"]


def test_samples_come_back_as_they_were_stored(ledger: SqlLedger) -> None:
    """Cut out of the text and not decoded whole, the numbers and whose they are must be the same."""
    nan = float("nan")
    cells = Cells(
        arm=("baseline", "candidate"), replica=('a,"total":[9]', "b"), stratum=("", ""), le=(nan, float("inf")),
        value=(1.0, 2.5), total=(10.0, nan),
    )  # fmt: skip
    ledger.record_deploy(ended(1, state=State.WATCHING), [], [])
    look = StoredLook(interval=0, facts=LookFacts(), cells={"errors": cells})
    assert ledger.commit(Change(watch_id="d1", at=1.7e9, expect_state=State.WATCHING, looks=(look,)))
    (raw,) = ledger.raw_samples("d1")
    assert (raw.interval, raw.metric, raw.keys.replica) == (0, "errors", ['a,"total":[9]', "b"])
    assert (raw.keys.le, json.loads(raw.value_json), json.loads(raw.total_json)) == (
        [None, "inf"],
        [1.0, 2.5],
        [10.0, None],
    )
    assert list(ledger.raw_samples("d1", after=0)) == []


def a_verdict(look: int, **said: float) -> Verdict:
    evidence = tuple(
        Evidence(metric=name, method="counts", log_evidence=value, log_threshold=4.6) for name, value in said.items()
    )
    return Verdict(
        kind=VerdictKind.INCONCLUSIVE, reason=Reason.LOW_TRAFFIC, metric=None, look=look, alarm_look=None,
        log_evidence=0.0, log_threshold=4.6, sentence="no worse so far", evidence=evidence,
    )  # fmt: skip


def test_the_evidence_of_each_metric_comes_back_look_by_look(ledger: SqlLedger) -> None:
    """What was said then, infinities and NaN included; later looks alone where only they are wanted."""
    ledger.record_deploy(ended(1, state=State.WATCHING), [], [])
    for verdict in (a_verdict(0, errors=0.5, latency=math.nan), a_verdict(1, errors=math.inf, latency=-math.inf)):
        ledger.commit(Change(watch_id="d1", at=1.7e9, expect_state=State.WATCHING, verdict=verdict))
    first, second = ledger.metric_evidence("d1")
    assert (first[0], first[1]["errors"], math.isnan(first[1]["latency"])) == (0, 0.5, True)
    assert second == (1, {"errors": math.inf, "latency": -math.inf})
    assert list(ledger.metric_evidence("d1", after=0)) == [second]


def a_tally(
    count: int, *, verdict: str = "HEALTHY", state: State = State.PASSED, label: LabelKind | None = None, day: int = 0
) -> Tally:
    return Tally(
        service="shop", mode="auto", day=day, state=state, verdict=verdict, label=label, budget=0.01, count=count
    )


def alarms(count: int, label: LabelKind | None = None) -> Tally:
    return a_tally(count, verdict="DEGRADED", state=State.ROLLED_BACK, label=label)


def test_quality_counts_what_labels_say() -> None:
    """Precision, recall and the false-rollback rate as their definitions have it, with exact intervals."""
    found = quality([
        a_tally(190), a_tally(5, label=LabelKind.RIGHT), a_tally(2, label=LabelKind.MISSED),
        alarms(8, LabelKind.RIGHT), alarms(1, LabelKind.FALSE_ALARM),
        a_tally(1, verdict="DEGRADED", state=State.CANCELLED, label=LabelKind.FALSE_ALARM),
        alarms(3), alarms(4, LabelKind.UNCLEAR),
    ])  # fmt: skip
    assert (found.precision.hits, found.precision.of) == (8, 10)
    assert (found.recall.hits, found.recall.of) == (8, 10)
    assert (found.false_alarm_rate.hits, found.false_alarm_rate.of) == (2, 197)
    assert (found.false_rollback_rate.hits, found.false_rollback_rate.of) == (1, 197)
    assert found.false_alarm_rate.interval == exact_interval(2, 197)
    assert (found.unlabelled_alarms, found.labelled, found.judged) == (3, 21, 214)
    assert found.at_most == pytest.approx(5 / 200)
    assert found.budget == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("false", "healthy", "standing"), [(0, 500, "kept"), (0, 100, "open"), (20, 480, "broken"), (0, 0, "open")]
)
def test_a_budget_is_kept_or_broken_only_beyond_doubt(false: int, healthy: int, standing: str) -> None:
    """While the interval holds the budget, nobody can tell, and the word says so."""
    assert quality([a_tally(healthy), alarms(false, LabelKind.FALSE_ALARM)]).standing == standing


def test_alarms_without_a_label_may_be_false_and_keep_a_promise_open() -> None:
    """Kept means kept whatever they were; broken needs no more than what is known."""
    assert quality([a_tally(500), alarms(6)]).standing == "open"
    assert quality([a_tally(5000), alarms(6)]).standing == "kept"
    assert quality([a_tally(480), alarms(20, LabelKind.FALSE_ALARM), alarms(6)]).standing == "broken"


def test_what_is_not_over_or_was_never_judged_does_not_count() -> None:
    """Nothing is claimed from a deploy without a verdict."""
    none = replace(a_tally(5), verdict=None)
    assert quality([none, a_tally(5, state=State.WATCHING)]).judged == 0


def test_what_nobody_could_tell_is_no_healthy_deploy() -> None:
    """A deploy that never had a sample proves nothing; an analyst may still say what it was."""
    unknown = a_tally(400, verdict="INCONCLUSIVE", state=State.INCONCLUSIVE)
    found = quality([unknown, a_tally(3), replace(unknown, label=LabelKind.RIGHT, count=2)])
    assert (found.judged, found.inconclusive, found.healthy) == (3, 402, 5)
    assert quality([unknown]).standing == "open"
    assert quality([replace(unknown, label=LabelKind.MISSED)]).missed == 400


@given(st.lists(st.builds(
    Tally, service=st.sampled_from(["a", "b"]), mode=st.just("auto"), day=st.integers(0, 60_000),
    state=st.sampled_from(State), verdict=st.sampled_from(["HEALTHY", "DEGRADED", "INCONCLUSIVE", None]),
    label=st.sampled_from([None, *LabelKind]), budget=st.just(0.01), count=st.integers(1, 9),
)), st.sampled_from(["month", "week"]))  # fmt: skip
def test_the_parts_of_a_report_add_up(tallies: list[Tally], by: str) -> None:
    """Every deploy is in one service and one period, and every report is JSON of the documented shape."""
    told = report(tallies, by=by)
    QualityBody.model_validate(json.loads(json.dumps(told)))
    for name in ("judged", "inconclusive", "alarms", "labelled", "healthy", "missed", "false_alarms", "true_alarms"):
        assert sum(s[name] for s in told["services"]) == sum(p[name] for p in told["periods"]) == told["all"][name]


def test_periods_begin_on_the_first_and_on_mondays() -> None:
    """Unix day 19675 is Tuesday, 14 November 2023."""
    tallies = [a_tally(1, day=19675)]
    assert list(over_time(tallies, by="month")) == ["2023-11-01"]
    assert list(over_time(tallies, by="week")) == ["2023-11-13"]
    with pytest.raises(ValueError, match="no period"):
        over_time(tallies, by="year")


# --- over the API and the command -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def test_a_label_over_the_api_needs_its_own_scope(world: World) -> None:
    """Who may approve rollbacks may not polish the statistics, and the other way round."""
    world.ledger.put(ended(1))
    body = b'{"label": "right", "note": "seen\\u202e it"}'
    assert world.post("/api/v1/deploys/d1/label", body, as_="approve").status_code == 403
    answer = world.post("/api/v1/deploys/d1/label", body, as_="label")
    said = WatchBody.model_validate_json(answer.text).label
    assert said is not None
    assert (said.label, said.note, said.actor) == (LabelKind.RIGHT, "seen it", "token:label")
    assert world.ledger.entries[-1].event == "operator.label"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"label": "wrong"}', b'{"label": "right", "note": 7}'])
def test_a_bad_label_is_refused(world: World, body: bytes) -> None:
    """422, and nothing is recorded."""
    world.ledger.put(ended(1))
    assert world.post("/api/v1/deploys/d1/label", body, as_="label").status_code == 422
    assert world.ledger.labelled == {}


def test_a_label_that_contradicts_is_a_conflict(world: World) -> None:
    """409 with the desk's sentence."""
    world.ledger.put(ended(1))
    answer = world.post("/api/v1/deploys/d1/label", b'{"label": "false_alarm"}', as_="label")
    assert answer.status_code == 409
    assert "contradicts" in answer.json()["error"]["message"]


def test_label_and_quality_as_commands(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is labelled by one command is counted by the other."""
    monkeypatch.setenv("DEPLOY_WATCHDOG_URL", world.url)
    monkeypatch.setenv("DEPLOY_WATCHDOG_TOKEN", "token-of-admin-0123456789")
    world.ledger.put(ended(1, verdict="DEGRADED", state=State.ROLLED_BACK))
    world.ledger.put(ended(2))
    assert command_line(["label", "d1", "false_alarm", "--note", "a load test"]) == 0
    assert capsys.readouterr().out == "d1: labelled false_alarm, a load test\n"
    assert command_line(["quality"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["all", "shop", "month of 2023-11-01"]
    assert rows[0][6] == "1 of 2 (50.0 %, 1.3–98.7 %)"
    assert command_line(["quality", "--json", "--by", "week"]) == 0
    assert QualityBody.model_validate_json(capsys.readouterr().out).all.false_rollbacks == 1
    assert command_line(["label", "d1", "wrong"]) == 4


def test_quality_reads_a_ledger_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a running daemon, without asking it."""
    path = tmp_path / "w.db"
    ledger = open_ledger(path, clock=FakeClock(), owner="me", sinks_for=lambda service: ())
    ledger.record_deploy(ended(1), [], [])
    assert command_line(["quality", "--ledger", str(path), "--json"]) == 0
    ledger.close()
    assert QualityBody.model_validate_json(capsys.readouterr().out).all.healthy == 1


def test_a_share_of_nothing_is_not_a_number() -> None:
    """A dash, never a division by zero."""
    assert share_words({"value": None, "low": 0.0, "high": 1.0, "hits": 0, "of": 0}) == "-"


def test_the_words_of_the_command_are_those_of_the_model() -> None:
    """Written twice only so that --help stays fast."""
    assert [word.value for word in LabelWord] == [kind.value for kind in LabelKind]
    assert set(LabelBody.model_json_schema()["properties"]) == {"label", "note"}
