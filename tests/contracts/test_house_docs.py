"""What the documents say is true."""

import os
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from standardwebhooks import Webhook

from watchdog.app import adapter_options, load_config
from watchdog.senders.flagger import FlaggerSender

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
KINDS = [kind for kinds in adapter_options().values() for kind in kinds]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of every document names a file that exists."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_readme_says_first_what_it_is_not() -> None:
    """The first screen tells the newcomer that this is not the file-watching library, and the two commands."""
    first_screen = "\n".join(README.splitlines()[:25])
    assert "not the file-watching library" in first_screen
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_every_make_target_named_in_a_document_exists() -> None:
    """A document names no target that `make help` does not list."""
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  make ([a-z0-9-]+)", helped, re.M))
    named = {
        name for document in DOCUMENTS for name in re.findall(r"(?:`|^)make ([a-z0-9-]+)", document.read_text(), re.M)
    }
    assert {"demo", "test", "check", "help"} <= named | {"help"}
    assert named - targets == set()


def test_every_promise_has_a_command_and_every_test_it_names_exists() -> None:
    """P1 to P14, each with something to run; a test that was renamed shows."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    promises = re.split(r"^\*\*(?=P\d+\. )", text, flags=re.M)[1:]
    numbers = [int(re.match(r"P(\d+)", promise)[1]) for promise in promises]  # type: ignore[index]
    assert sorted(numbers) == list(range(1, 15))
    assert [promise[:60] for promise in promises if "- `make " not in promise] == []
    for path, _, name in re.findall(r"TESTS=(tests/[\w/.]+)(::(\w+))?", text):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_the_readmes_signature_is_accepted() -> None:
    """The shell lines of the README sign a deploy as Standard Webhooks ask."""
    secret = "whsec_" + "c2VjcmV0IG9mIHRoZSByZWFkbWUgdGVzdA=="
    script = re.findall(r"<!-- test: signed-webhook -->\n```sh\n(.*?)^```", README, re.M | re.S)[0]
    show = "curl() { printf '%s\\n' \"$@\"; }\n"
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", show + script],
        env={**os.environ, "WATCHDOG_WEBHOOK_SECRET": secret, "CI_RUN_ID": "77", "DEPLOY_WATCHDOG_URL": "http://127.0.0.1:1"},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    body = told[told.index("--json") + 1]
    headers = dict(line.split(": ", 1) for line in told if line.startswith("webhook-"))
    assert headers["webhook-id"] == "ci-77"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert Webhook(secret).verify(body, headers)["service"] == "shop"


def test_the_readmes_configuration_is_right(tmp_path: Path) -> None:
    """What a newcomer copies from the README is a configuration without mistakes."""
    (tmp_path / "config.toml").write_text(blocks("toml")[0])
    config = load_config(tmp_path / "config.toml", {"WATCHDOG_CI_TOKEN": "x" * 32})
    assert [metric.spec.name for metric in config.services["shop"].metrics] == ["errors", "latency"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented(kind: str) -> None:
    """Whoever adds an adapter names it in docs/extending.md and in the annotated config.toml."""
    assert f"`{kind}`" in (ROOT / "docs" / "extending.md").read_text()
    assert f'"{kind}"' in (ROOT / "config.toml").read_text()


def test_the_changelog_has_the_section_for_changed_verdicts() -> None:
    """People who replay verdicts find what changed for them."""
    assert "### Changed verdicts" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_the_readmes_command() -> None:
    """CI proves the very command that the README gives, and nothing may be skipped there."""
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert run.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in run.read_text()
    assert "export CI=true" in run.read_text()
    assert [line.split("#")[0].strip() for line in run.read_text().splitlines() if line][-1] == "make test"


def test_versions_agree() -> None:
    """pyproject.toml, the package and the changelog speak of one version."""
    from watchdog import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_the_intakes_configuration_is_right(tmp_path: Path) -> None:
    """The tables of docs/intake.md are without mistakes beside a service."""
    told = blocks("toml", (ROOT / "docs" / "intake.md").read_text())[0]
    env = dict.fromkeys(("WATCHDOG_SYSTEMS_TOKEN", "GITHUB_WEBHOOK_SECRET", "GITLAB_WEBHOOK_TOKEN"), "x" * 32)
    (tmp_path / "config.toml").write_text(told)
    config = load_config(tmp_path / "config.toml", env)
    assert set(config.senders) == {"github", "gitlab", "argocd", "cdevents", "flagger", "alertmanager"}


def test_the_intakes_manifests_are_yaml() -> None:
    """What is copied into a cluster can at least be read, and names addresses that there are."""
    told = [yaml.safe_load(block) for block in blocks("yaml", (ROOT / "docs" / "intake.md").read_text())]
    assert [document.get("kind", "Alertmanager") for document in told] == [
        "ConfigMap",
        "Canary",
        "AnalysisTemplate",
        "Alertmanager",
    ]
    hooks = told[1]["spec"]["analysis"]["webhooks"]
    assert all(hook["url"].endswith(f"/api/v1/intake/flagger/{hook['type']}") for hook in hooks)
    assert {hook["type"] for hook in hooks} <= FlaggerSender.hooks
