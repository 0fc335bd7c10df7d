"""How long the status pages take: a list of many deploys, a deploy of 12 metrics and 1 000 looks, a busy service.

`python -m benchmarks.pages` writes a ledger (some 30 s for 100 000 deploys), serves it with the real API on a real
socket, and prints for each page the first answer and the median of the others, in milliseconds, and what of it was work
of this process (on a busy machine the rest is waiting for others). Budgets: 200 ms for a list, 300 ms for a deploy. The
history is made up by a seeded generator; `--keep FILE` leaves the ledger to look at.
"""

import argparse
import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import requests
from pydantic import SecretStr
from sqlalchemy import insert

from analysis.prepare import Cells
from analysis.result import Evidence, Kind, MetricSpec, Reason, Verdict, VerdictKind
from tests.samples import a_deploy, a_plan, a_watch
from watchdog.clock import SystemClock
from watchdog.intake import Intake
from watchdog.ledger import SqlLedger, open_ledger, rows
from watchdog.ledger.schema import deploys, labels, looks, plans, query_texts, samples, verdicts, watches
from watchdog.model import Label, LabelKind, Metric, Mode, State, StoredLook, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Clock
from watchdog.telemetry import Telemetry
from watchdog.web import Authenticator, Credential, Health, create_api, serve

TOKEN = "token-of-the-benchmark"
SERVICES = ("shop", "checkout", "search", "login", "payments", "stock", "mail", "images")
ENDS = (State.PASSED, State.ROLLED_BACK, State.INCONCLUSIVE, State.SUPERSEDED, State.NOT_RECOVERED)
ODDS = (0.9, 0.05, 0.03, 0.015, 0.005)
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
REPLICAS = 3


def history(count: int, rng: np.random.Generator, now: float) -> Iterator[tuple[Watch, Label | None]]:
    """Deploys of several services over half a year; some alarms, labelled now and then."""
    for number in range(count):
        service = SERVICES[min(int(rng.exponential(2.0)), len(SERVICES) - 1)]
        at = now - 180 * 86400 * (1 - number / count)
        state = ENDS[int(rng.choice(len(ENDS), p=ODDS))]
        bad = state in (State.ROLLED_BACK, State.NOT_RECOVERED)
        where = "production" if rng.random() < 0.8 else "staging"
        deploy = replace(
            a_deploy(deploy_id=f"{service}-{number}", version=f"v{number}"),
            service=service, environment=where, previous_version=f"v{number - 1}", deployed_at=at, received_at=at,
        )  # fmt: skip
        words = "errors 6.1 % vs 0.9 % (×6.8, 3.1–12; 412 vs 3 804 requests)" if bad else "no worse on 2 metrics"
        yield (
            replace(
                a_watch(deploy_id=deploy.id), deploy=deploy, state=state, mode=Mode.AUTO, created_at=at, updated_at=at,
                looks=90, verdict="DEGRADED" if bad else "HEALTHY", sentence=f"{service} v{number}: {words}",
                metric="errors" if bad else None, degraded_at=at + 25 if bad else None,
                recovered_at=at + 31 + 20 * rng.random() if state is State.ROLLED_BACK else None,
            ),
            _label(deploy.id, at, bad=bad, rng=rng),
        )  # fmt: skip


def _label(watch_id: str, at: float, *, bad: bool, rng: np.random.Generator) -> Label | None:
    if rng.random() > (0.7 if bad else 0.02):
        return None
    wrong = LabelKind.FALSE_ALARM if bad else LabelKind.MISSED
    kind = LabelKind.RIGHT if rng.random() < 0.93 else wrong
    return Label(watch_id=watch_id, kind=kind, note="", actor="token:ann", at=at)


def write_history(ledger: SqlLedger, count: int, now: float) -> None:
    """Many rows at once: how they come there is not what is measured."""
    rng = np.random.default_rng(20)
    plan = rows.plan_row(a_plan())
    made = list(history(count, rng, now))
    with ledger._database.write() as connection:  # noqa: SLF001
        connection.execute(insert(plans), plan)
        connection.execute(insert(deploys), [rows.deploy_row(w.deploy) for w, _ in made])
        connection.execute(insert(watches), [rows.watch_row(w, plan["digest"]) for w, _ in made])
        said = [label for _, label in made if label is not None]
        if said:
            told = [
                {"watch_id": x.watch_id, "kind": x.kind.value, "note": "", "actor": x.actor, "at": x.at} for x in said
            ]
            connection.execute(insert(labels), told)


def long_watch(metrics: int, closed: int, now: float) -> Watch:
    """A deploy that is still being watched after many looks."""
    kinds = (Kind.RATIO, Kind.LATENCY, Kind.GAUGE)
    chosen = tuple(
        Metric(spec=MetricSpec(name=f"{kinds[i % 3].value}-{i}", kind=kinds[i % 3], unit="s" if i % 3 == 1 else ""))
        for i in range(metrics)
    )
    at = now - closed * 5.0
    deploy = replace(a_deploy(deploy_id="long"), service="shop", deployed_at=at, received_at=at)
    plan = replace(a_plan(planned_looks=closed + 100), metrics=chosen)
    return replace(
        a_watch(deploy_id="long"), deploy=deploy, plan=plan, created_at=at, updated_at=now, looks=closed,
        next_look_at=now + 4,
        verdict="INCONCLUSIVE", sentence=f"shop v2 (canary 10 %): no worse so far on {metrics} metrics",
    )  # fmt: skip


