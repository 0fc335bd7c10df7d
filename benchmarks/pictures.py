"""The pictures of the documents, taken from real runs of the demo: `make pictures` writes docs/images.

One run in a terminal of its own is recorded (`demo.cast`, for `asciinema play`) and left up; a headless Chromium signs
in and takes its pages. A second run, piped as in CI, becomes `demo.svg`. Needs Chromium on PATH; two minutes.
"""

import argparse
import contextlib
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from urllib.parse import urljoin

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS, LINES = 120, 36
MOST_BYTES = 150_000
PATIENCE_S = 300.0
STAYS = re.compile(r"The pages stay up: (\S+)\s+Sign in with (\S+)")


@contextlib.contextmanager
def terminal(*argv: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program in a terminal of our own, ended by Ctrl-C."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # it is gone, and its terminal with it
            while os.read(ours, 65536):
                pass
        process.wait(timeout=60)
        os.close(ours)


def recorded(ours: int) -> tuple[list[tuple[float, str]], str, str]:
    """What it wrote and when, until the pages are said to be up; their address and token."""
    began, frames, said = time.monotonic(), list[tuple[float, str]](), ""
    while time.monotonic() - began < PATIENCE_S:
        if not select.select([ours], [], [], 1.0)[0]:
            continue
        text = os.read(ours, 65536).decode(errors="replace")
        frames.append((time.monotonic() - began, text))
        said += text
        if found := STAYS.search(said):
            told = "".join(text for _, text in frames)
            end = told.index("The pages stay up")
            return cut(frames, end), found[1], found[2]
    raise TimeoutError("the demo did not come to its end")


def cut(frames: list[tuple[float, str]], end: int) -> list[tuple[float, str]]:
    """The first `end` characters."""
    kept, so_far = [], 0
    for at, text in frames:
        kept.append((at, text[: max(end - so_far, 0)]))
        so_far += len(text)
    return [(at, text) for at, text in kept if text]


def write_cast(frames: list[tuple[float, str]]) -> None:
    """An asciicast, version 2."""
    header = {"version": 2, "width": COLUMNS, "height": LINES, "title": "deploy-watchdog demo"}
    lines = [json.dumps(header), *(json.dumps([round(at, 3), "o", text], ensure_ascii=False) for at, text in frames)]
    (IMAGES / "demo.cast").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_svg(demo: list[str]) -> None:
    """What the same command prints where there is no terminal, as a picture without fonts from elsewhere."""
    done = subprocess.run(demo, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ make demo", style="bold"))
    console.print(Text(done.stdout.rstrip()))
    svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="deploy-watchdog demo"), flags=re.S)
    (IMAGES / "demo.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def shoot(tab: Page, name: str) -> None:
    """A page as a small PNG: few colours are enough for it."""
    tab.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(tab.screenshot(full_page=True)))
    path = IMAGES / f"{name}.png"
    shot.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")


def take_pages(address: str, token: str, chromium: str) -> None:
    """`address` is the page of the deploy."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": 700})
        tab.goto(address)
        tab.fill("input[name=token]", token)
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=Sign out")
        tab.goto(address)
        shoot(tab, "deploy")
        tab.locator("a[href^='/services/']").first.click()
        shoot(tab, "service")
        tab.goto(urljoin(address, "/"))
        shoot(tab, "deploys")
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="bad-canary", help="which story")
    scenario = parser.parse_args().scenario
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.stderr.write("there is no Chromium on PATH, so no picture was taken\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    demo = [sys.executable, "-m", "watchdog", "demo", "--scenario", scenario]
    with terminal(*demo, "--stay") as (_, ours):
        frames, address, token = recorded(ours)
        write_cast(frames)
        take_pages(address, token, chromium)
    write_svg(demo)
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.stat().st_size:>8}  docs/images/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
