"""The GitHub action and the GitLab job: their own shell, run against a real daemon, ends as the deploy does."""

import json
import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import servers
from tests.intake_desk import TOKEN, Desk, desk
from tests.receivers import Answer, Receiver, receiver
from tests.servers import free_port, wait_until
from tests.web_server import on_a_port
from watchdog.cli.deploys import EXIT_CODES
from watchdog.model import AuditEntry, Change, MessageKind, Severity, State
from watchdog.telling import message

ROOT = Path(__file__).parents[2]
CI = ROOT / "ci"
ACTION = yaml.safe_load((CI / "github" / "action.yml").read_text())
JOB = yaml.safe_load((CI / "gitlab" / "deploy-watchdog.gitlab-ci.yml").read_text())[".deploy-watchdog"]
TO = {  # outcome → the way there
    State.PASSED: (State.PASSED,),
    State.ROLLED_BACK: (State.INTENT, State.RUNNING, State.VERIFYING, State.ROLLED_BACK),
    State.INCONCLUSIVE: (State.INCONCLUSIVE,),
    State.HELD: (State.HELD,),
}
Step = Callable[..., subprocess.CompletedProcess[str]]
INPUTS = {"service": "shop", "version": "v2", "previous-version": "v1", "id": "ci-1", "timeout-s": "60"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, real_time=True) as made:
        yield made


@pytest.fixture
def url(daemon: Desk) -> Iterator[str]:
    with on_a_port(daemon.app.web) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def github() -> Iterator[Receiver]:
    """GitHub's API, as far as check runs go."""
    with receiver() as api:
        api.otherwise = lambda request: Answer(201, b'{"id": 1}')
        yield api


def settle(daemon: Desk, state: State, sentence: str = "") -> threading.Thread:
    """Bring the deploy to its end as soon as it is on record, while somebody waits for it."""

    def go() -> None:
        wait_until(lambda: daemon.app.ledger.watch("ci-1") is not None, within_s=20, what="the deploy is told")
        for step in TO[state]:
            watch, now = daemon.watch("ci-1"), daemon.app.clock.now()
            said = message(watch, MessageKind.PROGRESS, Severity.INFO, step.value, state=step, key=step.value)
            entry = AuditEntry(at=now, watch_id=watch.id, actor="daemon", event="test", after=step.value)
            fields = {"sentence": sentence or f"shop v2 is {step.value}"}
            daemon.app.ledger.commit(Change(watch_id=watch.id, at=now, expect_state=watch.state, to_state=step,
                                            fields=fields, audit=(entry,), messages=(said,)))  # fmt: skip

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