def write_long(ledger: SqlLedger, watch: Watch, closed: int) -> None:
    """Its samples, and a verdict after every look; only the last has its whole payload."""
    rng = np.random.default_rng(21)
    ledger.record_deploy(watch, [], [])
    queries = {m.spec.name: f"sum by (version) (increase({m.spec.name}_total[5s]))" for m in watch.plan.metrics}
    with ledger._database.write() as connection:  # noqa: SLF001
        asked = rows.queries_row(queries)
        connection.execute(insert(query_texts), asked)
        for interval in range(-20, closed):
            cells = {m.spec.name: _cells(m.spec.kind, interval, rng) for m in watch.plan.metrics}
            look = StoredLook(interval=interval, facts=_facts(), cells=cells, queries=queries)
            connection.execute(insert(looks), rows.look_row(watch.id, look, asked["digest"]))
            connection.execute(insert(samples), rows.sample_rows(watch.id, look))
        paths = {m.spec.name: tuple(np.cumsum(rng.normal(-0.002, 0.08, closed)).tolist()) for m in watch.plan.metrics}
        for look_no in range(closed):
            verdict = _verdict(watch, paths, look_no, whole=look_no == closed - 1)
            connection.execute(insert(verdicts), rows.verdict_row(watch.id, verdict, watch.created_at + 5 * look_no))


def _facts() -> Any:
    from analysis.prepare import LookFacts

    return LookFacts(baseline_up=REPLICAS, candidate_up=1, candidate_down=0)


def _cells(kind: Kind, interval: int, rng: np.random.Generator) -> Cells:
    arms = [("baseline" if interval >= 0 else "history", f"v1-{i}") for i in range(REPLICAS)]
    arms += [("candidate", "v2-0")] if interval >= 0 else []
    if kind is Kind.LATENCY:
        counts = np.cumsum(rng.poisson(12.0, (len(arms), len(BOUNDS))), axis=1).astype(float)
        flat = [(arm, name, le, counts[i, k], counts[i, -1])
                for i, (arm, name) in enumerate(arms) for k, le in enumerate(BOUNDS)]  # fmt: skip
    elif kind is Kind.RATIO:
        flat = [(arm, name, float("nan"), float(rng.binomial(150, 0.01)), 150.0) for arm, name in arms]
    else:
        flat = [(arm, name, float("nan"), float(rng.normal(0.4, 0.05)), float("nan")) for arm, name in arms]
    columns: Sequence[tuple[Any, ...]] = list(zip(*flat, strict=True))
    arm, replica, le, value, total = columns
    return Cells(arm=arm, replica=replica, stratum=("",) * len(flat), le=le, value=value, total=total)


def _verdict(watch: Watch, paths: dict[str, tuple[float, ...]], look: int, *, whole: bool) -> Verdict:
    told = tuple(
        Evidence(
            metric=m.spec.name, method="requests above 0.25 s" if m.spec.kind is Kind.LATENCY else "counts",
            log_evidence=paths[m.spec.name][look], log_threshold=6.2, path=paths[m.spec.name][: look + 1], effect=1.1,
            effect_low=0.8, effect_high=1.5, baseline_level=0.01, candidate_level=0.011, n_baseline=4e5,
            n_candidate=1e5,
        )
        for m in watch.plan.metrics
    ) if whole else ()  # fmt: skip
    return Verdict(
        kind=VerdictKind.INCONCLUSIVE, reason=Reason.LOW_TRAFFIC, metric=None, look=look, alarm_look=None,
        log_evidence=sum(p[look] for p in paths.values()) / len(paths), log_threshold=4.6, sentence="no worse so far",
        evidence=told,
    )  # fmt: skip


@contextmanager
def served(ledger: SqlLedger, clock: Clock) -> Iterator[str]:
    """The real API over this ledger."""
    credential = Credential(name="ann", secret=SecretStr(TOKEN), scopes=frozenset({"admin"}))
    app = create_api(
        ledger=ledger, intake=cast("Intake", None), desk=OperatorDesk(ledger=ledger, clock=clock),
        auth=Authenticator([credential], clock=clock), clock=clock, health=lambda: Health(0.1, ledger_ok=True),
        telemetry=Telemetry(),
    )  # fmt: skip
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    server = serve(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def measured(url: str, path: str, times: int) -> dict[str, Any]:
    """The first answer and the median of the others."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        took, worked = [], []
        for _ in range(times + 1):
            begun, cpu = time.perf_counter(), time.process_time()
            answer = session.get(url + path, timeout=60)
            took.append(1000 * (time.perf_counter() - begun))
            worked.append(1000 * (time.process_time() - cpu))
            answer.raise_for_status()
    return {
        "page": path, "first_ms": round(took[0], 1), "median_ms": round(statistics.median(took[1:]), 1),
        "first_cpu_ms": round(worked[0], 1), "cpu_ms": round(statistics.median(worked[1:]), 1),
        "kb": round(len(answer.content) / 1024),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploys", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=12)
    parser.add_argument("--looks", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--keep", type=Path, help="a file to leave the ledger in")
    asked = parser.parse_args()
    now = SystemClock().now()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.keep or Path(folder) / "watchdog.db"
        opened = open_ledger(path, clock=SystemClock(), owner="benchmark", sinks_for=lambda service: ())
        with closing(opened) as ledger:
            write_history(ledger, asked.deploys, now)
            write_long(ledger, long_watch(asked.metrics, asked.looks, now), asked.looks)
            middle = now - 90 * 86400
            pages = [  # the first one also bears what any first answer of a new process does
                "/", "/deploys/long", "/?service=shop", "/?state=held", "/?state=rolled_back", "/?environment=staging",
                "/?service=images&state=not_recovered&environment=staging", f"/?before={middle}", "/services",
                "/services/shop", "/api/v1/quality",
            ]  # fmt: skip
            with served(ledger, SystemClock()) as url:
                for page in pages:
                    print(json.dumps(measured(url, page, asked.times)), flush=True)


if __name__ == "__main__":
    main()
