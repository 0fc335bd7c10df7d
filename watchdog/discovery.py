"""Which presets match what a source knows, which services and versions that shows, and what nearly matched.

Pure but for the questions to the catalogue. A preset matches a service where every series of its fingerprint is alive
with the labels it needs, and its service label has the service's name.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from statistics import median

from watchdog.catalogue import Catalogue
from watchdog.customs import DURATIONS, REQUESTS, STATUS_LABELS, failed_among, is_sold
from watchdog.discovered import Discovery, Near, Pack, Service, Unsure
from watchdog.errors import SourceError
from watchdog.presets import Mark, names, preset
from watchdog.selector import Matcher, Selector

BY_CONVENTION, BUSINESS = "by-convention", "business"
VERSION_LABELS = (  # in the order of preference, after the preset's own
    "version",
    "service_version",
    "app_version",
    "app_kubernetes_io_version",
    "label_app_kubernetes_io_version",
    "release",
    "image_tag",
    "build",
    "revision",
    "track",
    "variation",
    "pod_template_hash",
)
PLACE_LABELS = ("namespace", "exported_namespace", "env", "environment", "cluster")
_OWN_LABELS = ("app", "application", "app_name", "service_name", "service", "job")  # put on by the service's own people
_NEAR = 3


def discover(catalogue: Catalogue, *, only: Sequence[str] = ()) -> Discovery:
    """Ask a source what of it can be watched. `only`: presets to try; all without it (SourceError)."""
    return _Discovering(catalogue, only).discovery()


@dataclass(slots=True)
class _Sighting:
    """One preset at one service label's value."""

    label: str
    value: str
    pack: Pack