def run(script: str, env: dict[str, str], folder: Path, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    curl = Path(servers.program("curl")).parent  # where it is not installed
    bare = {"PATH": f"{os.environ['PATH']}:{curl}", "HOME": str(folder)}
    return subprocess.run([shell, "-c", script], env=bare | env, cwd=folder, capture_output=True, text=True,
                          timeout=90, check=False)  # fmt: skip


@pytest.fixture
def action(tmp_path: Path, url: str, github: Receiver) -> Step:
    """Run the step of the composite action as a runner does: its `run`, with its `env` and the inputs filled in."""

    def go(**inputs: str) -> subprocess.CompletedProcess[str]:
        (step,) = ACTION["runs"]["steps"]
        defaults = {name: str(told.get("default", "")) for name, told in ACTION["inputs"].items()}
        given = defaults | {"url": url, "token": TOKEN, "check-token": "ghs_x"} | INPUTS
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        env = {key: given[str(value)[len("${{ inputs.") : -len(" }}")]] for key, value in step["env"].items()}
        runner = {
            "GITHUB_ACTION_PATH": str(CI / "github"), "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_API_URL": github.url,
            "GITHUB_REPOSITORY": "acme/shop", "GITHUB_SHA": "f95f852b",
        }  # fmt: skip
        return run(step["run"], env | runner, tmp_path, step["shell"])

    return go


def outputs(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())


def script_of_the_job(**variables: str) -> tuple[str, dict[str, str]]:
    """What GitLab's runner would run, with the job's variables, expanded as far as the tests need."""
    told = {name: str(value) for name, value in JOB["variables"].items()} | variables
    return "\n".join(JOB["script"]), {"GITLAB_CI": "true", "DEPLOY_WATCHDOG_TOKEN": TOKEN, **told}


@pytest.mark.parametrize("state", TO)
def test_the_action_ends_as_the_deploy_does(
    daemon: Desk,
    action: Step,
    tmp_path: Path,
    github: Receiver,
    state: State,
) -> None:
    """Exit code, outputs, summary, annotation and check run, with the sentence and the link."""
    done = settle(daemon, state)
    ended = action()
    done.join()
    assert ended.returncode == EXIT_CODES[state.outcome], ended.stdout + ended.stderr
    told = outputs(tmp_path)
    assert (told["id"], told["outcome"], told["exit-code"]) == ("ci-1", state.outcome, str(ended.returncode))
    assert told["sentence"] == f"shop v2 is {state.value}"
    assert told["url"].endswith("/deploys/ci-1")
    assert set(told) == set(ACTION["outputs"])
    assert told["sentence"] in (tmp_path / "summary.md").read_text()
    assert f"title=deploy-watchdog: {state.outcome}::{told['sentence']}" in ended.stdout
    (made,) = github.received
    check = made.json()
    assert made.path == "/repos/acme/shop/check-runs"
    assert (check["name"], check["head_sha"]) == ("deploy-watchdog / shop", "f95f852b")
    assert check["conclusion"] == ["success", "failure", "neutral", "action_required"][ended.returncode]
    assert (check["details_url"], check["output"]["summary"]) == (told["url"], told["sentence"])
    assert TOKEN not in ended.stdout + ended.stderr


@pytest.mark.parametrize("state", TO)
def test_the_gitlab_job_ends_as_the_deploy_does(daemon: Desk, url: str, tmp_path: Path, state: State) -> None:
    """Exit code, variables for later jobs, and a test report for the merge request."""
    script, env = script_of_the_job(WATCH_SERVICE="shop", WATCH_VERSION="v2", WATCH_PREVIOUS_VERSION="v1",
                                    WATCH_ID="ci-1", WATCH_TIMEOUT_S="60", DEPLOY_WATCHDOG_URL=url)  # fmt: skip
    done = settle(daemon, state, 'v2 <b>"worse"</b> & more')
    ended = run(script, env, tmp_path)
    done.join()
    assert ended.returncode == EXIT_CODES[state.outcome], ended.stdout + ended.stderr
    variables = dict(line.split("=", 1) for line in (tmp_path / "deploy-watchdog.env").read_text().splitlines())
    assert variables["DEPLOY_WATCHDOG_OUTCOME"] == state.outcome
    report = ET.parse(tmp_path / "deploy-watchdog.xml").getroot()
    failure = report.find("testcase/failure")
    assert (failure is None) == (ended.returncode == 0)
    assert failure is None or 'v2 <b>"worse"</b> & more' in (failure.text or "")


def test_the_jobs_script_is_the_one_that_is_kept(tmp_path: Path) -> None:
    """One script; the file that GitLab includes holds it word for word."""
    assert JOB["script"] == [(CI / "deploy-watchdog.sh").read_text()]


def test_hostile_sentences_stay_text(daemon: Desk, action: Step, tmp_path: Path, github: Receiver) -> None:
    """Quotes, backslashes, percent signs, commands of shell and runner: a sentence in every place."""
    hostile = "a \"b\" \\c %0A::error::d $(touch owned) `touch owned` <img src=x> 'e'"
    done = settle(daemon, State.ROLLED_BACK, hostile)
    ended = action()
    done.join()
    assert ended.returncode == 1
    assert outputs(tmp_path)["sentence"] == hostile
    assert github.received[0].json()["output"]["summary"] == hostile
    assert "<img" not in (tmp_path / "summary.md").read_text()
    assert "%250A" in ended.stdout
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"version": 'v2"; touch owned; "'}, "WATCH_VERSION"),
        ({"version": ""}, "WATCH_VERSION is not set"),
        ({"service": "$(touch owned)"}, "WATCH_SERVICE"),
        ({"service": "nobody"}, "403"),
        ({"share": "all"}, "WATCH_SHARE"),
        ({"timeout_s": "long"}, "WATCH_TIMEOUT_S"),
        ({"url": "file:///etc/passwd"}, "DEPLOY_WATCHDOG_URL"),
        ({"token": ""}, "DEPLOY_WATCHDOG_TOKEN"),
        ({"token": "no-such-token-0123456789"}, "401"),
        ({"strategy": "sideways"}, "422"),
    ],
)
def test_what_cannot_be_asked_ends_with_4(action: Step, tmp_path: Path, inputs: dict[str, str], said: str) -> None:
    """With the reason, and nothing of what came from outside was run."""
    ended = action(**inputs)
    assert (ended.returncode, said in ended.stderr) == (4, True), ended.stderr
    assert not list(tmp_path.rglob("owned"))


def test_an_inconclusive_deploy_may_be_allowed(daemon: Desk, action: Step, tmp_path: Path) -> None:
    """The step succeeds, the outputs still say what it was."""
    done = settle(daemon, State.INCONCLUSIVE)
    ended = action(allow_inconclusive="true")
    done.join()
    assert (ended.returncode, outputs(tmp_path)["exit-code"]) == (0, "2")


def test_no_outcome_in_time_is_no_success(action: Step, tmp_path: Path, github: Receiver) -> None:
    """4, `undecided`, and a check that timed out."""
    ended = action(timeout_s="1")
    assert (ended.returncode, outputs(tmp_path)["outcome"]) == (4, "undecided")
    assert github.received[0].json()["conclusion"] == "timed_out"


