"""Files and programs of npm packages for tests, kept between runs; without npm the test says what did not run."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.servers import cache_folder, without

# package → version, file in it, SHA-256 of that file
FILES = {
    "axe-core": ("4.14.1", "package/axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c")
}
PROGRAMS = {"unleash-server": "7.5.1"}  # runs on Node 20 and newer
PACK_S = 60
INSTALL_S = 600


def npm_file(package: str) -> str:
    """The text of a package's file."""
    version, name, digest = FILES[package]
    kept = cache_folder().parent / "npm" / f"{package}-{version}.js"
    if not kept.exists():
        _fetch(f"{package}@{version}", name, kept)
    text = kept.read_bytes()
    if hashlib.sha256(text).hexdigest() != digest:
        kept.unlink()
        raise AssertionError(f"{kept} is not the file that was looked at when this test was written")
    return text.decode()


def npm_package(package: str) -> Path:
    """The folder of an installed package with all that it needs. No script of any package is run."""
    wanted = f"{package}@{PROGRAMS[package]}"
    kept = cache_folder().parent / "npm" / wanted
    if not kept.exists():
        npm = shutil.which("npm") or without("npm", f"it would have brought {wanted}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            folder = Path(name) / "installed"
            folder.mkdir()
            argv = [npm, "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", wanted]
            installed = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
            if installed.returncode != 0:
                without(wanted, installed.stderr.strip()[-200:])
            folder.rename(kept)
    return kept / "node_modules" / package


def _fetch(wanted: str, name: str, kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        without("npm", f"it would have brought {wanted}")
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", "--silent", wanted], cwd=folder, capture_output=True, text=True, timeout=PACK_S, check=False
        )
        if packed.returncode != 0:
            without(wanted, packed.stderr.strip()[:200])
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            found = archive.extractfile(name)
            assert found is not None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(found.read())
