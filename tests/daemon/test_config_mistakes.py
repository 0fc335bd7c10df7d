"""config.toml with mistakes: all of them are told at once, each at its line and in words for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchdog.config import Config, load
from watchdog.errors import ConfigError

JARGON = ("Input should", "type=", "pydantic", "validation error", "Extra inputs", "Field required", "__", "[key]")


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(description="where")
    weight: int = 1


class PageOptions(BaseModel):
    """Options as an adapter has them: nested, with a secret, with a rule between keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field("", description="the page")
    targets: tuple[Point, ...] = ()
    timeout_s: float = Field(5.0, gt=0, le=60)
    token_env: str = ""
    token_file: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.url and self.targets:
            raise ValueError("expected url or targets, not both")
        return self


ADAPTERS: dict[str, dict[str, type[BaseModel]]] = {
    "sources": {"scrape": PageOptions, "prometheus": PageOptions},
    "hooks": {"command": PageOptions},
    "sinks": {"log": PageOptions},
}
ERRORS = "[[services.shop.metrics]]\nname = 'errors'\nkind = 'ratio'\nbad = 'bad_total'\ntotal = 'all_total'\n"
SOUND = f"[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\n{ERRORS}"


def read(tmp_path: Path, text: str | bytes, env: dict[str, str] | None = None) -> Config:
    file = tmp_path / "config.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, ADAPTERS, env or {})


