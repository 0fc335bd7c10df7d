"""What a source showed: services, the packs of metrics that fit them, and what nearly matched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.presets import Mark, Preset
from watchdog.selector import Matcher, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsure:
    """Requests whose outcome a label tells in words that nobody knows by custom: people must say which are failures."""

    requests: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A preset as it fits one service: by its name, or as tables where it had places to fill in."""

    preset: Preset
    tables: tuple[Mapping[str, Any], ...]
    marks: tuple[Mark, ...]
    unsure: "Unsure | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service as the source shows it."""

    name: str
    selector: Mapping[str, str]
    packs: tuple[Pack, ...]
    besides: tuple[str, ...] = ()  # presets that match too, and bring metrics that others bring already
    unversioned: tuple[str, ...] = ()  # presets that match too, and whose series do not carry the version label
    version_label: str | None = None
    versions: tuple[str, ...] = ()  # alive now, most series first
    labels: tuple[str, ...] = ()  # of its series, for those who look for a version label
    scrape_s: float | None = None
    environment: str | None = None  # where a label says it
    apart: tuple[str, ...] = ()  # labels of the selector that tell it from its siblings
    siblings: tuple[str, ...] = ()  # names of the same service elsewhere

    @property
    def main(self) -> Selector:
        """The series it is known by first."""
        conditions = (Matcher(label, "=", value) for label, value in self.selector.items())
        return Selector(self.packs[0].marks[0].name, tuple(conditions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A preset that does not match: what is missing, and the nearest names there are."""

    preset: str
    missing: str
    nearest: tuple[str, ...]
    present: int  # names of the fingerprint that are there
    if_missing: str = ""

    @property
    def sentence(self) -> str:
        nearest = f"nearest: {', '.join(self.nearest)}" if self.nearest else "nothing is named like it"
        why = f"; {self.if_missing}" if self.if_missing else ""
        return f"{self.preset}: there is no {self.missing}, {nearest}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What was found, and what was not."""

    names: int
    services: tuple[Service, ...]
    near: tuple[Near, ...] = ()
    nameless: tuple[str, ...] = ()  # presets that match, but no label tells services apart
