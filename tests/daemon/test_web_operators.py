"""What operators ask for, and how the daemon tells about itself."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.samples import a_watch
from tests.web_server import World, running
from watchdog.model import Action, ActionKind, ActionState, State
from watchdog.telemetry import Telemetry
from watchdog.web import Health
from watchdog.web.bodies import ErrorBody, ProbeBody, StatusBody, WatchBody


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def a_held_rollback() -> Action:
    return Action(
        id="a1", watch_id="d1", kind=ActionKind.ROLLBACK, state=ActionState.HELD, hook="back", service="shop",
        environment="production", from_version="v2", to_version="v1", created_at=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("approve", State.HELD, State.INTENT),
        ("deny", State.HELD, State.CANCELLED),
        ("cancel", State.WATCHING, State.CANCELLED),
        ("rollback", State.WATCHING, State.INTENT),
    ],
)
def test_an_operators_word_is_carried_out_and_recorded(world: World, verb: str, before: State, after: State) -> None:
    """The answer is the watch as it stands now; who and why are in the audit."""
    world.ledger.put(a_watch(state=before))
    if before is State.HELD:
        world.ledger.intended.append(a_held_rollback())
    answer = world.post(
        f"/api/v1/deploys/d1/{verb}", '{"why": "a known\u202e\u0000\\ntest"}'.encode().replace(b"\0", b"")
    )
    assert answer.status_code == 200
    assert WatchBody.model_validate(answer.json()).state == after.value
    entry = world.ledger.entries[-1]
    assert (entry.actor, entry.event, entry.why) == ("token:admin", f"operator.{verb}", "a known test")


def test_no_reason_need_be_given(world: World) -> None:
    """An empty body is no mistake at three in the morning."""
    world.ledger.put(a_watch())
    assert world.post("/api/v1/deploys/d1/cancel").status_code == 200


@pytest.mark.parametrize("verb", ["approve", "deny", "cancel", "rollback"])
def test_what_the_state_does_not_allow_is_a_conflict(world: World, verb: str) -> None:
    """409 with the desk's own sentence."""
    world.ledger.put(a_watch(state=State.PASSED))
    answer = world.post(f"/api/v1/deploys/d1/{verb}")
    assert answer.status_code == 409
    assert "PASSED" in ErrorBody.model_validate(answer.json()).error.message


@pytest.mark.parametrize("body", [b'{"why": 7}', b'{"because": "x"}', b'{"why": "' + b"a" * 501 + b'"}', b"why"])
def test_a_bad_reason_is_refused_before_anything_happens(world: World, body: bytes) -> None:
    """422, and the deploy is untouched."""
    world.ledger.put(a_watch())
    assert world.post("/api/v1/deploys/d1/rollback", body).status_code == 422
    assert world.ledger.stored["d1"].state is State.WATCHING


def test_the_kill_switch_shows_in_the_status(world: World) -> None:
    """Pause, status, resume."""
    world.post("/api/v1/pause", b'{"why": "incident 12"}')
    assert StatusBody.model_validate(world.get("/api/v1/status").json()).paused == "token:admin: incident 12"
    assert StatusBody.model_validate(world.post("/api/v1/resume").json()).paused is None


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nope", 404),
        ("GET", "/api/v1/deploys/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/static/../web/auth.py", 404),
        ("PUT", "/api/v1/deploys", 405),
        ("GET", "/api/v1/pause", 405),
        ("POST", "/-/healthy", 405),
    ],
)
def test_what_is_not_served_is_refused_in_the_one_shape(world: World, method: str, path: str, code: int) -> None:
    """FastAPI's own refusals look like ours; a 405 names what is allowed."""
    answer = world.ask(method, path, as_="admin")
    assert answer.status_code == code
    assert ErrorBody.model_validate(answer.json()).error.remedy
    assert code != 405 or answer.headers["Allow"]


@pytest.mark.parametrize("alias", [("/-/healthy", "/-/ready"), ("/healthz", "/readyz")])
@pytest.mark.parametrize(
    ("health", "alive", "ready"),
    [
        (Health(0.5, ledger_ok=True), 200, 200),
        (Health(30.0, ledger_ok=True), 200, 200),
        (Health(30.1, ledger_ok=True), 503, 503),
        (Health(0.5, ledger_ok=False, problems=["disk full: /secret/path"]), 200, 503),
        (Health(None, ledger_ok=True), 200, 503),
    ],
)
def test_probes_follow_the_tick(world: World, alias: tuple[str, str], health: Health, alive: int, ready: int) -> None:
    """Ticks that stopped are death, a ledger that fails is not ready; neither says why to strangers."""
    world.health.now = health
    world.ledger.broken = True  # a probe never waits for the ledger
    for path, expected in zip(alias, (alive, ready), strict=True):
        answer = world.get(path, as_=None)
        assert answer.status_code == expected
        assert ProbeBody.model_validate(answer.json()).status == ("ok" if expected == 200 else "failing")
        assert "secret" not in answer.text


def test_a_daemon_whose_first_tick_never_ends_is_dead() -> None:
    """No tick yet is fine for as long as a tick may take, and no longer."""
    with running() as world:
        world.health.now = Health(None, ledger_ok=True)
        assert world.get("/-/healthy", as_=None).status_code == 200
        world.clock.sleep(31)
        assert world.get("/-/healthy", as_=None).status_code == 503


def test_metrics_are_prometheus_text_even_without_a_ledger(world: World) -> None:
    """The page parses, counts watches by state, and keeps answering when the ledger does not."""
    world.ledger.put(a_watch(state=State.HELD))
    page = world.get("/metrics", as_=None)
    assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(page.text)
        for s in family.samples
    }
    assert samples["deploy_watchdog_watches", "HELD"] == 1
    assert samples["deploy_watchdog_watches", "WATCHING"] == 0
    assert samples["deploy_watchdog_paused",] == 0
    world.ledger.broken = True
    assert world.get("/metrics", as_=None).status_code == 200


def test_telemetry_counts_what_it_is_told() -> None:
    """Every method moves its own series, and two registries never meet."""
    telemetry, other = Telemetry(), Telemetry()
    telemetry.tick(0.2, 0.05)
    telemetry.verdict("DEGRADED")
    telemetry.action("back", "rolled_back")
    telemetry.source("ok", 0.01)
    telemetry.source("down", 5.0)
    telemetry.delivery("team", "delivered")
    telemetry.paused(paused=True)
    page = telemetry.render().decode()
    for line in (
        "deploy_watchdog_tick_lag_seconds_sum 0.2",
        "deploy_watchdog_tick_duration_seconds_count 1.0",
        'deploy_watchdog_verdicts_total{verdict="DEGRADED"} 1.0',
        'deploy_watchdog_verdicts_total{verdict="HEALTHY"} 0.0',
        'deploy_watchdog_rollbacks_total{hook="back",outcome="rolled_back"} 1.0',
        "deploy_watchdog_query_duration_seconds_count 2.0",
        'deploy_watchdog_query_errors_total{reason="down"} 1.0',
        'deploy_watchdog_outbox_deliveries_total{outcome="delivered",sink="team"} 1.0',
        "deploy_watchdog_paused 1.0",
        'deploy_watchdog_build_info{python="',
    ):
        assert line in page
    assert 'verdict="DEGRADED"} 0.0' in other.render().decode()
