"""The peers' own virtual environment: pinned, hashed, and never part of the project's."""

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
WHERE = Path("build/peers-venv")
INSTALL_S = 900
FIRST = "scipy"  # what every peer's rule needs


def build(where: Path = WHERE) -> dict[str, str]:
    """Make the environment unless it is there; returns for each requirement file "" or why it could not be installed.

    What failed is remembered with the files' hash: remove the folder to try again.
    """
    files = sorted(REQUIREMENTS.glob("*.txt"), key=lambda file: (file.stem != FIRST, file.stem))
    stamp = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    marker = where / "peers.json"
    if marker.exists():
        known = json.loads(marker.read_text())
        if known["stamp"] == stamp:
            return dict(known["missing"])
    venv.create(where, with_pip=True, clear=True)
    missing = {file.stem: _install(where, file) for file in files}
    marker.write_text(json.dumps({"stamp": stamp, "missing": missing}, indent=1) + "\n")
    return missing


def python(where: Path = WHERE) -> str:
    return str(where / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def _install(where: Path, file: Path) -> str:
    argv = [python(where), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    try:
        ended = subprocess.run(
            [*argv, "--require-hashes", "-r", str(file)],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not installed within {INSTALL_S} s"
    return "" if ended.returncode == 0 else reason(ended.stderr)


def reason(errors: str) -> str:
    """The line of pip's errors that says most: what a build misses, else its last error."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    for words in ("Could NOT find", "No matching distribution", "ERROR:", "error:"):
        for line in lines:
            if words in line:
                return line[line.index(words) :][:200]
    return lines[-1][:200] if lines else "pip failed without a word"
