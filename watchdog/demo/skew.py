"""A front that sends more of one route's visitors to one version, without giving it more visitors altogether."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Skew:
    """Which share of a route's visitors go to `version`; what it gets too much there it gets less elsewhere."""

    version: str
    shares: dict[str, float] = field(default_factory=dict)  # route → share
    _owed: int = 0  # visitors that `version` got beyond its weight
    _dice: random.Random = field(default_factory=random.Random)

    def change(self, asked: Mapping[str, float]) -> None:
        """Set the shares of some routes.

        Raises
        ------
        ValueError
            A share is none.
        """
        for route, share in asked.items():
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {route} is a number between 0 and 1, not {share}")
        self.shares.update(asked)

    def moved(self, picked: str, other: str, path: str) -> str:
        """The version for a visitor of `path` whom the weights would send to `picked`."""
        if not self.shares:
            return picked
        wanted = picked
        if path in self.shares:
            wanted = self.version if self._dice.random() < self.shares[path] else other
        elif self._owed > 0 and picked == self.version:
            wanted = other
        elif self._owed < 0 and picked != self.version:
            wanted = self.version
        self._owed += (wanted == self.version) - (picked == self.version)
        return wanted
