"""One thing that `check` looked at, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["problem", "warning", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do about it."""

    level: Level
    about: str
    message: str
    remedy: str = ""

    @property
    def is_problem(self) -> bool:
        return self.level == "problem"

    def line(self) -> str:
        """Return the finding as one line for people."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {self.about}: {self.message}{remedy}"

    def as_json(self) -> dict[str, str]:
        return asdict(self)
