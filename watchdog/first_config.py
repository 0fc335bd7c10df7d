"""The first config.toml: what was discovered, in observe mode, with a comment at everything that is worth changing."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.sentence import named
from watchdog.customs import speaks_of_failure
from watchdog.discovered import Pack, Service, Unsure
from watchdog.presets import preset

DEFAULT_LOOK_S = 30.0
DEFAULT_WATCH_S = 900.0
LEAST_LOOK_S = 5.0
SCRAPES_A_LOOK = 2
_LOOKS_A_WATCH = 30
_WIDTH = 116


def first_config(source: Mapping[str, Any], services: Sequence[Service], *, environment: str, written_for: str) -> str:
    """Return the text of a configuration that watches these services and changes nothing."""
    lines = [*_head(written_for), *_source(source)]
    for service in services:
        lines += ["", *_service(service, environment)]
    return "\n".join([*lines, *_foot(services)]) + "\n"


def look_s(scrape_s: float | None) -> float:
    """Seconds between two looks: two samples at least lie between them."""
    if scrape_s is None:
        return DEFAULT_LOOK_S
    return float(max(LEAST_LOOK_S, math.ceil(SCRAPES_A_LOOK * scrape_s - 1e-6)))


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    text = str(value)
    plain = text.isprintable() and "'" not in text and ('"' in text or "\\" in text)
    return f"'{text}'" if plain else json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


def _head(written_for: str) -> Iterator[str]:
    yield f"# Written by `deploy-watchdog init` from what {_one_line(written_for)} knew."
    yield "# It only observes: nothing here can change production. See that it is right:"
    yield "#     deploy-watchdog check"
    yield "# Every other key is described in the annotated config.toml of the project."
    yield ""
    yield "[daemon]"
    yield 'listen = "127.0.0.1:8811" # this machine alone; another address needs a token in [[auth.tokens]]'
    yield 'ledger = "watchdog.db"'
    yield ""
    yield "# Who may tell of deploys from elsewhere. The token itself stands in the environment, never here."
    yield "# [[auth.tokens]]"
    yield '# name = "ci"'
    yield '# token_env = "WATCHDOG_CI_TOKEN"'
    yield '# scopes = ["read", "trigger"]'
    yield ""
    yield "[sinks.log]"
    yield 'kind = "log" # beside it, or instead: slack, webhook, alertmanager, grafana, github, cdevents, heartbeat'
    yield ""


def _source(source: Mapping[str, Any]) -> Iterator[str]:
    yield "[sources.prometheus]"
    yield 'kind = "prometheus"'
    yield from (f"{key} = {toml(value)}" for key, value in source.items())


def _service(service: Service, environment: str) -> Iterator[str]:
    table = f"services.{_key(service.name)}"
    yield from _comment(_seen(service))
    yield from _elsewhere(service)
    yield f"[{table}]"
    yield 'mode = "observe" # then notify, approve and auto, as trust grows'
    if service.version_label is None:
        yield from _comment(
            "No label of its series tells versions apart, so a deploy is compared with the time before it. Better: "
            "give the targets a label version, name it in version_label, and take canary or rolling."
        )
        if service.labels:
            yield from _comment(f"Its series have: {', '.join(service.labels)}.")
        yield 'strategy = "direct"'
    else:
        yield 'strategy = "canary" # both versions serve side by side; or rolling, blue_green, direct, flag'
    yield 'source = "prometheus"'
    environment = service.environment or environment
    if environment != "production":
        yield f"environment = {toml(environment)}"
    yield f"selector = {toml(service.selector)}"
    if service.version_label is not None:
        label = toml(service.version_label)
        yield f"version_label = {label} # its values are the versions that CI names; now {_versions(service.versions)}"
    yield from _rhythm(service)
    names = [pack.preset.name for pack in service.packs if not pack.tables]
    if names:
        yield f"presets = {toml(names)} # what they compare: deploy-watchdog presets {names[0]}"
    if service.besides:
        yield f"# They match too, and bring more of the same: {', '.join(service.besides)}"
    yield from _unversioned(service)
    for pack in service.packs:
        for metric in pack.tables:
            yield from _metric(table, pack, metric)
        if pack.unsure is not None:
            yield from _commented_errors(table, pack, pack.unsure)
    if BUSINESS not in {pack.preset.name for pack in service.packs}:
        yield from _commented_business(table, service)


def _elsewhere(service: Service) -> Iterator[str]:
    if service.siblings:
        yield from _comment(
            f"The same runs in {len(service.siblings) + 1} places that {named(service.apart)} tells apart, each a "
            f"service of its own here: beside this one {named(service.siblings, most=8)}. CI names the one it deploys "
            "to; take out those that nobody watches."
        )


def _unversioned(service: Service) -> Iterator[str]:
    if service.unversioned:
        told = " and the ".join([*([service.version_label] if service.version_label else []), *service.apart])
        yield from _comment(
            f"They match too, but their series do not say the {told}, so the versions cannot be told "
            f"apart: {', '.join(service.unversioned)}. Give the targets that label, then add them to presets."
        )


def _seen(service: Service) -> str:
    said = f"{service.name}: found by {', '.join(dict.fromkeys(pack.preset.name for pack in service.packs))}"
    if service.scrape_s is not None:
        said += f"; sampled every {service.scrape_s:g} s"
    return said + "."


def _rhythm(service: Service) -> Iterator[str]:
    look = look_s(service.scrape_s)
    if look != DEFAULT_LOOK_S:
        yield f"look_s = {look:g} # two samples, which come every {service.scrape_s:g} s"
    watch = max(DEFAULT_WATCH_S, _LOOKS_A_WATCH * look)
    if watch != DEFAULT_WATCH_S:
        yield f"watch_s = {watch:g}"
        yield f"baseline_s = {watch:g}"


def _metric(table: str, pack: Pack, metric: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"[[{table}.metrics]] # from the template {pack.preset.name}"
    yield from (f"{key} = {toml(value)}" for key, value in metric.items())


def _commented_errors(table: str, pack: Pack, unsure: Unsure) -> Iterator[str]:
    """A guess would be a metric that can never see an error, or one that sees them everywhere."""
    failed = [value for value in unsure.values if speaks_of_failure(value)]
    values = {"requests": unsure.requests, "status": unsure.label, "failed": "|".join(failed) or "failed"}
    errors = next(one for one in pack.preset.filled(values) if "bad" in one)
    yield ""
    yield from _comment(
        f"Errors are NOT compared yet: {unsure.label} of {unsure.requests} is {named(unsure.values, most=8)}, which is "
        "no HTTP and no gRPC status. Say which of them are failures of the service:"
    )
    yield f"# [[{table}.metrics]]"
    yield from (f"# {key} = {toml(value)}" for key, value in errors.items())


BUSINESS = "business"


def _commented_business(table: str, service: Service) -> Iterator[str]:
    """A version may answer everything and sell nothing; only people know what it should sell."""
    tables = [one for pack in service.packs for one in pack.tables or pack.preset.metrics]
    counted = [one["total"] for one in tables if "total" in one and not one.get("native")]
    total = next(iter([*counted, *(pack.unsure.requests for pack in service.packs if pack.unsure)]), None)
    if total is None:
        return
    (metric,) = preset(BUSINESS).filled({"events": "orders_total", "exposure": str(total)})
    yield ""
    yield "# What it is there for: a counter of orders, sign-ups or payments."
    yield f"# [[{table}.metrics]]"
    yield from (f"# {key} = {toml(value)}" for key, value in metric.items())


def _foot(services: Sequence[Service]) -> Iterator[str]:
    told_apart = [service for service in services if service.version_label]  # of which rolling back means most
    name = (told_apart or list(services))[0].name
    yield ""
    yield '# Once the verdicts have earned it: a program of yours that rolls back, and mode = "approve" or "auto" with'
    yield f'# rollback_hook = "back" in [services.{_key(name)}]. There are hooks ready made: docs/hooks.md.'
    yield "# [hooks.back]"
    yield '# kind = "command"'
    yield f'# argv = ["/usr/local/bin/roll-back-{name}"]'
    yield f'# probe_argv = ["/usr/local/bin/roll-back-{name}", "--probe"]'


def _versions(versions: Sequence[str]) -> str:
    return named([_one_line(version)[:40] for version in versions])


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in _one_line(text).split():
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = "#"
        line += f" {word}"
    yield line


def _one_line(text: str) -> str:
    """Text from outside in a comment: it must not end the line, nor hide in it."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
