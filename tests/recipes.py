"""The programs of docs/recipes.md, as they stand there, made ready to be run as hooks."""

import re
from collections.abc import Mapping
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
_BLOCK = re.compile(r"^```\S+\n(.*?)^```", re.M | re.S)


def text(name: str) -> str:
    """The block that names itself so in one of its first two lines."""
    blocks = _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    found = [block for block in blocks if any(line.endswith(f" {name}") for line in block.splitlines()[:2])]
    assert len(found) == 1, f"docs/recipes.md has {len(found)} blocks named {name}"
    return str(found[0])


def program(name: str, folder: Path, *, names: Mapping[str, str] | None = None) -> str:
    """The program `/etc/watchdog/NAME`, executable, below a folder; `names`: what its reader would change in it."""
    written = text(f"/etc/watchdog/{name}")
    for shown, own in (names or {}).items():
        assert shown in written, f"{name} does not say {shown}"
        written = written.replace(shown, own)
    path = folder / name
    path.write_text(written, encoding="utf-8")
    path.chmod(0o755)
    return str(path)
