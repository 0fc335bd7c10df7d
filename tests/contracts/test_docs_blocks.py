"""Every command and every configuration that a document shows is one that works: read as its program would read it."""

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import tomlkit
import typer
import yaml

from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog import presets
from watchdog.app import load_config
from watchdog.cli import app
from watchdog.ledger.open import open_ledger
from watchdog.model import HoldReason

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()  # good as a token too
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "2>&1"}
ASSIGNMENT = re.compile(r"[A-Za-z_]+=.*", re.S)
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])

# What a fragment may take for granted, where it does not say so itself.
CONTEXT = """
[[auth.tokens]]
name = "ci"
token_env = "WATCHDOG_CI_TOKEN"
scopes = ["read", "trigger"]
[sources.prometheus]
kind = "prometheus"
url = "http://127.0.0.1:9090"
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'http_requests_total{code=~"5.."}'
total = "http_requests_total"
"""


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(\S*)\n(.*?)^\1```", text, re.M | re.S)
    return [Block(document, text.count("\n", 0, m.start()) + 1, m[2], m[3]) for m in found]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def of(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in languages], ids=str)


def test_no_block_is_left_out() -> None:
    """Each says what it is, in a language that is read below, or is plain text."""
    read_here = {"toml", "sh", "python", "yaml", "json"}
    unread = {"text", "nginx", "sql", "http", "promql"}
    assert {str(block): block.language for block in BLOCKS if block.language not in read_here | unread} == {}
    assert {"toml", "sh", "python", "yaml"} <= {block.language for block in BLOCKS}


# --- configurations -------------------------------------------------------------------------------------------


def whole(fragment: dict[str, Any]) -> dict[str, Any]:
    """A configuration made of a fragment: sources, hooks, sinks and metrics that it only names are added."""
    told = defaultdict(dict, fragment)
    given = tomllib.loads(CONTEXT)
    for part in ("auth", "sources", "services"):
        told[part] = told[part] or given[part]
    for service in told["services"].values():
        service.setdefault("source", next(iter(told["sources"])))
        if not service.keys() & {"metrics", "presets"}:
            service["metrics"] = given["services"]["shop"]["metrics"]
        steps = service.get("steps", {})
        for hook in [service.get(key) for key in service if key.endswith("_hook")] + [steps.get("promote_hook")]:
            if hook is not None:
                told["hooks"].setdefault(hook, {"kind": "dry_run"})
        for sink in service.get("sinks", ()):
            told["sinks"].setdefault(sink, {"kind": "log"})
    return {key: value for key, value in told.items() if value}


def wrong(text: str, folder: Path) -> str:
    """What `check` would say of it before it asks anybody; empty where it is right."""
    path = folder / "config.toml"
    path.write_text(tomlkit.dumps(whole(tomllib.loads(text))))
    env = dict.fromkeys(re.findall(r'_env = "([A-Z0-9_]+)"', path.read_text()), SECRET)
    try:
        load_config(path, env)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the document's fault)
        return str(error)
    return ""


@of("toml")
def test_configurations_load(block: Block, tmp_path: Path) -> None:
    """By the daemon's own loader, secrets included."""
    assert wrong(block.text, tmp_path) == ""


def test_a_wrong_configuration_is_noticed(tmp_path: Path) -> None:
    """The test above can fail: on an unknown key, a kind that there is not, and what is no TOML."""
    assert "extra_key" in wrong("[services.shop]\nextra_key = 1\n", tmp_path)
    assert wrong('[hooks.x]\nkind = "no_such"\n', tmp_path) != ""
    with pytest.raises(tomllib.TOMLDecodeError):
        wrong("[services.shop", tmp_path)


# --- commands -------------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The arguments of every `deploy-watchdog ...` of a script."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = [word for part in shlex.split(line, comments=True) for word in re.split(r"(?<=.)(;)$", part) if word]
        begins = [0, *(at + 1 for at, word in enumerate(words) if word in ENDS)]
        for begin, end in pairwise([*begins, len(words) + 1]):
            program, *rest = [*dropwhile(ASSIGNMENT.fullmatch, words[begin : end - 1]), ""]
            if program.rpartition("/")[2] == "deploy-watchdog":
                found.append(rest[:-1])
    return found


def refused(arguments: list[str]) -> str:
    """What the command line would say against these arguments; nothing is run."""
    group = typer.main.get_command(app)
    if len(arguments) == 1 and any(arguments[0] in option.opts for option in group.params):
        return ""  # such as --install-completion, which would do it here and now
    try:
        with group.make_context("deploy-watchdog", list(arguments), resilient_parsing=False) as context:
            rest = [*context._protected_args, *context.args]
            if rest:
                name, command, left = group.resolve_command(context, rest)  # type: ignore[attr-defined]
                command.make_context(name, left, parent=context)
    except typer.TyperException as error:
        return error.format_message()
    except typer.Exit:
        return ""
    return ""


@of("sh")
def test_shell_lines_can_be_read(block: Block) -> None:
    """Syntax by the shell, our commands by our command line, extras by pyproject.toml."""
    read = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert {" ".join(words): said for words in commands(block.text) if (said := refused(words))} == {}


def test_a_wrong_command_is_noticed() -> None:
    """The test above can fail: on an unknown option, an unknown command and a missing argument."""
    assert commands("x=1 deploy-watchdog show a | grep b\n# deploy-watchdog no\n") == [["show", "a"]]
    assert refused(["show", "a"]) == ""
    assert "--no-such" in refused(["show", "a", "--no-such"])
    assert "no-such" in refused(["no-such"])
    assert refused(["show"]) != ""


def test_inline_commands_exist() -> None:
    """`deploy-watchdog X` in the middle of a sentence names a command; `deploy-watchdog[X]` an extra."""
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    wrong = {}
    for document in DOCUMENTS:
        text = document.read_text()
        said = set(re.findall(r"`(?:\.venv/bin/)?deploy-watchdog ([a-z][a-z-]*)", text)) - names
        extras = {e for found in re.findall(r"deploy-watchdog\[([a-z,]+)\]", text) for e in found.split(",")} - EXTRAS
        if said | extras:
            wrong[document.name] = said | extras
    assert wrong == {}


