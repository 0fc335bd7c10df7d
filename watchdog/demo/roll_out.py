"""The demo's orchestrator: gives one server after another the new version, for as long as nobody stops it."""

from typing import Any

from watchdog.demo.scenario import NEW, OLD
from watchdog.demo.talk import call


class RollOut:
    """Moves a server's weight from its old to its new process; asks before each step whether it may."""

    def __init__(self, front_admin: int) -> None:
        self._front_admin = front_admin
        self._updated: list[str] = []

    def may_go_on(self) -> bool:
        """Not while it is paused, and not after somebody has put its servers back."""
        document = self._document()
        undone = any(document["weights"][f"{NEW}/{server}"] == 0 for server in self._updated)
        return not document["paused"] and not undone

    def update(self, server: str) -> bool:
        """Give one server to the new version, if nothing has changed since it was asked; False: it was stopped."""
        document = self._document()
        if not self.may_go_on():
            return False
        old, new = f"{OLD}/{server}", f"{NEW}/{server}"
        weights = document["weights"] | {new: document["weights"][old], old: 0}
        revision = {"If-Match": str(document["revision"])}
        status, _ = call("POST", self._front_admin, "/weights", weights, headers=revision)
        if status == 200:
            self._updated.append(server)
        return status == 200

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = call("GET", self._front_admin, "/weights")[1]
        return document
