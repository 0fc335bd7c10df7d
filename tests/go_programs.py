"""Programs of Go modules for the longer tests, built once into the cache; without Go the test says what did not run."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers import cache_folder, without

CONTROL_PLANE = Path(__file__).parent / "control_plane"  # go.mod and go.sum: which versions, with their hashes
KUBERNETES = "v1.37.2"
KWOK = "v0.8.0"
ARGO_CONTROLLER = Path(__file__).parent / "argo_controller"
ARGO_ROLLOUTS = "v1.10.0"
CURRENT_PROMETHEUS = Path(__file__).parent / "current_prometheus"
PROMETHEUS = "v0.316.0"  # of Go: Prometheus 3.16
BUILD_S = 3600.0


def kubernetes_program(name: str) -> str:
    """kube-apiserver, kube-controller-manager or kubectl; twenty minutes on two cores, once."""
    version = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"
    argv = [
        "go",
        "build",
        "-trimpath",
        "-ldflags",
        f"-s -w {version}",
        "-o",
        "{folder}/",
        f"k8s.io/kubernetes/cmd/{name}",
    ]
    return _built(f"kubernetes-{KUBERNETES}", name, argv, CONTROL_PLANE)


def kwok() -> str:
    """What lets pods run that nobody runs: https://kwok.sigs.k8s.io."""
    return _built(f"kwok-{KWOK}", "kwok", ["go", "install", "-trimpath", f"sigs.k8s.io/kwok/cmd/kwok@{KWOK}"], None)


def argo_controller() -> str:
    """The controller of Argo Rollouts; ten minutes on two cores, once."""
    argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", "{folder}/"]
    argv.append("github.com/argoproj/argo-rollouts/cmd/rollouts-controller")
    return _built(f"argo-rollouts-{ARGO_ROLLOUTS}", "rollouts-controller", argv, ARGO_CONTROLLER)


def argo_definitions() -> list[Path]:
    """The resources that the controller keeps, as its module describes them."""
    asked = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-rollouts"]
    found = subprocess.run(asked, cwd=ARGO_CONTROLLER, capture_output=True, text=True, timeout=300, check=True)
    return sorted(Path(found.stdout.strip(), "manifests", "crds").glob("*-crd.yaml"))


def current_prometheus() -> str:
    """A Prometheus 3 without its pages and without service discovery but files; a while on two cores, once."""
    argv = [
        "go",
        "build",
        "-trimpath",
        "-tags",
        "remove_all_sd",
        "-ldflags",
        "-s -w",
        "-o",
        "{folder}/",
        "github.com/prometheus/prometheus/cmd/prometheus",
    ]
    return _built(f"prometheus-{PROMETHEUS}", "prometheus", argv, CURRENT_PROMETHEUS)


def _built(kept_in: str, name: str, argv: list[str], source: Path | None) -> str:
    kept = cache_folder().parent / "go" / kept_in
    if not (kept / name).exists():
        if shutil.which("go") is None:
            without("go", f"it would have built {name}")
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as folder:
            env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": folder, "GOFLAGS": "-mod=readonly" if source else ""}
            placed = [word.replace("{folder}", folder) for word in argv]
            try:
                built = subprocess.run(
                    placed, cwd=source or folder, env=env, capture_output=True, text=True, timeout=BUILD_S, check=False
                )
            except subprocess.TimeoutExpired:
                without(name, f"it was not built within {BUILD_S / 60:g} minutes; once more, and Go goes on from there")
            if built.returncode != 0:
                without(name, built.stderr.strip()[-500:])
            (Path(folder) / name).rename(kept / name)
    return str(kept / name)