@dataclass(slots=True)
class _Discovering:
    catalogue: Catalogue
    only: Sequence[str]
    known: frozenset[str] = frozenset()
    nameless: list[str] = field(default_factory=list)
    unknown: list[Near] = field(default_factory=list)  # requests whose outcome nobody understands
    _labels: dict[str, list[str]] = field(default_factory=dict)

    def discovery(self) -> Discovery:
        self.known = frozenset(self.catalogue.names())
        sightings = [sighting for pack in self._packs() for sighting in self._sightings(pack)]
        grouped = _by_service(sightings).items()
        services = [one for (label, value), mine in grouped for one in self._services(label, value, mine)]
        matched = {sighting.pack.preset.name for sighting in sightings}
        return Discovery(
            names=len(self.known),
            services=tuple(_named_apart(services)),
            near=tuple(self._near(matched)),
            nameless=tuple(self.nameless),
        )

    # --- which presets ------------------------------------------------------------------------------------

    def _packs(self) -> Iterator[Pack]:
        asked = self.only or names()
        used: set[str] = set()
        for name in asked:
            one = preset(name)
            if not one.is_template and all(self._has(mark) for mark in one.fingerprint):
                used |= {mark.name for mark in one.fingerprint}
                yield Pack(preset=one, tables=(), marks=one.fingerprint)
        if BY_CONVENTION in asked:
            yield from self._by_convention(used)

    def _has(self, mark: Mark) -> bool:
        return mark.name in self.known and mark.labels <= set(self._labels_of(mark.name))

    def _labels_of(self, name: str) -> list[str]:
        if name not in self._labels:
            self._labels[name] = self.catalogue.labels(Selector(name))
        return self._labels[name]

    def _by_convention(self, used: set[str]) -> Iterator[Pack]:
        for requests in sorted(self.known - used):
            found = REQUESTS.fullmatch(requests)
            status = found and self._status(requests)
            if not found or not status:
                continue
            label, seen = status
            values, failed = {"requests": requests, "status": label}, failed_among(seen)
            unsure = None if failed else Unsure(requests=requests, label=label, values=seen)
            if failed:
                values["failed"] = failed
            durations = (f"{found[1]}{ending}" for ending in DURATIONS)
            duration = next((name for name in durations if f"{name}_bucket" in self.known - used), None)
            if duration is not None:
                values["duration"] = duration
            marks = [Mark(requests, frozenset({label})), *([Mark(f"{duration}_bucket")] if duration else [])]
            if tables := preset(BY_CONVENTION).filled(values):
                yield Pack(preset=preset(BY_CONVENTION), tables=tables, marks=tuple(marks), unsure=unsure)
            else:
                self.unknown.append(_unknown_status(requests, label, seen))

    def _status(self, requests: str) -> tuple[str, tuple[str, ...]] | None:
        """The label that tells the outcome of requests, one whose values are understood first, and its values."""
        labels = [label for label in STATUS_LABELS if label in self._labels_of(requests)]
        found = [(label, tuple(self._values(Mark(requests), label))) for label in labels]
        return next((one for one in found if failed_among(one[1])), found[0] if found else None)

    def _near(self, matched: set[str]) -> Iterator[Near]:
        """The presets that lack something, those that are nearest first."""
        found = list(self.unknown)
        for name in self.only or names():
            one = preset(name)
            missing = [mark for mark in one.fingerprint if not self._has(mark)]
            if name in matched or not missing:
                continue
            nearest = tuple(get_close_matches(missing[0].name, self.known, n=_NEAR, cutoff=0.7))
            present = len(one.fingerprint) - len(missing)
            if nearest or present or self.only:
                told = _told(missing[0], labels_lack=missing[0].name in self.known)
                found.append(
                    Near(preset=name, missing=told, nearest=nearest, present=present, if_missing=one.if_missing)
                )
        yield from sorted(found, key=lambda near: (-near.present, not near.nearest, near.preset))

    # --- which services -----------------------------------------------------------------------------------

    def _sightings(self, pack: Pack) -> Iterator[_Sighting]:
        wished = (*pack.preset.service_labels, *(["job"] if pack.preset.service_labels else []))
        label = next((one for one in wished if any(one in self._labels_of(mark.name) for mark in pack.marks)), None)
        if label is None:
            self.nameless.append(pack.preset.name)
            return
        telling = tuple(mark for mark in pack.marks if label in self._labels_of(mark.name))  # others are joined to it
        alive = [self._values(mark, label) for mark in telling]
        for value in alive[0]:
            if all(value in some for some in alive):
                yield _Sighting(label, value, replace(pack, marks=telling))

    def _values(self, mark: Mark, label: str) -> list[str]:
        """The values of a label among the mark's series, which have the labels that it is told by."""
        there = tuple(Matcher(name, "!=", "") for name in sorted(mark.labels | {label}))
        return [one.labels[label] for one in self.catalogue.label_sets(Selector(mark.name, there), (label,))]

    def _services(self, label: str, value: str, packs: Sequence[Pack]) -> Iterator[Service]:
        """The service, or one for each place it runs in: of two mixed up, one hides the other's errors."""
        chosen, besides = _without_doubles(packs)
        shared = self._shared(Matcher(label, "=", value), chosen)
        whole = Service(
            name=_service_name(value),
            selector={label: value},
            packs=tuple(chosen),
            besides=tuple(besides),
            labels=tuple(sorted(shared - {"instance", "job", "le"})),
        )
        places = self._places(whole.main, [one for one in PLACE_LABELS if one in shared])
        names = [_service_name("-".join([value, *place.values()])) for place in places]
        for place, name in zip(places, names, strict=True):
            environment = place.get("environment") or place.get("env")
            mine = replace(
                whole,
                name=name,
                selector={**whole.selector, **place},
                environment=_service_name(environment) if environment else None,
                apart=tuple(place),
                siblings=tuple(other for other in names if other != name),
            )
            yield self._with_business(self._comparable(self._versioned(mine, shared)))

    def _shared(self, condition: Matcher, packs: Sequence[Pack]) -> set[str]:
        """The labels that all series of a service carry; resources come from elsewhere."""
        marks = [mark for pack in packs if not pack.preset.is_resources for mark in pack.marks]
        labels = [set(self.catalogue.labels(Selector(mark.name, (condition,)))) for mark in marks]
        return set.intersection(*labels) if labels else set()

    def _places(self, main: Selector, labels: Sequence[str]) -> list[dict[str, str]]:
        """Namespaces, environments and clusters, where there are several; else one place without a name."""
        sets = [one.labels for one in self.catalogue.label_sets(main, labels)] if labels else []
        telling = [label for label in labels if len({one[label] for one in sets if one[label]}) > 1]
        found = [{label: one[label] for label in telling} for one in sets if all(one[label] for label in telling)]
        unique = {tuple(one.items()): one for one in found}
        return list(unique.values()) if telling and unique else [{}]

    def _versioned(self, service: Service, shared: set[str]) -> Service:
        found = replace(service, scrape_s=self._scrape_s(service.main))
        for one in dict.fromkeys([*(pack.preset.version_label for pack in service.packs), *VERSION_LABELS]):
            if one and one in shared:
                sets = self.catalogue.label_sets(service.main.with_matchers(Matcher(one, "!=", "")), (one,))
                if sets:
                    return replace(found, version_label=one, versions=tuple(each.labels[one] for each in sets))
        return found

    def _scrape_s(self, selector: Selector) -> float | None:
        """Only a hint at how often to look: what cannot be told is unknown, and no reason to break off."""
        try:
            return usual_interval(self.catalogue.sampled_at(selector))
        except SourceError:
            return None

    def _comparable(self, service: Service) -> Service:
        """Without resources whose series do not say the version or the place, as where only the program's own metrics
        do: they would bring nothing of either version."""
        own, lacking = Matcher(*next((label, "=", value) for label, value in service.selector.items())), []
        for pack in service.packs:
            version = [service.version_label] if service.version_label and not pack.preset.version_label else []
            labels = [self.catalogue.labels(Selector(mark.name, (own,))) for mark in pack.marks]
            if pack.preset.is_resources and any(not {*version, *service.apart} <= set(one) for one in labels):
                lacking.append(pack)
        left = tuple(pack for pack in service.packs if pack not in lacking)
        return replace(service, packs=left, unversioned=tuple(pack.preset.name for pack in lacking))

    def _with_business(self, service: Service) -> Service:
        """The counters of what it is there for, per request."""
        if self.only and BUSINESS not in self.only:
            return service
        tables = [table for pack in service.packs for table in pack.tables or pack.preset.metrics]
        counted = [table["total"] for table in tables if "total" in table and not table.get("native")]
        total = next(iter([*counted, *(pack.unsure.requests for pack in service.packs if pack.unsure)]), None)
        sold = [name for name in sorted(self.known) if is_sold(name)] if total else []
        one = preset(BUSINESS)
        packs = []
        for name in sold:
            needed = [*service.selector, *([service.version_label] if service.version_label else [])]
            mine = Selector(name, tuple(Matcher(key, "=", value) for key, value in service.selector.items()))
            if set(needed) <= set(self._labels_of(name)) and self.catalogue.label_sets(mine, needed):
                filled = one.filled({"events": name, "exposure": str(total)})
                packs.append(Pack(preset=one, tables=filled, marks=(Mark(name),)))
        return replace(service, packs=(*service.packs, *packs))


