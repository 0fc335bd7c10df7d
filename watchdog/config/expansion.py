"""A service's `presets`, written out as metric tables before anything else looks at the service."""

from collections.abc import Mapping, Sequence
from typing import Any

from watchdog.config.section import Mistake
from watchdog.config.telling import one_of
from watchdog.presets import Preset, names, preset


def expanded(table: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the service's table with the metrics of its presets behind its own, and the mistakes in their names.

    Its own come first, so that each stays at the index it has in the file. One with the name of a preset's metric takes
    that metric's place. `presets` keeps those that exist.
    """
    chosen, mistakes = _chosen(table["presets"])
    own = table.get("metrics", [])
    mine = [one.get("name") for one in own if isinstance(one, dict)] if isinstance(own, list) else []
    brought: dict[str, str] = {}  # metric → the preset it comes from
    added = []
    for at, pack in chosen.items():
        for metric in pack.metrics:
            name = metric["name"]
            if name in brought and name not in mine:
                both = f"{brought[name]!r} and {pack.name!r} both bring {name!r}"
                mistakes.append(Mistake(("presets", at), f"{both}; leave one out, or write that table yourself"))
            elif name not in mine:
                brought[name] = pack.name
                added.append(dict(metric))
    whole = dict(table)
    if isinstance(own, list) and (own or added):
        whole["metrics"] = [*own, *added]
    mistakes += _version_label(whole, list(chosen.values()))
    return whole, mistakes


def _chosen(asked: Sequence[Any]) -> tuple[dict[int, Preset], list[Mistake]]:
    """Return the presets that are known by their place in the list; each counts once."""
    chosen: dict[int, Preset] = {}
    mistakes = []
    usable = [name for name in names() if not preset(name).is_template]
    for at, name in enumerate(asked):
        if name in usable:
            if name in asked[:at]:
                mistakes.append(Mistake(("presets", at), f"{name!r} is named twice"))
            else:
                chosen[at] = preset(name)
        elif name in names():
            remedy = f"copy its tables from `deploy-watchdog presets {name}` and fill them in"
            mistakes.append(Mistake(("presets", at), f"{name!r} is a template; {remedy}"))
        else:
            mistakes.append(Mistake(("presets", at), one_of(name, usable)))
    return chosen, mistakes


def _version_label(table: dict[str, Any], chosen: Sequence[Preset]) -> list[Mistake]:
    """Take the version label that the presets name, unless the service names one."""
    if "version_label" in table:
        return []
    labels = {pack.version_label: pack.name for pack in chosen if pack.version_label}
    if len(labels) == 1:
        table["version_label"] = next(iter(labels))
    if len(labels) > 1:
        told = ", ".join(f"{name} has {label!r}" for label, name in labels.items())
        return [Mistake(("presets",), f"the presets find the version in different labels ({told}); set version_label")]
    return []
