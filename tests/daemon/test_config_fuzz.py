"""Whatever is done to a configuration: it loads, or it is refused in words. Nothing else ever happens."""

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from watchdog.app import adapter_options
from watchdog.config import load
from watchdog.errors import ConfigError, Problem

ROOT = Path(__file__).parents[2]
ANNOTATED = (ROOT / "config.toml").read_text()
ADAPTERS = adapter_options()
JARGON = ("Input should", "pydantic", "validation error", "Extra inputs", "Field required", "errors.pydantic.dev")
EVERYTHING = "\n".join(  # the annotated file with its examples switched on; contradictions are part of the fun
    line[2:] if line.startswith("# ") and (" = " in line or line.startswith("# [")) else line
    for line in ANNOTATED.splitlines()
)
LINES = EVERYTHING.splitlines()
SCRAPS = [
    "[",
    "]]",
    "{",
    '"',
    "'''",
    "=",
    "nan",
    "-1",
    "1e999",
    "true",
    "[[x]]",
    '"$(touch x)"',
    "[]",
    "{}",
    "é",
    "\x00",
    "#",
]
WORDS = sorted({word for line in LINES for word in line.replace("=", " ").split() if word.strip(string.punctuation)})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.toml"


def loads_or_is_refused_in_words(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    problems: list[Problem] = []
    try:
        config = load(file, ADAPTERS, {})
    except ConfigError as error:
        problems = error.problems
    else:
        assert all(service.metrics for service in config.services.values())
        return
    assert problems
    for problem in problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1
        assert not [word for word in JARGON if word in str(problem)], str(problem)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The full file with some lines dropped, doubled, moved or with one word replaced."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(lines) - 1))
        what = draw(st.sampled_from(["drop", "double", "swap", "word", "scrap"]))
        if what == "drop":
            del lines[place]
        elif what == "double":
            lines.insert(place, lines[place])
        elif what == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        else:
            words = lines[place].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(WORDS if what == "word" else SCRAPS))
            lines[place] = " ".join(words)
    return "\n".join(lines)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutated())
@example(text=EVERYTHING)
@example(text="")
@example(text="[services.shop.metrics]\nx = 1\n")
@example(text="[[services]]\n[[sources]]\n[[daemon]]\n[[auth]]\n")
@example(text="[auth]\ntokens = {}\n")
@example(text="[services.shop]\nmetrics = [[]]\njudge = []\nsinks = 'a'\nselector = []\nsource = []\n")
@example(text="[daemon]\nlisten = " + "[" * 480 + "]" * 480)
@example(text="[daemon]\nlisten = " + "{ a = " * 200 + "1" + "}" * 200)
@example(text="[services.a.judge]\nmargin = []\n[services.a]\nlook_s = 1\nwatch_s = 1e300\n")
@example(
    text="[services.s]\nsource='a'\n[[services.s.metrics]]\nname='x'\nkind='gauge'\ngauge='x{a=~\"a{99999999999}\"}'\n"
)
def test_a_mutated_configuration_never_breaks_the_loader(file: Path, text: str) -> None:
    """Only ConfigError, in words, with lines that exist."""
    loads_or_is_refused_in_words(file, text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from([*"[]{}=.,\"'#\n \\ab1\r", "é", "\x00"]), max_size=60))
def test_any_text_never_breaks_the_loader(file: Path, text: str) -> None:
    """Also what was never a configuration."""
    loads_or_is_refused_in_words(file, text)
