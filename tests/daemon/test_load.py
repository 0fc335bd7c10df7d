"""Fifty watches beside each other in simulated time, and the figures of the load tests."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from benchmarks.load import webhooks
from benchmarks.load.prometheus import Answers
from benchmarks.load.stage import p99_s
from benchmarks.load.town import TEMPLATES, TOKEN_ENV, TOKENS, WEBHOOK_ENV, Town
from benchmarks.load.watches import Figures, slope
from tests.fakes import FakeClock
from tests.receivers import Answer, Received, Receiver, receiver
from watchdog.app import App, build, load_config
from watchdog.deploy_request import DeployRequest
from watchdog.model import State

WATCHES, LOOK_S, SETTLE_S = 50, 10, 5


@pytest.fixture
def prometheus() -> Iterator[Receiver]:
    answers = Answers(replicas=2)

    def said(request: Received) -> Answer:
        return Answer(body=answers.answer(parse_qs(request.body.decode())))

    with receiver() as server:
        server.otherwise = said
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def daemon(tmp_path: Path, prometheus: Receiver, clock: FakeClock) -> Iterator[App]:
    """As `make load` configures one."""
    env = {f"{TOKEN_ENV}_{at}": f"{at}" * 32 for at in range(TOKENS)} | {WEBHOOK_ENV: "whsec_" + "A" * 43 + "="}
    text = Town(watches=WATCHES, services=WATCHES).config(
        listen="127.0.0.1:1",
        prometheus=prometheus.url,
        ledger=tmp_path / "w.db",
        look_s=LOOK_S,
        watch_s=90,
        baseline_s=60,
    )
    url = f'url = "{prometheus.url}"'
    text = text.replace(url, f"{url}\nmax_clock_skew_s = 0")  # the server's clock is real, ours is not
    (tmp_path / "config.toml").write_text(text)
    app = build(load_config(tmp_path / "config.toml", env), clock=clock, env=env)
    for source in app.sources.values():
        source.start()
    yield app
    for source in app.sources.values():
        source.close()
    app.ledger.close()


def test_every_watch_gets_every_look_by_one_query_a_template_and_tick(
    daemon: App, prometheus: Receiver, clock: FakeClock
) -> None:
    """Deploys at moments of their own over ten seconds, then twenty seconds of looks, tick by tick."""
    town = Town(watches=WATCHES, services=WATCHES)
    began = clock.wall
    for number in range(WATCHES):
        clock.wall = began + 0.1 + number * 9.8 / WATCHES
        (service, environment), (old, new) = town.place(number), town.versions(number)
        daemon.intake.receive(
            DeployRequest(service=service, environment=environment, version=new, previous_version=old, share=0.3),
            actor="test",
        )
    clock.wall = began + 10
    claimed = 0
    for _ in range(2 * LOOK_S + SETTLE_S):
        clock.advance(1.0)
        before = len(prometheus.received)
        claimed += daemon.pipeline.tick()
        asked = Counter(parse_qs(r.body.decode())["query"][0] for r in prometheus.received[before:])
        is_first = clock.wall - began <= 2 * LOOK_S + SETTLE_S  # it also asks for the time before
        assert max(asked.values(), default=0) <= 1
        assert len(prometheus.received) - before <= TEMPLATES * (2 if is_first else 1)
    watches = daemon.ledger.watches(limit=WATCHES)
    assert {watch.state for watch in watches} == {State.WATCHING}
    assert {watch.looks for watch in watches} == {2}
    assert claimed == 2 * WATCHES
    assert daemon.pipeline.memory.nbytes > WATCHES * 6_000
    assert all("svc-0001" not in text for text in daemon.ledger.looks(watches[0].id)[-1].queries.values())


FINE = Figures(
    watches=5000, seconds=1800.0, looks=900_000.0, looks_expected=900_000.0, tick_lag_p99_s=0.5, look_lag_p99_s=1.0,
    rss_mb=390.0, slope_mb_per_10_min=0.3, queries=1.0, cores=0.9,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"tick_lag_p99_s": 2.5}, "tick lag"),
        ({"looks": 800_000.0}, "800000 looks"),
        ({"rss_mb": 401.0}, "RSS"),
        ({"queries": 1.5}, "queries"),
        ({"slope_mb_per_10_min": 4.0}, "grows"),
    ],
)
def test_the_exit_status_says_whether_all_figures_hold(changed: dict[str, float], words: str) -> None:
    """One that does not hold is named."""
    from dataclasses import replace

    failures = replace(FINE, **changed).failures()  # type: ignore[arg-type]
    assert len(failures) == (1 if words else 0)
    assert all(words in failure for failure in failures)


def test_a_histograms_99_percent_and_a_memorys_slope() -> None:
    """Of what was observed between two readings; after caches are full."""
    series = 'deploy_watchdog_tick_lag_seconds_bucket{le="%s"}'
    before = {series % "0.5": 100.0, series % "1.0": 100.0, series % "+Inf": 100.0}
    after = {series % "0.5": 250.0, series % "1.0": 299.0, series % "+Inf": 300.0}
    assert p99_s(before, after, "tick_lag_seconds") == 1.0
    assert p99_s(before, {**after, series % "1.0": 290.0}, "tick_lag_seconds") == float("inf")
    sizes = [(float(t), min(300.0, 100.0 + t) + t / 600) for t in range(900)]
    assert slope(sizes) == pytest.approx(1.0)


def test_a_storm_that_lost_or_took_too_much_is_found_out() -> None:
    """What was acknowledged must be on record once; what was forged, never."""
    said = {"statuses": {"201": 3, "401": 1}, "acked": ["a", "b", "c"], "forged_accepted": [], "took_s": [0.01] * 4}
    fine = webhooks.figures(said, Counter(["a", "b", "c", "d"]), watches=1, seconds=1.0)
    assert fine.failures() == []
    lost = webhooks.figures(said, Counter(["a", "c", "forged-9"]), watches=1, seconds=1.0)
    assert (lost.lost, lost.forged_accepted) == (["b"], ["forged-9"])
    assert len(lost.failures()) == 2
    slow = webhooks.figures(
        {**said, "took_s": [0.5] * 4, "statuses": {"503": 4}}, Counter("abc"), watches=1, seconds=1.0
    )
    assert len(slow.failures()) == 2
