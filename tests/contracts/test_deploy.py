"""What lies in deploy/ is right: parsed by the programs it is for, its configurations loaded, its names real."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from tests import servers
from watchdog.app import load_config
from watchdog.telemetry import Telemetry

kubernetes = pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate is missing: `make lock`, then `make`"
)

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXPOSURE = 1.5  # of 10, as systemd-analyze weighs it
INTERVAL = "5m"


def promtool(*argv: str, cwd: Path) -> str:
    ended = subprocess.run(
        [servers.program("promtool"), *argv], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def our_series() -> set[str]:
    """Every series name that the daemon's /metrics can show."""
    families: list[Metric] = list(Telemetry().registry.collect())
    names = {sample.name for family in families for sample in family.samples}
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}  # those without a child yet
    return names | counters | {family.name for family in families if family.type == "gauge"}


def named(expr: str) -> set[str]:
    return set(re.findall(r"deploy_watchdog_[a-z_]+", expr))


# --- Prometheus ----------------------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    return rules


def test_alerts_fire_on_what_they_are_for_and_on_nothing_else() -> None:
    """promtool plays a daemon that is well, one in trouble, and one that is not scraped."""
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml", cwd=DEPLOY / "prometheus")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")


def test_every_alert_is_played_and_asks_for_what_there_is() -> None:
    """No alert without a case in which it fires; no metric that the daemon does not have."""
    played = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in played for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert named(rule["expr"]) <= our_series(), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")


# --- Grafana -------------------------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/deploy-watchdog.json").read_text())
    return found


def queries() -> list[str]:
    told = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [query.replace("$__rate_interval", INTERVAL).replace("$job", ".*") for query in told]


def test_the_dashboards_queries_are_promql_on_what_there_is(tmp_path: Path) -> None:
    """Each is parsed by promtool, as a recording rule; none asks for a metric that the daemon does not have."""
    rules = [{"record": f"dashboard:query{i}", "expr": query} for i, query in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert set().union(*map(named, queries())) <= our_series()


def test_the_dashboard_shows_every_metric_there_is() -> None:
    """A metric that nobody can see is one too many."""
    families = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in our_series()}
    shown = {re.sub(r"_(total|bucket|count)$", "", name) for query in queries() for name in named(query)}
    assert families - shown == set()


def test_the_dashboards_panels_have_places_of_their_own() -> None:
    """No id twice, no panel over another, all within Grafana's 24 columns."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


# --- systemd -------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there in the place of the one that is installed."""
    if shutil.which("systemd-analyze") is None:
        servers.without("systemd-analyze", "it is not on PATH")
    text = (DEPLOY / "systemd/deploy-watchdog.service").read_text()
    path = tmp_path / "deploy-watchdog.service"
    path.write_text(text.replace("/opt/deploy-watchdog/bin/deploy-watchdog", sys.executable))
    return path


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    """No unknown setting, no warning."""
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if unit.name in line]) == (0, [])


def test_the_unit_may_do_little(unit: Path) -> None:
    """As systemd-analyze weighs its exposure, without looking at this machine."""
    asked = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(unit)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr


# --- Kubernetes ----------------------------------------------------------------------------------------------


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((DEPLOY / "kubernetes").rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield str(path.relative_to(DEPLOY)), document


def one(kind: str) -> dict[str, Any]:
    (found,) = [document for _, document in manifests() if document["kind"] == kind]
    return found


@pytest.mark.parametrize(
    ("where", "manifest"), list(manifests()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_manifests_fit_kubernetes_own_schema(where: str, manifest: dict[str, Any]) -> None:
    """Strictly: no property that Kubernetes does not know."""
    kubernetes.validate(manifest, "1.32", strict=True)


def test_every_manifest_is_applied() -> None:
    """The kustomizations name what lies beside them, all of it."""
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        beside = {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert set(yaml.safe_load(path.read_text())["resources"]) == beside


def test_the_daemon_has_no_rights_in_the_cluster() -> None:
    """No token in the pod, no role; what a hook may need is apart, and bound to one Deployment by name."""
    assert one("ServiceAccount")["automountServiceAccountToken"] is False
    assert one("Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    change, read = one("Role")["rules"]
    assert (change["resourceNames"], change["verbs"]) == (["shop"], ["get", "patch"])
    assert (read["resources"], read["verbs"]) == (["replicasets"], ["list"])
    assert [where for where, m in manifests() if m["kind"] in ("Role", "RoleBinding")] == [
        "kubernetes/rollback-rights/role.yaml", "kubernetes/rollback-rights/role.yaml",
    ]  # fmt: skip
    assert not [where for where, m in manifests() if m["kind"].startswith("Cluster")]


def test_the_pod_is_restricted_and_alone_on_its_ledger() -> None:
    """What the pod security standard `restricted` asks for; never two pods on one file."""
    spec = one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    written = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/var/lib/deploy-watchdog", "/tmp"}


# --- the configurations, and compose -------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["kubernetes", "compose"])
def test_the_configurations_are_valid(folder: str) -> None:
    """Loaded as the daemon loads them, with the secrets that the manifests bring."""
    config = load_config(DEPLOY / folder / "config.toml", {"WATCHDOG_CI_TOKEN": "x" * 20})
    assert config.daemon.listen == "0.0.0.0:8811"
    assert Path(config.daemon.ledger).parent == Path("/var/lib/deploy-watchdog")


def parts() -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    return found


def test_compose_starts_what_there_is() -> None:
    """Modules and mounted files exist; nothing runs with more than it needs; images have a version."""
    for name, part in parts().items():
        entry = part.get("entrypoint", [])
        if entry[:2] == ["python", "-m"]:
            assert (ROOT / entry[2].replace(".", "/")).with_suffix(".py").exists(), name
        for volume in part.get("volumes", []):
            if volume.startswith("."):
                assert (DEPLOY / "compose" / volume.partition(":")[0]).exists(), volume
        assert (part["read_only"], part["cap_drop"]) == (True, ["ALL"])
        assert part["image"] == "deploy-watchdog" or re.search(r":v\d+\.\d+\.\d+$", part["image"])
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", []))


def test_composes_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With the alert rules where compose mounts them."""
    shutil.copy(DEPLOY / "compose/prometheus.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus/alerts.yml", tmp_path)
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def test_the_readme_names_every_part() -> None:
    """And nothing that is not there."""
    told = (DEPLOY / "README.md").read_text()
    there = {path.name for path in DEPLOY.iterdir() if path.name != "README.md"}
    assert {name for name in there if f"`{name}" not in told} == set()
