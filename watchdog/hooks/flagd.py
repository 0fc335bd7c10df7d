"""Hook `flagd`: a flag in a flag definition file of flagd, the share by its `fractional` targeting, off by its default.

The versions of the deploy are variants of the flag. "Off" means that the flag has no targeting and the old variant as
its default, or is disabled where the programs' own default is the old one. Everything else in the file stays as it is.

Format: https://flagd.dev/reference/flag-definitions/, https://flagd.dev/reference/custom-operations/fractional-operation/.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from watchdog.hooks import file_swap
from watchdog.hooks.flag_definition import DISABLED, Definition, Document, Sides, wanted_definition
from watchdog.hooks.wanted_state import HookEndedError, Span, Wanted, WantedStateHook, impossible, wanted
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer
from watchdog.signed_http import Address, NoReplyError, NotSentError, Reply, exchange

WRITES = 5  # lost races before the attempt gives up; each is somebody else's edit within the blink of ours


class FlagdOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(
        pattern=r"\.json$", description="Flag definition file, JSON, that flagd or the programs' own providers read."
    )
    flag: str = Field(min_length=1, description="Key of the flag in it.")
    variants: dict[str, str] = Field(
        default_factory=dict,
        description="Variant of a version by its name; versions not named are called as their variant.",
    )
    by: str = Field(
        "",
        description="Attribute of the evaluation context by which the share is drawn, e.g. company; who has none gets "
        "the old variant. Empty: the targeting key.",
    )
    first: dict[str, Any] = Field(
        default_factory=dict,
        description="Targeting rule of those who get the new variant before everybody else, from the first promotion "
        'until the flag goes off, e.g. { ends_with = [{ var = "email" }, "@example.com"] }. Empty: nobody.',
    )
    disabled_variant: str = Field(
        "",
        description="Variant that the programs use by themselves while the flag is disabled; going back to it then "
        "disables the flag. Empty: the flag stays enabled, with the old variant as its default.",
    )
    flagd_urls: tuple[Address, ...] = Field(
        (),
        description="Addresses of flagd's OFREP service (port 8016), asked whether the flag went off there too. "
        "Empty: the file is believed.",
    )
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time for all of it.")
    probe_timeout_s: float = Field(5.0, gt=0, le=600, description="The same for the probe.")


class FlagdHook(WantedStateHook):
    """One flag in one file."""

    kind: ClassVar[str] = "flagd"

    Options: ClassVar[type[BaseModel]] = FlagdOptions

    def __init__(self, name: str, options: FlagdOptions, clock: Clock, env: Mapping[str, str], state_dir: Path) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        self._file = Path(options.file)

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:  # noqa: ARG002
        want = wanted(call)
        with file_swap.only_us(self._file, span):
            said = self._write(want, span, may_enable=call.kind is not ActionKind.PROMOTE)
        while not self._is_served(want, span):
            span.wait()
        return said

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        want = wanted(call)
        definition, sides = self._definition(self._document(file_swap.read(self._file)), want)
        if definition == self._wanted_definition(definition, sides, want):
            return ProbeAnswer.APPLIED if self._is_served(want, span) else ProbeAnswer.PARTIAL
        parts = self._parts(definition)
        if parts is not None and not parts.keys() & {sides.coming, sides.leaving}:
            return ProbeAnswer.MOVED_ON
        if definition.state == DISABLED and call.kind is ActionKind.PROMOTE:
            return ProbeAnswer.MOVED_ON
        return ProbeAnswer.NOT_APPLIED

    def current_share(self, call: HookCall, span: Span) -> float | None:  # noqa: ARG002
        definition, sides = self._definition(self._document(file_swap.read(self._file)), wanted(call))
        parts = self._parts(definition)
        if parts is None:
            return None
        coming, leaving = (parts.get(variant, 0) for variant in (sides.coming, sides.leaving))
        return coming / (coming + leaving) if coming + leaving else None

    def hindrance(self, call: HookCall, span: Span) -> str | None:  # noqa: ARG002
        want = wanted(call)
        document = self._document(file_swap.read(self._file))
        definition, sides = self._definition(document, want)
        self._written(document, self._wanted_definition(definition, sides, want))
        if self._parts(definition) is None:
            return f"the targeting of {self._options.flag} is not this hook's; turning the flag off would replace it"
        return None

    # --- the file -----------------------------------------------------------------------------------------

    def _write(self, want: Wanted, span: Span, *, may_enable: bool) -> str:
        for _ in range(WRITES):
            span.left()
            said = self._write_once(want, may_enable=may_enable)
            if said is not None:
                return said
        raise HookEndedError(HookOutcome.RETRY, f"{self._file} was changed by somebody else all the time")

    def _write_once(self, want: Wanted, *, may_enable: bool) -> str | None:
        """Change the flag and nothing else; None: an edit came in between, which is to be read and kept."""
        content = file_swap.read(self._file)
        document = self._document(content)
        definition, sides = self._definition(document, want)
        parts = self._parts(definition)
        if parts is not None and not parts.keys() & {sides.coming, sides.leaving}:
            impossible(f"{self._options.flag} is on neither {sides.coming} nor {sides.leaving}: hands off")
        if definition.state == DISABLED and not may_enable:
            impossible(f"{self._options.flag} is disabled: hands off")
        if parts is None and want.share < 1:
            impossible(f"the targeting of {self._options.flag} is not this hook's; it is left as it is")
        said = f"{self._options.flag} gives {sides.coming} a share of {want.share:g}"
        fresh = self._wanted_definition(definition, sides, want)
        if fresh == definition:
            return f"{said} already"
        written = self._written(document, fresh)
        if file_swap.read(self._file) != content:
            return None
        file_swap.replace(self._file, written)
        return said if parts is not None else f"{said}; its targeting was {json.dumps(definition.targeting)}"

    def _document(self, content: bytes) -> Document:
        try:
            return Document.read(content)
        except ValueError as error:
            impossible(f"{self._file}: {error}")

    def _written(self, document: Document, definition: Definition) -> bytes:
        try:
            return document.with_definition(self._options.flag, definition)
        except ValueError as error:
            impossible(f"{self._file} cannot be written: {error}")

    def _definition(self, document: Document, want: Wanted) -> tuple[Definition, Sides]:
        try:
            definition = document.definition(self._options.flag)
        except ValueError as error:
            impossible(f"{self._file}: {error}")
        if definition.state == DISABLED and not self._options.disabled_variant:
            impossible(f"{self._options.flag} is disabled, and disabled_variant does not say what programs use then")
        named = [self._options.variants.get(version, version) for version in (want.coming, want.leaving)]
        for variant in named:
            if variant not in definition.variants:
                known = ", ".join(sorted(definition.variants))
                impossible(f"{self._options.flag} has no variant {variant!r} ({known})")
        if named[0] == named[1]:
            impossible(f"{want.coming!r} and {want.leaving!r} are the same variant")
        return definition, Sides(*named)

    def _wanted_definition(self, definition: Definition, sides: Sides, want: Wanted) -> Definition:
        options = self._options
        try:
            return wanted_definition(
                definition, sides, want.share, by=options.by, first=options.first, disabled=options.disabled_variant
            )
        except ValueError as error:
            impossible(str(error))

    def _parts(self, definition: Definition) -> Mapping[str, int] | None:
        return definition.parts(by=self._options.by, first=self._options.first, disabled=self._options.disabled_variant)

    # --- the running flagd --------------------------------------------------------------------------------

    def _is_served(self, want: Wanted, span: Span) -> bool:
        """Whether every flagd that is asked answers everybody alike; a share in between cannot be asked for."""
        if want.share < 1.0:
            return True
        variant = self._options.variants.get(want.coming, want.coming)
        return all(self._is_served_by(url, variant, span) for url in self._options.flagd_urls)

    def _is_served_by(self, url: str, variant: str, span: Span) -> bool:
        address = f"{url.rstrip('/')}/ofrep/v1/evaluate/flags/{quote(self._options.flag, safe='')}"
        body = json.dumps({"context": {"targetingKey": "deploy-watchdog"}}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "deploy-watchdog"}
        try:
            reply = exchange("POST", address, headers=headers, body=body, deadline_s=span.left())
        except (NotSentError, NoReplyError):
            return False
        return _is_for_everybody(reply, variant, disabled=variant == self._options.disabled_variant)


def _is_for_everybody(reply: Reply, variant: str, *, disabled: bool) -> bool:
    """No targeting was looked at. A disabled flag has no value to give: flagd says so, older ones do not find it."""
    try:
        said = json.loads(reply.body)
        if disabled and (reply.status == 404 or said.get("reason") == "DISABLED"):
            return True
        return reply.status == 200 and said.get("reason") == "STATIC" and said.get("variant") == variant
    except (ValueError, AttributeError, RecursionError):
        return False