# --- the rest -------------------------------------------------------------------------------------------------


@of("python")
def test_python_compiles(block: Block) -> None:
    """As it stands."""
    compile(block.text, str(block), "exec")


@of("yaml")
def test_yaml_can_be_read(block: Block) -> None:
    """One or several documents, none of them empty."""
    assert all(yaml.safe_load_all(block.text))


@of("json")
def test_json_can_be_read(block: Block) -> None:
    """One document, or one a line."""
    try:
        json.loads(block.text)
    except json.JSONDecodeError:
        assert [json.loads(line) for line in block.text.splitlines()]


def test_the_table_of_presets_is_that_of_the_files() -> None:
    """Name, description, metrics and version label of each, in order, and no other."""
    told = re.findall(r"^\| `([a-z-]+)` \| (.*) \| (.*) \| (.*) \|$", (ROOT / "docs/metrics.md").read_text(), re.M)
    table = [row for row in told if row[0] in presets.names()]
    made = [presets.preset(name) for name in presets.names()]
    assert table == [
        (
            one.name,
            one.description.replace("<prefix>", "PREFIX"),
            ", ".join(dict.fromkeys(str(metric["name"]).strip("<>") for metric in one.metrics)),
            f"`{one.version_label}`" if one.version_label else "",
        )
        for one in made
    ]


def test_the_webhooks_example_is_as_the_schema_says() -> None:
    """The published schema is the one that the sink's tests hold what is sent against."""
    schema = ROOT / "watchdog/sinks/webhook.schema.json"
    assert "(../watchdog/sinks/webhook.schema.json)" in (ROOT / "docs/sinks.md").read_text()
    (example,) = [block.text for block in BLOCKS if block.document.name == "sinks.md" and block.language == "json"]
    jsonschema.validate(json.loads(example), json.loads(schema.read_text()), cls=jsonschema.Draft202012Validator)


def test_the_documented_backup_can_be_read(tmp_path: Path) -> None:
    """Its lines copy a ledger that a daemon holds and has just written to."""
    marked = re.findall(
        r"<!-- test: backup -->\n```sh\n(.*?)^```", (ROOT / "docs/operating.md").read_text(), re.M | re.S
    )
    ledger = open_ledger(tmp_path / "watchdog.db", clock=FakeClock(), owner="test", sinks_for=lambda _: ())
    try:
        ledger.record_deploy(a_watch(deploy_id="shop-1"), [], [])
        done = subprocess.run(
            ["bash", "-euc", marked[0]], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
    finally:
        ledger.close()
    assert (done.returncode, "shop-1" in done.stdout) == (0, True), done.stderr


def test_pictures_are_small_and_tell_no_tales() -> None:
    """Each is shown somewhere, below 150 kB where it is a bitmap, and names no address or folder of a machine."""
    shown = {name for document in DOCUMENTS for name in re.findall(r"images/([a-z.]+)\)", document.read_text())}
    pictures = list((ROOT / "docs/images").iterdir())
    assert {picture.name for picture in pictures} == shown
    for picture in pictures:
        if picture.suffix == ".png":
            assert picture.stat().st_size < 150_000
        else:
            hosts = re.findall(r"https?://([^/:\s\"]+)", picture.read_text())
            assert set(hosts) <= {"127.0.0.1", "www.w3.org", "www.textualize.io"}
            assert not re.search(r"/(?:home|root|tmp|work)/", picture.read_text())


def test_the_recording_can_be_played() -> None:
    """An asciicast of version 2, its moments in order."""
    header, *events = [json.loads(line) for line in (ROOT / "docs/images/demo.cast").read_text().splitlines()]
    assert (header["version"], header["width"] > 80) == (2, True)
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    assert "".join(text for _, kind, text in events if kind == "o").count("ROLLED_BACK") > 0


def test_every_reason_to_hold_says_what_then() -> None:
    """Whoever is paged finds the word in docs/operating.md."""
    told = (ROOT / "docs/operating.md").read_text()
    assert [reason.value for reason in HoldReason if f"`{reason.value}`" not in told] == []