def mistakes(tmp_path: Path, text: str | bytes, env: dict[str, str] | None = None) -> list[str]:
    """All problems as the user sees them, without the folder before the file's name."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text, env)
    said = [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems]
    assert raised.value.message.splitlines() == [str(problem) for problem in raised.value.problems]
    assert not [word for word in JARGON for sentence in said if word in sentence], said
    return said


@dataclass(frozen=True)
class Broken:
    """A file and exactly what is to be said about it; each expectation is `line: key: words`."""

    name: str
    text: str
    told: tuple[str, ...]


BROKEN = [
    Broken(
        "unknown keys name the nearest known one",
        "[daemon]\nlisten = '127.0.0.1:1'\nleese_s = 3\n[judge]\nmargn = 1\n[polici]\n" + SOUND,
        (
            "3: daemon.leese_s: unknown key; did you mean 'lease_s'?",
            "5: judge.margn: unknown key; did you mean 'margin'?",
            "6: polici: unknown key; did you mean 'policy'?",
        ),
    ),
    Broken(
        "a key that resembles none lists what there is",
        "[policy]\nzzz = 1\n" + SOUND,
        (
            (
                "2: policy.zzz: unknown key; expected one of cool_down_s, breaker_rollbacks, breaker_share, "
                "breaker_window_s, bad_target_s, hold_s, verify_s, retries"
            ),
        ),
    ),
    Broken(
        "durations are numbers of seconds",
        "[daemon]\ntick_s = '1s'\nlease_s = true\nfetch_deadline_s = -1\n[policy]\nhold_s = nan\nverify_s = inf\n"
        + SOUND,
        (
            "2: daemon.tick_s: expected a number (seconds, without a unit), not '1s'",
            "3: daemon.lease_s: expected a number (seconds, without a unit), not true",
            "4: daemon.fetch_deadline_s: -1 is out of range; expected more than 0",
            "6: policy.hold_s: expected a finite number (seconds, without a unit), not nan",
            "7: policy.verify_s: expected a finite number (seconds, without a unit), not inf",
        ),
    ),
    Broken(
        "numbers have ranges",
        "[judge]\nbudget = 0.5\nmin_looks = 0\nabsent_looks = 2.5\nseen_ratio = 1\njudge_absence = 1\n"
        "[policy]\nretries = 21\n" + SOUND,
        (
            "2: judge.budget: 0.5 is out of range; expected at most 0.2",
            "3: judge.min_looks: 0 is out of range; expected at least 1",
            "4: judge.absent_looks: expected a whole number, not 2.5",
            "5: judge.seen_ratio: 1 is out of range; expected more than 1",
            "6: judge.judge_absence: expected true or false, not 1",
            "8: policy.retries: 21 is out of range; expected at most 20",
        ),
    ),
    Broken(
        "keys are weighed against each other",
        "[daemon]\nlease_s = 5\n[judge]\nmargin_tell = 0.5\n" + SOUND,
        (
            "2: daemon.lease_s: expected more than fetch_deadline_s + tick_s = 6",
            "4: judge.margin_tell: expected at most margin = 0.25",
        ),
    ),
    Broken(
        "addresses are host and port",
        "[daemon]\nlisten = '8811'\npublic_url = 'watchdog.example.com'\n" + SOUND,
        (
            "2: daemon.listen: '8811' is no address; expected host:port such as 127.0.0.1:8811",
            "3: daemon.public_url: 'watchdog.example.com' is no URL; expected one such as https://",
        ),
    ),
    Broken(
        "an open address needs a guard",
        "[daemon]\nlisten = '0.0.0.0:8811'\n" + SOUND,
        ("2: daemon.listen: '0.0.0.0:8811' can be reached from other machines and nothing guards it;",),
    ),
    Broken(
        "unknown kinds list the known ones",
        "[sources.pages]\nkind = 'scrap'\n[hooks.back]\nkind = 7\n[sinks.team]\n"
        "[services.shop]\nsource = 'pages'\n" + ERRORS,
        (
            "2: sources.pages.kind: 'scrap' is not known; expected one of scrape, prometheus; did you mean 'scrape'?",
            "4: hooks.back.kind: 7 is not known; expected one of command",
            "5: sinks.team.kind: is missing; expected one of log",
        ),
    ),
    Broken(
        "adapters' own options are told at their line, however deep",
        "[sources.pages]\nkind = 'scrape'\ntimeout_s = 0\ntargets = [\n  { url = 'a' },\n"
        "  { ulr = 'b', weight = 'x' },\n]\n[services.shop]\nsource = 'pages'\n" + ERRORS,
        (
            "3: sources.pages.timeout_s: 0 is out of range; expected more than 0",
            "6: sources.pages.targets.1.ulr: unknown key; did you mean 'url'?",
            "6: sources.pages.targets.1.url: is missing: where",
            "6: sources.pages.targets.1.weight: expected a whole number, not 'x'",
        ),
    ),
    Broken(
        "an adapter's rule between keys is told at its table",
        "[sources.pages]\nkind = 'scrape'\nurl = 'a'\ntargets = [{ url = 'b' }]\n[services.shop]\nsource = 'pages'\n"
        + ERRORS,
        ("1: sources.pages: expected url or targets, not both",),
    ),
    Broken(
        "names of sources, hooks and sinks are looked up",
        "[sources.pages]\nkind = 'scrape'\n[sinks.team]\nkind = 'log'\n[services.shop]\nsource = 'pags'\n"
        "rollback_hook = 'back'\nsinks = [\n 'team',\n 'teem',\n]\n" + ERRORS,
        (
            "6: services.shop.source: there is no 'pags' below [sources]; did you mean 'pages'?",
            "7: services.shop.rollback_hook: there is no 'back' below [hooks]; expected a table [hooks.back]",
            "10: services.shop.sinks.1: there is no 'teem' below [sinks]; did you mean 'team'?",
        ),
    ),
    Broken(
        "words are chosen from a list",
        "[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\nmode = 'autoo'\nstrategy = 'blue-green'\n"
        + ERRORS,
        (
            "5: services.shop.mode: 'autoo' is not known; expected one of observe, notify, approve, auto; did you mean",
            "6: services.shop.strategy: 'blue-green' is not known; expected one of direct, rolling,",
        ),
    ),
    Broken(
        "auto needs a hook",
        "[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\nmode = 'auto'\n" + ERRORS,
        ("3: services.shop.rollback_hook: is missing; mode 'auto' needs a hook to roll back with",),
    ),
    Broken(
        "a service needs a source and a metric",
        "[services.shop]\nwatch_s = 60\nlook_s = 90\n",
        (
            "1: services.shop.metrics: is missing; expected at least one [[services.<name>.metrics]] table, or presets",
            "1: services.shop.source: is missing: name of a source below [sources]",
            "3: services.shop.look_s: expected at most watch_s = 60, got 90",
        ),
    ),
    Broken(
        "the watch must be long enough for a verdict",
        SOUND.replace("source =", "look_s = 10\nwatch_s = 50\nsource ="),
        ("5: services.shop.watch_s: 50 is too short: warm_up_looks + min_looks at look_s = 10 take 60 s",),
    ),
    Broken(
        "overrides are weighed together with what they override",
        SOUND + "[services.shop.judge]\nmargin = 0.05\n",
        ("10: services.shop.judge.margin_tell: expected at most margin = 0.05",),
    ),
    Broken(
        "each kind of metric has its own series",
        "[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\n"
        "[[services.shop.metrics]]\nname = 'a'\nkind = 'ratio'\ntotal = 'x'\ngauge = 'y'\nslo_le = 1\n"
        "[[services.shop.metrics]]\nname = 'b'\nkind = 'latency'\nhistogram = 'x_bucket'\n"
        "[[services.shop.metrics]]\nname = 'c'\nkind = 'gauge'\npromql = 'avg(x)'\n"
        "[[services.shop.metrics]]\nname = 'd'\nkind = 'rate'\nevents = 'x{a=b}'\nby = ['route', 'a-b']\n"
        "[[services.shop.metrics]]\nname = 'd'\nkind = 'raito'\n"
        "[[services.shop.metrics]]\nkind = 'trend'\n",
        (
            "5: services.shop.metrics.0.bad: is missing; kind 'ratio' needs bad and total",
            "9: services.shop.metrics.0.gauge: does not belong to kind 'ratio', which needs bad and total",
            "10: services.shop.metrics.0.slo_le: belongs to kind 'latency'; this metric is 'ratio'",
            "14: services.shop.metrics.1.histogram: 'x_bucket' is one series of a histogram; expected its base",
            "18: services.shop.metrics.2.promql: expected $arm where the labels of old or new version belong",
            "19: services.shop.metrics.3.exposure: is missing; kind 'rate' needs events and exposure",
            "22: services.shop.metrics.3.events: 'x{a=b}': expected label=\"value\" at 'a=b'",
            "23: services.shop.metrics.3.by.1: 'a-b' is not a label name",
            "25: services.shop.metrics.4.name: a second metric is named 'd'; expected one name each",
            "26: services.shop.metrics.4.kind: 'raito' is not known; expected one of ratio, rate, latency,",
            "27: services.shop.metrics.5.gauge: is missing; kind 'trend' needs gauge",
            "27: services.shop.metrics.5.name: is missing: what it is called in every sentence",
        ),
    ),
    Broken(
        "a margin in time is one of slower latency, and takes the place of the other margin",
        "[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\n"
        "[[services.shop.metrics]]\nname = 'a'\nkind = 'ratio'\nbad = 'x'\ntotal = 'y'\nslower_by = 0.2\n"
        "[[services.shop.metrics]]\nname = 'b'\nkind = 'latency'\nhistogram = 'x'\nslower_by = 0.2\n"
        "margin = 0.5\ndirection = 'either'\n",
        (
            "10: services.shop.metrics.0.slower_by: belongs to kind 'latency'; this metric is 'ratio'",
            "15: services.shop.metrics.1.slower_by: takes the place of margin; give one of the two",
            "17: services.shop.metrics.1.direction: expected 'up_is_bad' beside slower_by: only slower can be worse",
        ),
    ),
    Broken(
        "new labels are those of one label, and bad",
        "[sources.pages]\nkind = 'scrape'\n[services.shop]\nsource = 'pages'\n"
        "[[services.shop.metrics]]\nname = 'a'\nkind = 'labels'\nbad = 'x'\ntotal = 'y'\n"
        "[[services.shop.metrics]]\nname = 'b'\nkind = 'labels'\nbad = 'x'\ntotal = 'y'\nby = ['code']\n"
        "direction = 'either'\n",
        (
            "5: services.shop.metrics.0.by: kind 'labels' needs the one label whose new values count",
            "16: services.shop.metrics.1.direction: a new label value can only be bad",
        ),
    ),
    Broken(
        "values of the wrong shape",
        "sinks = 3\n[daemon]\nlisten = 5\n[services]\nshop = 'x'\n[sources]\npages = 1\n[auth]\ntokens = [1]\n",
        (
            "1: sinks: expected a table, not 3",
            '3: daemon.listen: expected a text in "quotes", not 5',
            "5: services.shop: expected a table, not 'x'",
            "7: sources.pages: expected a table with a kind, not 1",
            "9: auth.tokens.0: expected a table, not 1",
        ),
    ),
    Broken(
        "dotted keys and inline tables are found at their own line",
        "daemon.tick_s = 0\njudge.margin = 0\n[sources]\npages = { kind = 'scrape', timeout_s = 61 }\n"
        "[services]\nshop.source = 'pages'\nshop.selector = { 'a b' = '1' }\nshop.metrics = [\n"
        "  { name = 'e', kind = 'gauge', gauge = '1x' },\n]\n",
        (
            "1: daemon.tick_s: 0 is out of range; expected more than 0",
            "2: judge.margin: 0 is out of range; expected more than 0",
            "4: sources.pages.timeout_s: 61 is out of range; expected at most 60",
            "7: services.shop.selector.a b: 'a b' is not a label name",
            "9: services.shop.metrics.0.gauge: '1x' does not start with a metric name",
        ),
    ),
    Broken(
        "a token says where its secret is, and what it may do",
        "[[auth.tokens]]\nname = 'ci'\nscopes = ['read', 'write']\ntoken_env = 'A'\ntoken_file = 'b'\n"
        "[[auth.tokens]]\nname = 'ci'\nscopes = []\ntoken_env = 'A'\n" + SOUND,
        (
            (
                "3: auth.tokens.0.scopes.1: 'write' is not known; "
                "expected one of read, trigger, approve, rollback, label, admin"
            ),
            "4: auth.tokens.0.token_env: expected exactly one of token_env and token_file",
            "7: auth.tokens.1.name: a second token is named 'ci'; expected one name each",
            "8: auth.tokens.1.scopes: is empty; expected some of read, trigger, approve, rollback, label, admin",
        ),
    ),
    Broken(
        "names are plain",
        "[sources.\"a b\"]\nkind = 'scrape'\n" + SOUND,
        ("1: sources.a b: 'a b' is not allowed; expected up to 128 of A-Z",),
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_every_mistake_is_told_at_its_line(broken: Broken, tmp_path: Path) -> None:
    """Exactly the expected mistakes, in the order of the file, and no others."""
    said = mistakes(tmp_path, broken.text, {"A": "a-secret-that-is-there"})
    assert len(said) == len(broken.told), "\n".join(said)
    for actual, expected in zip(said, broken.told, strict=True):
        assert actual.startswith(f"config.toml:{expected}"), actual


def test_mistakes_of_all_kinds_come_together(tmp_path: Path) -> None:
    """A type, an unknown key, an unknown name, a pasted secret and a rule between tables: one answer."""
    said = mistakes(
        tmp_path,
        "[daemon]\nlisten = '[::]:8811'\ntick_s = 'often'\n[hooks.back]\nkind = 'command'\ntoken = 'hunter2'\n"
        "[services.shop]\nsource = 'pages'\nmod = 'auto'\n" + ERRORS + "weight = 'heavy'\n",
    )
    lines = [sentence.split(":")[1] for sentence in said]
    assert lines == ["2", "3", "6", "8", "9", "15"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[daemon\n", "config.toml:1: is not TOML: Expected ']'"),
        ("a = 1\na = 2\n", "config.toml:2: is not TOML: Cannot overwrite a value"),
        ("[daemon]\n\ntick_s = \n", "config.toml:3: is not TOML: Invalid value"),
        ("[daemon]\n\nledger = watchdog.db\n", "config.toml:3: is not TOML: Invalid value; text needs quotes"),
        ("[daemon]\nx = [1,\n", "config.toml:3: is not TOML: "),
        (b"[daemon]\nx = '\xff'\n", "config.toml:2: is not UTF-8 text"),
        ("x = " + "[" * 3000 + "]" * 3000, "config.toml: is nested too deeply"),
        ("x = " + "9" * 5000, "config.toml: is not TOML: Exceeds the limit"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str | bytes, told: str, tmp_path: Path) -> None:
    """A syntax error is one sentence with the line; nothing else can be said about such a file."""
    said = mistakes(tmp_path, text)
    assert len(said) == 1
    assert said[0].startswith(told), said[0]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """So are a folder in its place and a file of senseless size."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml", ADAPTERS, {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, ADAPTERS, {})
    assert mistakes(tmp_path, "# " + "x" * 5_000_000)[0].startswith("config.toml: is larger than")