def _by_service(sightings: Iterable[_Sighting]) -> dict[tuple[str, str], list[Pack]]:
    """The packs of every service; resources join what prints its own page, and are no service alone."""
    found: dict[tuple[str, str], list[Pack]] = {}
    resources: list[_Sighting] = []
    for sighting in sightings:
        if sighting.pack.preset.is_resources:
            resources.append(sighting)
        else:
            found.setdefault((sighting.label, sighting.value), []).append(sighting.pack)
    for sighting in resources:
        mine = found.get((sighting.label, sighting.value), [])
        if mine and not any(pack.preset.is_exporter for pack in mine):
            mine.append(sighting.pack)
    return found


def _without_doubles(packs: Sequence[Pack]) -> tuple[list[Pack], list[str]]:
    """Packs that bring different metrics; the most exact fingerprints come first."""
    chosen: list[Pack] = []
    besides: list[str] = []
    brought: set[str] = set()
    for pack in sorted(packs, key=_exactness):
        own = {str(table["name"]) for table in pack.tables or pack.preset.metrics}
        only_offered = pack.preset.is_resources and pack.preset.needs_prometheus  # follows the load closely
        if own & brought or only_offered:
            besides.append(pack.preset.name)
        else:
            chosen.append(pack)
            brought |= own
    return chosen, besides


def _exactness(pack: Pack) -> tuple[bool, bool, int]:
    told = sum(1 + len(mark.labels) for mark in pack.marks)
    return pack.preset.is_resources, pack.preset.is_template, -told


def _named_apart(services: Sequence[Service]) -> Iterator[Service]:
    """Services in order of their names; of two with one name the service itself keeps it, a proxy's view of it not."""
    taken: set[str] = set()
    for one in sorted(services, key=lambda service: (service.name, *_standing(service))):
        label = next(iter(one.selector))
        told = one if one.name not in taken else replace(one, name=f"{one.name}-{label}")
        taken.add(told.name)
        yield told


def _standing(service: Service) -> tuple[int, str]:
    label = next(iter(service.selector))
    return (_OWN_LABELS.index(label) if label in _OWN_LABELS else len(_OWN_LABELS)), label


def _service_name(value: str) -> str:
    """The value as a service may be called in a configuration and in a deploy event."""
    return re.sub(r"[^A-Za-z0-9._:/@+-]", "-", value).lstrip("-")[:100] or "service"


def usual_interval(times: Sequence[float]) -> float | None:
    """The usual time between two samples; a scrape that was missed does not change it."""
    gaps = [late - early for early, late in pairwise(times) if late - early > 0.05]
    return round(median(gaps), 1) if gaps else None


def _unknown_status(requests: str, label: str, values: Sequence[str]) -> Near:
    missing = f"HTTP or gRPC status in the label {label} of {requests}"
    return Near(preset=BY_CONVENTION, missing=missing, nearest=tuple(values[:_NEAR]), present=1)


def _told(mark: Mark, *, labels_lack: bool) -> str:
    return f"{mark.name} with {', '.join(sorted(mark.labels))}" if labels_lack else mark.name


def nearest_services(wanted: str, services: Sequence[Service]) -> list[str]:
    """Names of services that may have been meant."""
    parts = [service.name for service in services if service.name.startswith(f"{wanted}-")]
    return parts or get_close_matches(wanted, [service.name for service in services], n=_NEAR, cutoff=0.5)
