"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, and KWOK in the place of nodes."""

import json
import re
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import servers
from tests.go_programs import kubernetes_program, kwok

ADMIN = "admin-of-the-tests"
NODE = "kwok"
CONTROLLERS = ("deployment-controller", "replicaset-controller", "garbage-collector-controller")
READY_S = 60.0
APPS = "/apis/apps/v1/namespaces"
STAGES = Path(__file__).parent / "control_plane" / "stages.yaml"
DOCUMENT = Path(__file__).parents[1] / "docs" / "hooks.md"


@dataclass(frozen=True)
class ControlPlane:
    """An API server as its administrator sees it."""

    url: str
    ca_file: Path
    kubeconfig: Path

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        request = urllib.request.Request(f"{self.url}{path}", method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=20, context=self.trust()) as reply:
            return json.loads(reply.read())

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def is_ready(self) -> bool:
        try:
            request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
            with urllib.request.urlopen(request, timeout=2, context=self.trust()) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def kubectl(self, *argv: str) -> str:
        told = [kubernetes_program("kubectl"), "--kubeconfig", str(self.kubeconfig), *argv]
        return subprocess.run(told, capture_output=True, text=True, timeout=60, check=True).stdout

    def new_namespace(self, name: str) -> None:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def service_account(self, namespace: str) -> str:
        """A token of an account that may do what docs/hooks.md says it needs, and nothing else."""
        rules = yaml.safe_load(re.findall(r"^```yaml\n(rules:.*?)^```", DOCUMENT.read_text(), re.M | re.S)[0])
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        subject = {"kind": "ServiceAccount", "name": "watchdog", "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "watchdog"}
        self.call("POST", accounts, {"metadata": {"name": "watchdog"}})
        self.call("POST", f"{rbac}/roles", {"metadata": {"name": "watchdog"}, **rules})
        self.call("POST", f"{rbac}/rolebindings", {"metadata": {"name": "w"}, "roleRef": role, "subjects": [subject]})
        asked = self.call("POST", f"{accounts}/watchdog/token", {"spec": {"expirationSeconds": 3600}})
        return str(asked["status"]["token"])


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Skipped with the reason where it cannot be had."""
    programs = {name: kubernetes_program(name) for name in ("kube-apiserver", "kube-controller-manager", "kubectl")}
    etcd, simulated = servers.program("etcd"), kwok()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        etcd_url, port = f"http://127.0.0.1:{servers.free_port()}", servers.free_port()
        plane = ControlPlane(f"https://127.0.0.1:{port}", folder / "certs" / "apiserver.crt", folder / "kubeconfig")
        _write_secrets(folder, plane)
        start, config = _starter(stack, folder), ["--kubeconfig", str(plane.kubeconfig)]
        start(_etcd(etcd, folder, etcd_url), lambda: servers.answers(f"{etcd_url}/health"))
        start(_api_server(programs["kube-apiserver"], folder, port, etcd_url), plane.is_ready)
        node = {"metadata": {"name": NODE}, "status": {"allocatable": {"pods": "500"}, "capacity": {"pods": "500"}}}
        plane.call("POST", "/api/v1/nodes", node)
        own = ["--leader-elect=false", f"--controllers={','.join(CONTROLLERS)}", "--secure-port=0"]
        start([programs["kube-controller-manager"], *config, *own], lambda: True)
        start([simulated, *config, "--manage-all-nodes", "--config", str(STAGES)], lambda: True)
        yield plane


def _starter(stack: ExitStack, folder: Path) -> Any:
    def start(argv: list[str], ready: Any) -> None:
        own = folder / Path(argv[0]).name
        own.mkdir()
        stack.enter_context(servers.running(argv, str(own), ready, ready_s=READY_S))

    return start


def _etcd(program: str, folder: Path, url: str) -> list[str]:
    peers = f"http://127.0.0.1:{servers.free_port()}"
    return [
        program,
        f"--data-dir={folder}/data",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",  # nothing of it outlives the test
    ]


def _api_server(program: str, folder: Path, port: int, etcd_url: str) -> list[str]:
    return [
        program,
        f"--etcd-servers={etcd_url}",
        "--watch-cache=false",  # Debian's etcd cannot say how far a watch has come, and the cache waits a minute for it
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder}/certs",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder}/tokens.csv",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/accounts.pem",
        f"--service-account-signing-key-file={folder}/accounts.pem",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",  # pods need none here, and no controller makes the default one
    ]


def _write_secrets(folder: Path, plane: ControlPlane) -> None:
    (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
    made = ["openssl", "genrsa", "-out", f"{folder}/accounts.pem", "2048"]
    subprocess.run(made, capture_output=True, check=True, timeout=60)
    cluster = {"server": plane.url, "certificate-authority": str(plane.ca_file)}
    known = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": ADMIN}}]}
    context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
    plane.kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **known, **context}))