def test_a_check_run_that_is_refused_is_a_warning(daemon: Desk, action: Step, github: Receiver) -> None:
    """Without the permission the verdict still counts."""
    github.otherwise = lambda request: Answer(403, b"{}")
    done = settle(daemon, State.PASSED)
    ended = action()
    done.join()
    assert ended.returncode == 0
    assert "checks: write" in ended.stdout


def test_told_again_it_is_the_same_deploy(daemon: Desk, action: Step) -> None:
    """A step that is run again after it lost its connection watches nothing twice."""
    settle(daemon, State.PASSED).join(0)
    assert [action().returncode, action().returncode] == [0, 0]
    assert len(daemon.app.ledger.watches()) == 1


def test_a_daemon_that_restarts_is_asked_again(tmp_path: Path) -> None:
    """503 and a broken connection in the middle of the wait are no outcome."""
    answers = iter([(201, b"ci-1\nundecided\nwatching\n"), (503, b"busy"), (200, b"ci-1\nundecided\nwatching\n"),
                    (200, b"ci-1\npassed\nall is well\n")])  # fmt: skip
    with receiver() as server:
        server.otherwise = lambda request: Answer(*next(answers))
        env = {"DEPLOY_WATCHDOG_URL": server.url, "DEPLOY_WATCHDOG_TOKEN": "x", "WATCH_SERVICE": "shop",
               "WATCH_VERSION": "v2", "WATCH_TIMEOUT_S": "30"}  # fmt: skip
        ended = run(str(CI / "deploy-watchdog.sh"), env, tmp_path)
    assert (ended.returncode, "all is well" in ended.stdout) == (0, True), ended.stderr


def test_nobody_at_the_address_ends_with_4(tmp_path: Path) -> None:
    """After the retries of curl; the address is said."""
    env = {"DEPLOY_WATCHDOG_URL": f"http://127.0.0.1:{free_port()}", "DEPLOY_WATCHDOG_TOKEN": "x",
           "WATCH_SERVICE": "shop", "WATCH_VERSION": "v2"}  # fmt: skip
    script = (CI / "deploy-watchdog.sh").read_text().replace("--retry 5", "--retry 1")
    ended = run(script, env, tmp_path)
    assert (ended.returncode, "cannot reach the daemon" in ended.stderr) == (4, True)


@pytest.mark.parametrize(
    ("file", "schema", "more"),
    [
        ("github/action.yml", "vendor.github-actions", []),
        ("gitlab/deploy-watchdog.gitlab-ci.yml", "vendor.gitlab-ci", ["--data-transform", "gitlab-ci"]),
    ],
)
def test_the_files_fit_the_published_schemas(file: str, schema: str, more: list[str]) -> None:
    """Those of SchemaStore and GitLab, as check-jsonschema brings them; a file with a mistake is refused."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is missing: `make lock`, then `make`")
    checked = CI / file
    assert check(schema, checked, more) == 0


def check(schema: str, file: Path, more: list[str]) -> int:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *more, str(file)]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


def test_the_schemas_notice_mistakes(tmp_path: Path) -> None:
    """The check above can fail."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is missing: `make lock`, then `make`")
    broken: dict[str, Any] = json.loads(json.dumps(ACTION))
    broken["runs"]["using"] = "hope"
    (tmp_path / "action.yml").write_text(yaml.safe_dump(broken))
    assert check("vendor.github-actions", tmp_path / "action.yml", []) == 1
    (tmp_path / "job.yml").write_text(yaml.safe_dump({"watch": {**JOB, "script": 7}}))
    assert check("vendor.gitlab-ci", tmp_path / "job.yml", ["--data-transform", "gitlab-ci"]) == 1


@pytest.mark.parametrize(
    ("heading", "schema", "more"),
    [
        ("## GitHub", "vendor.github-workflows", []),
        ("## GitLab", "vendor.gitlab-ci", ["--data-transform", "gitlab-ci"]),
    ],
)
def test_the_examples_of_the_documentation_fit_the_schemas(
    tmp_path: Path, heading: str, schema: str, more: list[str]
) -> None:
    """A workflow with the action, whose inputs there are; a pipeline that extends the job."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is missing: `make lock`, then `make`")
    text = (ROOT / "docs" / "ci.md").read_text().partition(heading)[2]
    example = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "example.yml").write_text(example)
    assert check(schema, tmp_path / "example.yml", more) == 0
    told = yaml.safe_load(example)
    if "jobs" in told:
        uses = next(step for step in told["jobs"]["deploy"]["steps"] if "ci/github@" in step.get("uses", ""))
        assert set(uses["with"]) <= set(ACTION["inputs"])
    else:
        assert told["watch"]["extends"] == ".deploy-watchdog"
