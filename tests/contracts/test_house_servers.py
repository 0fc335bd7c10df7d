"""Real servers for tests are fetched once, however many tests ask for them at the same time."""

import threading
from pathlib import Path

import pytest

from tests import servers


def test_packages_are_fetched_one_at_a_time_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tests that met at apt's lock were skipped, as if there was no such server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    inside, meetings, fetched = threading.Lock(), [], []

    def unpack(packages: list[str], into: Path) -> None:
        if not inside.acquire(blocking=False):
            meetings.append(packages)
            return
        fetched.extend(packages)
        (into / "usr/bin").mkdir(parents=True)
        for name, package in servers.PACKAGES.items():
            if package in packages:
                (into / "usr/bin" / name).write_text("#!/bin/sh\n")
        slow.wait(0.2)  # as long as a download takes others to come in between
        inside.release()

    slow = threading.Event()
    monkeypatch.setattr(servers, "_unpack", unpack)
    monkeypatch.setattr(servers, "_lacking", lambda binary, root: [])
    found: list[Path] = []
    wanted = ("nginx", "haproxy", "nginx")
    asking = [threading.Thread(target=lambda name=name: found.append(servers._unpacked(name))) for name in wanted]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert meetings == []
    assert sorted(fetched) == ["haproxy", "nginx"]
    assert len(found) == 3
    assert all(path.exists() for path in found)
