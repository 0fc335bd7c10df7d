"""`init` and `presets`: the first configuration, from what a Prometheus knows; and the packs of metrics there are."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchdog.cli.options import Json
from watchdog.cli.output import print_json, print_lines, print_table, tell
from watchdog.errors import WatchdogError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from watchdog.discovered import Discovery, Service

DEFAULT_OUT = Path("config.toml")
_LOCAL = "http://127.0.0.1:9090"
_MOST = 20  # services that are taken without being named
_NEAR = 5


def register(app: typer.Typer) -> None:
    """Add the commands of this module, in the order of --help."""
    app.command()(init)
    app.command()(presets)


def init(
    *,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The Prometheus, before /api/v1. Asked for, or this machine's.")
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this service; may be given several times.")
    ] = None,
    preset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Try only this preset; may be given several times.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the configuration.")] = DEFAULT_OUT,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take every service that was found.")] = False,
    environment: Annotated[str, typer.Option(metavar="NAME", help="Where the services run.")] = "production",
    username: Annotated[str, typer.Option(metavar="NAME", help="Basic authentication; see --password-env.")] = "",
    password_env: Annotated[str, typer.Option(metavar="VARIABLE", help="Variable with the password.")] = "",
    token_env: Annotated[str, typer.Option(metavar="VARIABLE", help="Variable with a bearer token.")] = "",
    ca_file: Annotated[str, typer.Option(metavar="FILE", help="Who signed the server's certificate, PEM.")] = "",
    json: Json = False,
) -> None:
    """Write a first configuration.

    Asks a Prometheus (or what speaks like one) which presets match, which services there are and which label tells
    their versions apart, and writes a commented configuration in observe mode. On a terminal it asks what it was not
    told. No file is overwritten without --force.
    """
    from watchdog.first_config import first_config

    _refuse_to_overwrite(out, force=force)
    _check_environment(environment)
    asks = sys.stdin.isatty() and not yes and not json
    options = _options(
        url=_url(url, asks=asks),
        username=username,
        password_env=password_env,
        token_env=token_env,
        ca_file=str(Path(ca_file).absolute()) if ca_file else "",
    )
    found = _discovered(options, _known(preset or []))
    chosen = _chosen(found, service or [], asks=asks)
    text = first_config(options, chosen, environment=environment, written_for=options["url"])
    _write(out, text, force=force)
    if json:
        print_json({"written": str(out), "url": options["url"], **_document(found, chosen)})
        return
    for one in chosen:
        print_lines([_line(one)])
    print_lines([f"{out}: written; now: deploy-watchdog check --config {out}"])


def _check_environment(name: str) -> None:
    """As the configuration will read it."""
    from pydantic import TypeAdapter, ValidationError

    from watchdog.config.section import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise WatchdogError(f"--environment: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one.", show_default=False)] = None,
    *,
    json: Json = False,
) -> None:
    """List the presets of metrics, or print one.

    Its text says what it compares, and which series it needs.
    """
    from watchdog.presets import names
    from watchdog.presets import preset as preset_of

    if name is not None:
        (known,) = _known([name])
        print_json(_preset_document(known)) if json else print_lines(preset_of(known).text.rstrip().splitlines())
    elif json:
        print_json([_preset_document(known) for known in names()])
    else:
        rows = [(known, preset_of(known).description, preset_of(known).version_label or "-") for known in names()]
        print_table(("preset", "what it is for", "version label"), rows)


def _preset_document(name: str) -> dict[str, Any]:
    from watchdog.presets import preset as preset_of

    one = preset_of(name)
    return {
        "name": name,
        "description": one.description,
        "follows": one.follows,
        "template": one.is_template,
        "fingerprint": [mark.name for mark in one.fingerprint],
        "version_label": one.version_label or None,
        "metrics": [dict(table) for table in one.metrics],
        "note": one.note,
    }


def _refuse_to_overwrite(out: Path, *, force: bool) -> None:
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise WatchdogError(f"{out} cannot be written: it must be a file in a folder that exists")
    if out.exists() and not force:
        raise WatchdogError(f"{out} exists and is left as it is; name another file with --out, or overwrite by --force")


def _url(given: str | None, *, asks: bool) -> str:
    if given is not None:
        return given
    if not asks:
        raise WatchdogError(f"--url is missing: where is the Prometheus? For example --url {_LOCAL}")
    return str(typer.prompt("Where is the Prometheus?", default=_LOCAL, err=True))


def _options(**told: str) -> dict[str, str]:
    return {key: value for key, value in told.items() if value}


def _known(wanted: Sequence[str]) -> list[str]:
    from difflib import get_close_matches

    from watchdog.presets import names

    for name in wanted:
        if name not in names():
            near = get_close_matches(name, names(), n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names())}"
            raise WatchdogError(f"there is no preset {name!r}; {meant}")
    return list(wanted)


def _discovered(options: dict[str, str], only: Sequence[str]) -> "Discovery":
    from watchdog.app import parts_of
    from watchdog.catalogue import HasCatalogue
    from watchdog.config import AdapterConfig, Config
    from watchdog.discovery import discover

    adapter = AdapterConfig(kind="prometheus", options=_checked(options))
    source = parts_of(Config(sources={"prometheus": adapter})).sources["prometheus"]
    if not isinstance(source, HasCatalogue):
        raise TypeError("a Prometheus has names")
    try:
        found = discover(source.catalogue, only=only)
    finally:
        source.close()
    if found.services:
        return found
    where = options["url"]
    if not found.names:
        raise WatchdogError(f"{where} answers and knows no metric of the last hour; does it scrape anything?")
    near = "".join(f"\n  {one.sentence}" for one in found.near[:_NEAR])
    raise WatchdogError(
        f"no preset matches what {where} knows ({found.names} metrics); the nearest:{near or ' none'}\n"
        "Write [[services.<name>.metrics]] tables by hand, or ask `deploy-watchdog presets` what there is"
    )


def _checked(options: dict[str, str]) -> "BaseModel":
    """The options as the configuration will read them (WatchdogError, naming each that is wrong)."""
    from pydantic import ValidationError

    from watchdog.app import adapter_options

    try:
        return adapter_options()["sources"]["prometheus"].model_validate(options)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, one['loc'])) or 'options'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise WatchdogError("; ".join(told)) from None


def _chosen(found: "Discovery", wanted: Sequence[str], *, asks: bool) -> "list[Service]":
    from watchdog.discovery import nearest_services

    by_name = {service.name: service for service in found.services}
    for name in wanted:
        if name not in by_name:
            near = nearest_services(name, found.services) or list(by_name)[:_MOST]
            raise WatchdogError(f"no service {name!r} was found; the nearest: {', '.join(near)}")
    if wanted:
        return [by_name[name] for name in dict.fromkeys(wanted)]
    if asks and len(by_name) > 1:
        return _picked(list(found.services))
    if len(by_name) > _MOST:
        raise WatchdogError(
            f"{len(by_name)} services were found, more than are taken without being named; name some with --service: "
            f"{', '.join(list(by_name)[:_MOST])}, …"
        )
    return list(found.services)


def _picked(services: "list[Service]") -> "list[Service]":
    """Let a person choose by number or name; nothing but a right answer ends the question."""
    for number, service in enumerate(services, 1):
        tell(f"{number:>3}  {_line(service)}")
    by_word = {str(number): one for number, one in enumerate(services, 1)} | {one.name: one for one in services}
    while True:
        said = str(typer.prompt("Which? Numbers or names, or all", default="all", err=True))
        words = said.replace(",", " ").split()
        wrong = [word for word in words if word not in by_word]
        if words == ["all"]:
            return services
        if words and not wrong:
            return list({by_word[word].name: by_word[word] for word in words}.values())
        tell(f"{', '.join(wrong) or 'nothing'} is none of them")


def _line(service: "Service") -> str:
    packs = ", ".join(dict.fromkeys(pack.preset.name for pack in service.packs))
    where = ", ".join(f'{label}="{value}"' for label, value in service.selector.items())
    if service.version_label is None:
        versions = "no label tells versions apart"
    else:
        versions = f"{service.version_label}: {', '.join(service.versions[:3])}"
    return f"{service.name}  {where}  {packs}  {versions}"


def _write(out: Path, text: str, *, force: bool) -> None:
    """All of it or nothing; a file that came meanwhile is kept too."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if force:
            part.replace(out)
        else:
            os.link(part, out)
    except FileExistsError:
        raise WatchdogError(f"{out} exists and is left as it is; overwrite it by --force") from None
    except OSError as error:
        raise WatchdogError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _document(found: "Discovery", chosen: "Sequence[Service]") -> dict[str, Any]:
    from watchdog.first_config import look_s

    taken = [
        {
            "name": service.name,
            "selector": dict(service.selector),
            "presets": list(dict.fromkeys(pack.preset.name for pack in service.packs)),
            "metrics": [str(t["name"]) for pack in service.packs for t in pack.tables or pack.preset.metrics],
            "version_label": service.version_label,
            "versions": list(service.versions),
            "strategy": "direct" if service.version_label is None else "canary",
            "scrape_s": service.scrape_s,
            "look_s": look_s(service.scrape_s),
        }
        for service in chosen
    ]
    others = [service.name for service in found.services if service not in chosen]
    near = [{"preset": one.preset, "missing": one.missing, "nearest": list(one.nearest)} for one in found.near]
    return {"services": taken, "not_taken": others, "near": near, "tell_no_service": list(found.nameless)}
