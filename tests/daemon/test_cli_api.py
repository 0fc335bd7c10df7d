"""The commands that talk to a daemon, against its real API; faults come from a server made for them."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from watchdog.app import build, load_config
from watchdog.cli import command_line
from watchdog.cli.client import ApiClient, ClientError, completed
from watchdog.cli.deploys import EXIT_CODES, follow
from watchdog.model import RESTING
from watchdog.web import serve

TOKEN = "a-token-of-the-tests"
CONFIG = """
[daemon]
ledger = "{ledger}"
[[auth.tokens]]
name = "tests"
token_env = "TESTS"
scopes = ["admin"]
[[auth.tokens]]
name = "reader"
token_env = "READER"
scopes = ["read"]
[sources.pages]
kind = "scrape"
[[sources.pages.targets]]
url = "http://127.0.0.1:9/metrics"
[services.shop]
source = "pages"
environments = ["*"]
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = "bad_total"
total = "all_total"
"""


@dataclass
class Daemon:
    url: str
    ledger: Path


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The real app behind a real socket; nothing ticks, so a deploy stays as the commands leave it."""
    folder = tmp_path_factory.mktemp("daemon")
    file = folder / "config.toml"
    file.write_text(CONFIG.format(ledger=folder / "watchdog.db"))
    env = {"TESTS": TOKEN, "READER": "a-token-that-reads"}
    app = build(load_config(file, env), env=env)
    server = serve(app.web, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    started = threading.Event()
    while not server.started:
        assert thread.is_alive()
        started.wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Daemon(f"http://127.0.0.1:{port}", folder / "watchdog.db")
    server.should_exit = True
    thread.join(10)
    app.ledger.close()


@pytest.fixture
def run(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command against the daemon, with the token in the environment."""
    monkeypatch.setenv("DEPLOY_WATCHDOG_URL", daemon.url)
    monkeypatch.setenv("DEPLOY_WATCHDOG_TOKEN", TOKEN)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = command_line(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


Run = Callable[..., tuple[int, str, str]]


def deploy(run: Run, deploy_id: str, *more: str) -> None:
    shop = ("--service", "shop", "--version", "v2", "--previous-version", "v1")
    code, _, err = run("trigger", *shop, "--id", deploy_id, *more)
    assert code == 0, err


def test_trigger_prints_the_id_and_the_sentence(run: Run) -> None:
    """The first line alone is what a pipeline keeps; the same deploy again is the same watch."""
    arguments = ["trigger", "--service", "shop", "--version", "v2", "--previous-version", "v1", "--id", "t/1"]
    code, out, _ = run(*arguments)
    assert code == 0
    assert out.splitlines()[0] == "t/1"
    assert out.splitlines()[1].startswith("shop v2: ")
    assert run(*arguments)[1] == out


def test_trigger_sends_everything_it_is_told(run: Run) -> None:
    """Strategy, share, instances, environment: nothing is dropped on the way."""
    code, out, err = run(
        *("trigger", "--service", "shop", "--version", "v3", "--previous-version", "v2", "--strategy", "canary"),
        *("--share", "0.1", "--environment", "staging", "--instance", "candidate=a:1", "--instance", "baseline=b:1"),
        *("--instance", "candidate=a:2", "--migration", "expand", "--json"),
    )
    assert code == 0, err
    watch = json.loads(out)
    assert (watch["environment"], watch["strategy"], watch["previous_version"]) == ("staging", "canary", "v2")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--service", "shp"], "did you mean 'shop'?"),
        (["--service", "shop", "--strategy", "canry"], "strategy"),
        (["--service", "shop", "--share", "23"], "(0.23 means 23 %). See `deploy-watchdog trigger --help`"),
        (["--service", "shop", "--version", "$(touch x)"], "version"),
        (["--service", "shop", "--version", '"} or vector(1)'], "version"),
        (["--service", "shop", "--instance", "candidate"], "ARM=NAME"),
        (["--service", "shop", "--instance", "other=a"], "ARM=NAME"),
    ],
)
def test_a_refused_deploy_is_one_sentence(run: Run, arguments: list[str], told: str) -> None:
    """What the API says is what is shown, with its remedy."""
    code, out, err = run("trigger", "--version", "v2", "--previous-version", "v1", *arguments)
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith("error: ")
    assert told in err


def test_list_prints_lines_for_programs(run: Run) -> None:
    """Not a terminal: tabs, no colours; --json is what the API says."""
    deploy(run, "l1", "--environment", "list")
    code, out, _ = run("list", "--service", "shop", "--state", "watching")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("l1\t")).split("\t")
    assert row[1:6] == ["shop", "v2", "v1", "canary", "WATCHING"]
    assert "\x1b" not in out
    watches = json.loads(run("list", "--json", "--limit", "1")[1])["deploys"]
    assert len(watches) == 1


ROWS = [
    {
        "id": f"{number}0" * 10,
        "service": "shop",
        "version": "v2",
        "previous_version": "v1",
        "strategy": "canary",
        "state": "WATCHING",
        "deployed_at": 1.7e9,
        "sentence": f"shop v2 (canary): look {number} of at least 6, " + "and much more is known " * 4 + "here",
    }
    for number in (1, 2)
]


@pytest.mark.parametrize(("width", "row"), [(40, 3), (80, 3), (120, 7), (400, 8)])
def test_list_never_cuts_what_other_commands_need(
    width: int, row: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal: id and time stay whole at every width, and the sentence moves below where there is no room."""
    monkeypatch.setattr("watchdog.cli.output.is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    with standing((200, "application/json", json.dumps({"deploys": ROWS}))) as stand:
        assert command_line(["list", "--url", stand.url]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said[0].split()) == row
    for told in ROWS:
        (line,) = [one for one in said if str(told["id"]) in one]
        assert "2023-11-14 22:13:20Z" in line
    assert " ".join(" ".join(said).split()).count("and much more is known here") == 2
    assert all(len(line) <= width for line in said if line.startswith("  "))


def test_what_was_worse_is_marked_where_it_ended_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For people; the outcome that programs cut out stays one word. Nothing holds a deploy that is over."""
    over = {**ROWS[0], "outcome": "superseded", "state": "SUPERSEDED", "verdict": "DEGRADED", "degraded_at": 1.0}
    with standing((200, "application/json", json.dumps({"deploys": [over]}))) as stand:
        assert command_line(["list", "--url", stand.url]) == 0
        assert capsys.readouterr().out.split("\t")[5] == "superseded"
        monkeypatch.setattr("watchdog.cli.output.is_terminal", lambda: True)
        monkeypatch.setattr("watchdog.cli.deploys.is_terminal", lambda: True)
        assert command_line(["list", "--url", stand.url]) == 0
        assert "superseded, was worse" in capsys.readouterr().out
    with standing((200, "application/json", json.dumps({**over, "hold": "APPROVAL"}))) as stand:
        assert command_line(["show", "d", "--url", stand.url]) == 0
    said = capsys.readouterr().out
    assert "superseded, was worse" in said
    assert "held by" not in said


def test_requests_are_counted_as_the_sentences_do(capsys: pytest.CaptureFixture[str]) -> None:
    """With thin spaces between the thousands."""
    hit = {"exposed_requests": 600, "affected_requests": 36, "total_requests": 2560}
    with standing((200, "application/json", json.dumps({**ROWS[0], **hit}))) as stand:
        assert command_line(["show", "d", "--url", stand.url]) == 0
    assert "600 exposed, 36 affected, 2\u202f560 in total" in capsys.readouterr().out


def test_a_deploy_can_be_named_by_the_beginning_of_its_id(run: Run, daemon: Daemon) -> None:
    """Of an id that the daemon gave; one that somebody chose must be whole, for the next may begin alike."""
    shop = ("--service", "shop", "--previous-version", "v1", "--environment", "short")
    code, out, _ = run("trigger", *shop, "--version", "v7")
    whole = out.splitlines()[0]
    assert json.loads(run("show", whole[:6], "--json")[1])["id"] == whole
    assert json.loads(run("show", whole[:6], "--json", "--ledger", str(daemon.ledger))[1])["id"] == whole
    assert run("cancel", whole[:6])[0] == 0
    assert run("label", whole[:8], "unclear")[1] == f"{whole}: labelled unclear\n"
    assert run("wait", whole[:6])[0] == 2
    code, _, err = run("show", whole[:5])
    assert (code, f"There is no deploy '{whole[:5]}'." in err) == (4, True)
    deploy(run, "abcdef-123", "--environment", "chosen")
    code, _, err = run("cancel", "abcdef")
    assert (code, "There is no deploy 'abcdef'." in err) == (4, True)


def test_a_beginning_that_two_ids_share_is_refused() -> None:
    """With both, so that one can be chosen; an id that is whole is never taken for a beginning."""
    one, two = "abcdef" + "0" * 14, "abcdef" + "1" * 14
    assert completed("abcdef0", [one, two, "shop-1"]) == one
    assert completed("abcdef", [one, two, "abcdef"]) == "abcdef"
    assert completed("shop-1", ["shop-12"]) == "shop-1"
    with pytest.raises(ClientError, match=f"'abcdef' may be any of {one}, {two}; give more"):
        completed("abcdef", [one, two])


def test_show_tells_the_timeline(run: Run) -> None:
    """Ids may hold slashes and signs; the JSON is the API's."""
    deploy(run, "a/b:c@d+e", "--environment", "show")
    code, out, _ = run("show", "a/b:c@d+e")
    assert code == 0
    assert "shop v2 in show" in out
    assert "went live, before it v1" in out
    assert json.loads(run("show", "a/b:c@d+e", "--json")[1])["id"] == "a/b:c@d+e"


def test_the_ledger_can_be_read_without_the_daemon(run: Run, daemon: Daemon) -> None:
    """Beside a running one, and with the same words."""
    deploy(run, "f1", "--environment", "file")
    ledger = ("--ledger", str(daemon.ledger), "--url", "http://127.0.0.1:1")
    assert json.loads(run("show", "f1", "--json", *ledger)[1]) == json.loads(run("show", "f1", "--json")[1])
    assert run("list", *ledger)[1] == run("list")[1]
    assert (
        run("list", "--state", "watchin", *ledger)[2]
        == "error: --state 'watchin' is no state; did you mean WATCHING?\n"
    )
    code, _, err = run("show", "f2", *ledger)
    assert (code, "no deploy 'f2' is on record" in err) == (4, True)


@pytest.mark.parametrize("place", ["daemon", "ledger"])
def test_an_empty_list_of_a_mistyped_service_is_told_beside_it(run: Run, daemon: Daemon, place: str) -> None:
    """Exit code and stdout stay those of an empty answer; one line on stderr says that nobody knows the name."""
    deploy(run, f"m-{place}", "--environment", f"mistyped-{place}")
    where = ("--ledger", str(daemon.ledger)) if place == "ledger" else ()
    told = "no deploy of 'shpo' is on record\n"
    assert run("list", "--service", "shpo", *where) == (0, "", told)
    assert run("list", "--service", "shpo", "--json", *where) == (0, '{\n  "deploys": []\n}\n', told)
    code, out, err = run("quality", "--service", "shpo", *where)
    assert (code, out.split("\t")[:2], err) == (0, ["all", "0"], told)
    assert run("quality", "--service", "shop", *where)[2] == ""
    assert run("list", "--service", "shop", *where)[2] == ""
    code, _, err = run("list", "--service", "shop", "--state", "failed", *where)
    assert (code, err) == (0, "no deploy of 'shop' in the state FAILED is on record\n")
    assert run("list", "--state", "failed", *where) == (0, "", "no deploy in the state FAILED is on record\n")


def test_an_operator_decides(run: Run) -> None:
    """What the desk refuses is refused with its sentence; what it does is told."""
    deploy(run, "o1", "--environment", "operator")
    code, _, err = run("approve", "o1")
    assert (code, "only a HELD deploy can be approved" in err) == (4, True)
    code, _, err = run("deny", "o1")
    assert (code, "only a HELD deploy can be denied" in err) == (4, True)
    code, _, err = run("rollback", "o1", "--why", "I see it")
    assert (code, "nothing to roll back with" in err) == (4, True)
    code, out, _ = run("cancel", "o1", "--why", "never mind")
    assert (code, "never mind" in out) == (0, True)
    assert run("wait", "o1")[0] == 2


def test_the_brake_is_pulled_and_released(run: Run) -> None:
    """A reason is asked for; the JSON is the daemon's status."""
    assert run("pause")[0] == 4
    for command in (("pause",), ("rollback", "any")):
        for blank in ("", " \t"):
            code, out, err = run(*command, "--why", blank)
            assert (code, out) == (4, "")
            assert err.startswith("error: --why is empty: say the reason in a few words")
    assert json.loads(run("pause", "--why", "database move", "--json")[1])["paused"] == "database move"
    assert run("resume")[0] == 0
    assert json.loads(run("resume", "--json")[1])["paused"] is None


def test_wait_gives_up_in_time(run: Run) -> None:
    """No outcome is no success: exit code 4, and the sentence so far."""
    deploy(run, "w1", "--environment", "wait")
    code, out, err = run("wait", "w1", "--timeout", "0")
    assert code == 4
    assert out.startswith("shop v2: ")
    assert "no outcome within 0 s, w1 is still WATCHING" in err


def test_the_token_decides(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None, a wrong one, one with too little scope, one in a file; a file for everybody is refused."""
    monkeypatch.delenv("DEPLOY_WATCHDOG_TOKEN")
    code, _, err = run("list")
    assert (code, "Set DEPLOY_WATCHDOG_TOKEN, or give --token-file" in err) == (4, True)
    monkeypatch.setenv("DEPLOY_WATCHDOG_TOKEN", "a-token-of-another-daemon")
    code, _, err = run("list")
    assert (code, "knows no such token" in err) == (4, True)
    monkeypatch.setenv("DEPLOY_WATCHDOG_TOKEN", "a-token-that-reads")
    assert run("list")[0] == 0
    code, _, err = run("pause", "--why", "x")
    assert (code, "scope" in err) == (4, True)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert run("pause", "--why", "x", "--token-file", str(file))[0] == 0
    assert run("resume", "--token-file", str(file))[0] == 0
    file.chmod(0o644)
    code, _, err = run("list", "--token-file", str(file))
    assert (code, "chmod 600" in err) == (4, True)


# --- faults --------------------------------------------------------------------------------------------------


@dataclass
class Stand:
    """A server that answers what it is told, and remembers what it was asked."""

    answers: list[tuple[int, str, str]]
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def standing(*answers: tuple[int, str, str]) -> Iterator[Stand]:
    stand = Stand(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stand.asked.append((self.command, self.path, self.headers.get("Authorization")))
            status, kind, body = stand.answers[0] if len(stand.answers) == 1 else stand.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Type" if status != 302 else "Location", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stand.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield stand
        finally:
            server.shutdown()
            thread.join()


def watching(**more: object) -> tuple[int, str, str]:
    watch = {
        "id": "d",
        "service": "shop",
        "version": "v2",
        "state": "WATCHING",
        "outcome": None,
        "sentence": "shop v2: on",
    }
    return 200, "application/json", json.dumps(watch | more)


@pytest.mark.parametrize("outcome", sorted(state.outcome for state in RESTING))
def test_the_exit_code_of_wait_tells_the_outcome(outcome: str, capsys: pytest.CaptureFixture[str]) -> None:
    """DESIGN's table: every resting state has its code, and only `passed` is success."""
    by_code = {
        0: {"passed"},
        1: {"rolled_back", "not_recovered", "smoke_failed"},
        2: {"inconclusive", "superseded", "cancelled", "not_needed"},
        3: {"held", "failed", "unknown"},
    }
    with standing(watching(outcome=outcome, sentence=f"shop v2: {outcome}")) as stand:
        code = command_line(["wait", "d", "--url", stand.url])
    assert outcome in by_code[code]
    assert capsys.readouterr().out == f"shop v2: {outcome}\n"
    assert set(EXIT_CODES) == set.union(*by_code.values())


def test_an_outcome_of_a_newer_daemon_is_no_success() -> None:
    """A word this command does not know means that nobody here can tell."""
    with standing(watching(outcome="brand_new")) as stand:
        assert command_line(["wait", "d", "--url", stand.url]) == 4


def test_wait_outlives_a_restart_of_the_daemon() -> None:
    """Unavailable for a moment, then an outcome; the progress is told once per sentence."""
    busy = (503, "application/json", '{"error": {"code": "unavailable", "message": "Later.", "remedy": "Again."}}')
    paused: list[float] = []
    with standing(watching(), watching(), busy, busy, watching(outcome="passed")) as stand:
        watch = follow(ApiClient(stand.url, None), "d", timeout_s=60.0, pause=paused.append)
    assert watch["outcome"] == "passed"
    assert len(stand.asked) == 5
    assert paused == [2.0] * 4


def test_wait_never_asks_longer_than_its_timeout() -> None:
    """The time it counts is the time the daemon took and the time it paused: no answer makes it wait for ever."""
    paused: list[float] = []
    with standing(watching()) as stand:
        watch = follow(ApiClient(stand.url, None), "d", timeout_s=7.0, pause=paused.append)
        waits = [float(path.partition("wait=")[2] or 0) for _, path, _ in stand.asked]
    assert watch["outcome"] is None
    assert waits == [7.0, 5.0, 3.0, 1.0]
    assert sum(paused) <= 7.0


def test_wait_ends_at_once_where_the_deploy_is_unknown() -> None:
    """A refusal that another try cannot change is not tried again."""
    gone = (
        404,
        "application/json",
        '{"error": {"code": "not_found", "message": "No such deploy.", "remedy": "List them."}}',
    )
    paused: list[float] = []
    with standing(gone) as stand, pytest.raises(ClientError, match=r"No such deploy\. List them"):
        follow(ApiClient(stand.url, None), "d", timeout_s=60.0, pause=paused.append)
    assert paused == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "text/html", "<html>proxy</html>"), "answered 200 with something that is not this API"),
        ((502, "text/html", "bad gateway"), "answered 502 with something that is not this API"),
        ((200, "application/json", "[1]"), "answered 200 with something that is not this API"),
        ((200, "application/json", "{}"), "has no 'deploys'"),
        ((500, "application/json", "{}"), "refused with status 500"),
        ((500, "application/json", '{"error": "x"}'), "refused with status 500"),
    ],
)
def test_an_answer_of_something_else_is_told(
    answer: tuple[int, str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Proxies and other programs answer too; none of it is a traceback."""
    with standing(answer) as stand:
        assert command_line(["list", "--url", stand.url]) == 4
    assert told in capsys.readouterr().err


def test_the_token_is_never_sent_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A redirect is not followed, and ~/.netrc does not replace the token."""
    monkeypatch.setenv("DEPLOY_WATCHDOG_TOKEN", TOKEN)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with standing((200, "application/json", "{}")) as other, standing((302, f"{other.url}/", "")) as stand:
        assert command_line(["list", "--url", stand.url]) == 4
        assert other.asked == []
        assert [authorization for _, _, authorization in stand.asked] == [f"Bearer {TOKEN}"]


def test_loopback_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment cannot know this machine's own addresses."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with standing((200, "application/json", '{"deploys": []}')) as stand:
        assert command_line(["list", "--url", stand.url]) == 0


def test_no_daemon_is_told_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing listens there."""
    assert command_line(["list", "--url", "http://127.0.0.1:1"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "error: cannot reach the daemon at http://127.0.0.1:1 (Connection refused); "
        "start it with `deploy-watchdog run`, or name its address by --url or DEPLOY_WATCHDOG_URL\n"
    )


@pytest.mark.parametrize(
    "url", ["ftp://x", "8811", "http://", "http://u:p@x", "http://x:y", "http://x:99999", "http://[::1"]
)
def test_a_wrong_address_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is sent."""
    assert command_line(["list", "--url", url]) == 4
    assert "is no address of a daemon" in capsys.readouterr().err


@pytest.mark.parametrize("deploy_id", ["..", ".", ""])
def test_an_id_cannot_leave_its_place_in_the_path(deploy_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Dots would name another address."""
    with standing((200, "application/json", "{}")) as stand:
        assert command_line(["show", deploy_id, "--url", stand.url]) == 4
    assert stand.asked == []
    assert "is no deploy id" in capsys.readouterr().err


def test_text_from_outside_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a sentence are shown, not obeyed."""
    with standing(watching(outcome="passed", sentence="\x1b[2J\rgone\u202e")) as stand:
        command_line(["show", "d", "--url", stand.url])
        command_line(["wait", "d", "--url", stand.url])
    said = capsys.readouterr().out
    assert "\\x1b[2J\\x0dgone\\x202e" in said
    assert "\x1b" not in said
