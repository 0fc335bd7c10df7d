"""`check` and `run`: every mistake of a configuration, and what the world around it says."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeHook
from watchdog.app import parts_of
from watchdog.cli import command_line
from watchdog.cli.check_ends import _probed

PAGE = """# TYPE all_total counter
all_total{version="v1"} 100
# TYPE bad_total counter
bad_total{version="v1"} 1
# TYPE open_files gauge
open_files 12
"""
CONFIG = """
[sources.pages]
kind = "scrape"
interval_s = 0.05
[[sources.pages.targets]]
url = "{url}"
[hooks.back]
kind = "command"
argv = ["true"]
probe_argv = ["sh", "-c", "exit 0"]
[sinks.log]
kind = "log"
[services.shop]
source = "pages"
look_s = 0.3
watch_s = 60
settle_s = 0
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = "bad_total"
total = "all_total"
"""

Check = Callable[..., tuple[int, list[dict[str, str]], str]]


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """A /metrics page that is there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        server.shutdown()
        thread.join()


@pytest.fixture
def check(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a configuration that watches the page, with some of its text replaced."""
    monkeypatch.chdir(tmp_path)

    def run(replaced: dict[str, str] | None = None, text: str = CONFIG) -> tuple[int, list[dict[str, str]], str]:
        text = text.replace("{url}", page)
        for old, new in (replaced or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "config.toml").write_text(text)
        assert command_line(["check", "--json"]) in (0, 4)
        document = json.loads(capsys.readouterr().out)
        code = command_line(["check"])
        assert document["ok"] == (code == 0)
        return code, document["findings"], capsys.readouterr().out

    return run


def of(findings: list[dict[str, str]], level: str) -> list[tuple[str, str]]:
    return [(finding["about"], finding["message"]) for finding in findings if finding["level"] == level]


def test_a_sound_configuration_is_ready(check: Check) -> None:
    """The source was asked and had samples of every metric; the hook's programs are there."""
    code, findings, said = check()
    assert of(findings, "problem") == of(findings, "warning") == []
    about = [about for about, _ in of(findings, "ok")]
    assert about == [
        "daemon.ledger",
        "hooks.back.argv",
        "hooks.back.probe_argv",
        "services.shop.metrics.errors",
        "services.shop.version_label",
        "services.shop.migration",
        "services.shop.mode",
    ]
    said_of = dict(of(findings, "ok"))
    assert "; v1: 1 instance, " in said_of["services.shop.metrics.errors"]
    assert said_of["services.shop.mode"].startswith("the evidence supports notify (0 deploys judged")
    assert code == 0
    assert said.endswith("config.toml: ready\n")


def test_mistakes_of_the_file_come_all_at_once(check: Check) -> None:
    """With file and line, as the daemon itself would say them."""
    code, findings, said = check({'"scrape"': '"scrap"', "watch_s = 60": "watch_s = -1"})
    assert code == 4
    assert [about for about, _ in of(findings, "problem")] == [
        "config.toml:3: sources.pages.kind",
        "config.toml:16: services.shop.watch_s",
    ]
    assert said.endswith("config.toml: 2 to correct\n")


def test_a_source_that_does_not_answer_is_a_problem(check: Check) -> None:
    """With the reason and what to look at."""
    text = CONFIG.replace("{url}", "http://127.0.0.1:1/metrics")
    code, findings, _ = check(text=text)
    ((about, message),) = of(findings, "problem")
    assert (code, about) == (4, "sources.pages")
    assert "does not answer" in message
    assert "refused" in message


def test_a_metric_without_samples_is_a_warning(check: Check) -> None:
    """Beside others that have some: it is said, with the labels that were asked for, and the last line counts it."""
    files = '\n[[services.shop.metrics]]\nname = "files"\nkind = "gauge"\ngauge = "opne_files"\nby = []\n'
    code, findings, said = check(text=CONFIG + files)
    assert code == 0
    assert of(findings, "warning") == [("services.shop.metrics.files", "no samples in the last interval")]
    assert said.endswith("config.toml: ready, with 1 warning\n")


def test_a_service_that_brings_nothing_at_all_is_a_problem(check: Check) -> None:
    """A pipeline must not take a wrong selector for ready; it is said how to go on with a service yet to come."""
    code, findings, said = check({'source = "pages"': 'source = "pages"\nselector = { job = "shpo" }'})
    assert code == 4
    ((about, message),) = of(findings, "problem")
    assert about == "services.shop.metrics"
    assert "not one brings samples" in message
    assert "where it is not deployed yet, check again once it has traffic" in said
    assert said.endswith("config.toml: 1 to correct\n")


def test_a_metric_that_cannot_be_told_apart_by_version_is_a_warning(check: Check) -> None:
    """Beside others that can: a canary would never be compared on it. Who compares with the time before needs none."""
    files = '\n[[services.shop.metrics]]\nname = "files"\nkind = "gauge"\ngauge = "open_files"\n'
    code, findings, _ = check(text=CONFIG + files)
    assert code == 0
    ((about, message),) = of(findings, "warning")
    assert (about, "carries the label 'version'" in message) == ("services.shop.metrics.files", True)
    _, findings, _ = check({'source = "pages"': 'source = "pages"\nstrategy = "direct"'}, text=CONFIG + files)
    assert "services.shop.metrics.files" not in [about for about, _ in of(findings, "warning")]


@pytest.mark.parametrize(
    ("replaced", "level", "about", "told"),
    [
        ({'argv = ["true"]\nprobe': 'argv = ["/no/such"]\nprobe'}, "problem", "hooks.back.argv", "'/no/such'"),
        ({'probe_argv = ["sh", "-c", "exit 0"]': ""}, "warning", "hooks.back", "without a probe"),
        (
            {'source = "pages"': 'source = "pages"\nmode = "approve"'},
            "problem",
            "services.shop.rollback_hook",
            "approve",
        ),
        (
            {'source = "pages"': 'source = "pages"\nmode = "auto"\nrollback_hook = "back"\nstrategy = "direct"'},
            "warning",
            "services.shop.act_uncalibrated",
            "UNCALIBRATED",
        ),
        (
            {
                'kind = "command"\nargv = ["true"]\nprobe_argv = ["sh", "-c", "exit 0"]': 'kind = "dry_run"',
                'source = "pages"': 'source = "pages"\nmode = "auto"\nrollback_hook = "back"',
            },
            "warning",
            "services.shop.rollback_hook",
            "changes nothing",
        ),
        (
            {
                'source = "pages"': 'source = "pages"\nmode = "notify"\nrollback_hook = "back"\n'
                'steps = { shares = [0.1, 1.0], bake_s = 1.0, promote_hook = "back" }'
            },
            "warning",
            "services.shop.steps",
            "nothing grows",
        ),
        (
            {
                'source = "pages"': 'source = "pages"\nstrategy = "direct"\n'
                'steps = { shares = [0.1, 1.0], bake_s = 1.0, promote_hook = "back" }'
            },
            "warning",
            "services.shop.steps",
            "direct",
        ),
        ({'[sinks.log]\nkind = "log"': ""}, "warning", "services.shop.sinks", "nobody is told"),
        (
            {"[sources.pages]": '[daemon]\nledger = "nowhere/x.db"\n[sources.pages]'},
            "problem",
            "daemon.ledger",
            "folder",
        ),
    ],
)
def test_what_the_world_lacks_is_found(
    check: Check, replaced: dict[str, str], level: str, about: str, told: str
) -> None:
    """Each finding alone, each with its remedy."""
    code, findings, _ = check(replaced)
    mine = [finding for finding in findings if not finding["about"].endswith(".mode")]  # nobody has earned it here
    (found,) = [finding for finding in mine if finding["level"] != "ok"]
    assert (found["level"], found["about"]) == (level, about)
    assert told in found["message"]
    assert found["remedy"]
    assert code == (4 if level == "problem" else 0)


def test_nothing_to_watch_is_a_problem(check: Check) -> None:
    """An empty file is a valid configuration of nothing."""
    code, findings, _ = check(text="")
    assert (code, of(findings, "problem")) == (4, [("services", "none is configured, nothing would be watched")])


def test_a_source_nobody_uses_is_said(check: Check) -> None:
    """It is a leftover, or a service is missing."""
    _, findings, _ = check(
        {"[hooks.back]": '[sources.old]\nkind = "prometheus"\nurl = "http://127.0.0.1:1"\n[hooks.back]'}
    )
    assert of(findings, "warning") == [("sources.old", "no service uses it")]


def test_a_secret_that_is_none_is_found(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there and is not what it should be: an address for Slack, a token that can be guessed. Neither is shown."""
    monkeypatch.setenv("ADDRESS", "hidden words")
    monkeypatch.setenv("TOKEN", "hidden")
    sink = '[sinks.out]\nkind = "slack"\nwebhook_url_env = "ADDRESS"\n[sinks.log]'
    code, findings, said = check({"[sinks.log]": sink})
    assert (code, of(findings, "problem")[0][0]) == (4, "config.toml: sinks.out.webhook_url")
    token = '[[auth.tokens]]\nname = "ci"\nscopes = ["read"]\ntoken_env = "TOKEN"\n[sinks.log]'
    code, findings, more = check({"[sinks.log]": token})
    assert code == 4
    assert "ci" in of(findings, "problem")[0][0]
    assert "hidden" not in said + more


def test_checking_changes_nothing(check: Check, tmp_path: Path) -> None:
    """No ledger is made, no hook is run."""
    check({'argv = ["true"]\nprobe': 'argv = ["touch", "ran"]\nprobe'})
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_ledger_that_run_would_refuse_is_a_problem(check: Check, tmp_path: Path) -> None:
    """`check && run` must not find out in the second step."""
    (tmp_path / "w.db").write_bytes(b"no database at all" * 100)
    code, findings, _ = check({"[sources.pages]": '[daemon]\nledger = "w.db"\n[sources.pages]'})
    assert code == 4
    told = [finding for finding in findings if finding["about"] == "daemon.ledger" and finding["level"] == "problem"]
    assert "is not a database" in told[0]["message"]


@pytest.mark.parametrize(("kind", "remedy"), [("command", "run it by hand with TO=v1"), ("haproxy", "can be reached")])
def test_the_remedy_for_a_probe_that_cannot_tell_fits_the_hook(kind: str, remedy: str) -> None:
    """Only a program has exit codes and can be run by hand."""
    hook = FakeHook(probe_speaks=False)
    hook.kind = kind  # type: ignore[misc]
    found = _probed("hooks.back", hook, "shop", "production", "v1")
    assert remedy in found.remedy


def test_an_authority_that_is_not_there_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is looked for beside the configuration, wherever the command is run; and one that is no PEM is told too."""
    (tmp_path / "beside").mkdir()
    file = tmp_path / "beside" / "config.toml"
    file.write_text('[sources.prometheus]\nkind = "prometheus"\nurl = "https://p.example"\nca_file = "ca.pem"\n')
    monkeypatch.chdir(tmp_path)
    for content, said in ((None, "No such file"), ("no certificate", "it holds no PEM certificate")):
        if content is not None:
            (tmp_path / "beside" / "ca.pem").write_text(content)
        assert command_line(["check", "--config", str(file)]) == 4
        told = capsys.readouterr().out
        assert "config.toml:4: sources.prometheus.ca_file" in told
        assert str(tmp_path / "beside" / "ca.pem") in told
        assert said in told


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_mistake_is_told_of_the_file_that_was_given(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of a config.toml that does not exist: also where it is found only when the daemon is put together."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORT", "too-short")
    monkeypatch.setattr("watchdog.running.run", lambda config, _: parts_of(config))
    token = '[[auth.tokens]]\nname = "ci"\nscopes = ["read"]\ntoken_env = "SHORT"\n'
    (tmp_path / "shop.toml").write_text(token + CONFIG.replace("{url}", "http://127.0.0.1:1"))
    assert command_line([command, "--config", "shop.toml"]) == 4
    said = "".join(capsys.readouterr())
    assert "shop.toml: auth.tokens.ci: expected a token of at least" in said
    assert "config.toml" not in said


def test_a_broken_file_is_refused_by_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line per mistake on stderr, exit code 4, nothing started."""
    file = tmp_path / "config.toml"
    file.write_text("[daemon]\nlisten = 8811\n[polici]\n")
    assert command_line(["run", "--config", str(file)]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f'{file}:2: daemon.listen: expected a text in "quotes", not 8811',
        f"{file}:3: polici: unknown key; did you mean 'policy'?",
    ]


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those there are; --list tells their stories."""
    assert command_line(["demo", "--scenario", "good-canary"]) == 4
    assert "expected one of bad-canary, " in capsys.readouterr().err
    assert command_line(["demo", "--list", "--json"]) == 0
    stories = json.loads(capsys.readouterr().out)
    assert {"scenario": "bad-canary", "outcome": "rolled_back"}.items() <= stories[0].items()
