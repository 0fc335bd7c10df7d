"""The commands of docs/start.md, for tests that run them as they stand there."""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "start.md"


def shell_blocks() -> list[str]:
    """What stands in the page for a shell."""
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def toml_blocks() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> dict[str, list[str]]:
    """Each deploy-watchdog command of the page with its arguments; each stands there once."""
    lines = [shlex.split(line) for block in shell_blocks() for line in block.splitlines()]
    ours = [words[1:] for words in lines if words[:1] == ["deploy-watchdog"]]
    assert len({words[0] for words in ours}) == len(ours)
    return {words[0]: words for words in ours}


def command(name: str, **replaced: str) -> list[str]:
    """One command of the page with some of its words replaced, such as the address."""
    words = commands()[name]
    assert set(replaced) <= set(words), f"{name} has no {set(replaced) - set(words)}"
    return [replaced.get(word, word) for word in words]
