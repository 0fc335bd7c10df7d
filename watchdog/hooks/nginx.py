"""Hook `nginx`: writes the file that shares the traffic out, tests it, reloads nginx, and asks the running one.

The file is this hook's own and included by nginx's configuration. A file that `nginx -t` refuses is taken back before
anything is reloaded; a reload that was begun and not seen to end is remembered, so that a crash is repaired, until
somebody else has written the file.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from watchdog.hooks import file_swap
from watchdog.hooks.former_file import FormerFile
from watchdog.hooks.process import Program, run
from watchdog.hooks.wanted_state import HookEndedError, Span, Wanted, WantedStateHook, impossible, unclear, wanted
from watchdog.hooks.weights import split
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer
from watchdog.signed_http import NoReplyError, NotSentError, OptionalAddress, exchange

OVERLAP_S = 0.5  # nginx starts new workers and 0.1 s later has the old ones stop; the rest is for a busy machine
MOST = 10_000  # nginx has no bound of its own; enough for 0.01 %
EVERY_OTHER = "*"
TEMPLATE = 'upstream {name} {\n{servers}}\nmap "" ${name}_state {\n    default {digest};\n}\n'
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SERVER = re.compile(r"[A-Za-z0-9.\[\]:_/-]+(?: [a-z_]+=[A-Za-z0-9.]+)*")
_IN_FILE = re.compile(r"^\s*server\s+(\S+?)((?:\s+[^;\s]+)*)\s*;", re.M)
_IN_SPLIT = re.compile(r"^\s*(\d+(?:\.\d+)?%|\*)\s+(\S+?)\s*;", re.M)


class NginxOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(
        min_length=1, description="The file this hook owns, which nginx's configuration includes in `http`."
    )
    upstream: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the upstream it writes.")
    servers: dict[str, tuple[str, ...]] = Field(
        description='Servers of a version, as in an upstream (host:port, unix:/path, "host:port max_fails=2"); those '
        'of "*" are for all other versions, with {version} in them. May be empty where `template` has {split}.'
    )
    template: str = Field(
        TEMPLATE,
        description="What is written: {name}, {servers} (the lines of an upstream) or {split} (those of "
        "split_clients), and {digest} (of the file) are filled in. Default: an upstream and a variable ${name}_state.",
    )
    nginx: tuple[str, ...] = Field(
        ("nginx",), min_length=1, description="How nginx is started, e.g. with -p or -c; -t and -s reload are added."
    )
    reload: tuple[str, ...] = Field(
        (), description='Program that reloads nginx, e.g. ["systemctl", "reload", "nginx"]. Empty: `nginx` -s reload.'
    )
    state_url: OptionalAddress = Field(
        "",
        description="Address where the running nginx answers with the digest (`return 200 $<upstream>_state;`), the "
        "only proof that it runs on the new file. Empty: the reload's exit code is believed.",
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="Longest time for all of it.")
    probe_timeout_s: float = Field(5.0, gt=0, le=600, description="The same for the probe.")

    @field_validator("servers")
    @classmethod
    def _plain_words(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for version, servers in value.items():
            if version != EVERY_OTHER and not _VERSION.fullmatch(version):
                raise ValueError(f"{version!r} is no version")
            for server in servers:
                if not _SERVER.fullmatch(server.replace("{version}", "v")):
                    raise ValueError(f"{server!r} is no server of an upstream")
        return value

    @field_validator("template")
    @classmethod
    def _shares_out(cls, value: str) -> str:
        if ("{servers}" in value) == ("{split}" in value):
            raise ValueError("the template must hold either {servers} or {split}")
        return value

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.state_url and "{digest}" not in self.template:
            raise ValueError("state_url needs a template with {digest}, which the running nginx answers with")
        return self


@dataclass(frozen=True)
class Reading:
    """What the file says: the parts of the traffic by version of the action, and of everybody else."""

    coming: float
    leaving: float
    others: float

    @property
    def share(self) -> float | None:
        both = self.coming + self.leaving
        return self.coming / both if both else None

    @property
    def is_moved_on(self) -> bool:
        return self.others > 0 and not self.coming and not self.leaving


class NginxHook(WantedStateHook):
    """One file, one nginx."""

    kind: ClassVar[str] = "nginx"

    Options: ClassVar[type[BaseModel]] = NginxOptions

    def __init__(self, name: str, options: NginxOptions, clock: Clock, env: Mapping[str, str], state_dir: Path) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        self._file = Path(options.file)
        self._programs_env = {key: env[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in env}
        # Kept from before the change until nginx is known to have loaded the new file.
        self._former = FormerFile(state_dir / f"{hashlib.sha256(str(self._file.resolve()).encode()).hexdigest()}.nginx")

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:
        want = wanted(call)
        content = self._render(want)
        with file_swap.only_us(self._file, span):
            present = file_swap.read(self._file)
            if self._reading(present, want).is_moved_on:
                impossible(f"{self._file} gives all the traffic to neither of the two: hands off")
            kept = self._former.before(present)
            former = present if kept is None else kept
            self._former.keep(former, present=present, fresh=content)
            file_swap.replace(self._file, content)
            try:
                self._load(former, content, span, lock)
            except HookEndedError as ended:
                if ended.outcome is HookOutcome.FAILED and kept is None:
                    self._former.forget()
                raise
            self._former.forget()
        return f"{want.coming} has a share of {want.share:g}, {want.leaving} the rest"

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        want = wanted(call)
        content = file_swap.read(self._file)
        reading = self._reading(content, want)
        if reading.is_moved_on:
            return ProbeAnswer.MOVED_ON
        target = self._reading(self._render(want), want).share
        if reading.share is None or target is None or abs(reading.share - target) > 1e-9:
            return ProbeAnswer.NOT_APPLIED
        return ProbeAnswer.APPLIED if self._is_in_force(content, span) else ProbeAnswer.PARTIAL

    def current_share(self, call: HookCall, span: Span) -> float | None:
        content = file_swap.read(self._file)
        return self._reading(content, wanted(call)).share if self._is_in_force(content, span) else None

    def hindrance(self, call: HookCall, span: Span) -> str | None:  # noqa: ARG002
        want = wanted(call)
        self._reading(file_swap.read(self._file), want)
        self._render(want)
        return None

    # --- the file -----------------------------------------------------------------------------------------

    def _servers(self, version: str) -> list[str]:
        """The version's servers, or its own name where the template splits by names."""
        if not _VERSION.fullmatch(version):
            impossible(f"{version!r} is no version that may stand in a file")
        if "{split}" in self._options.template:
            return [version]
        known = self._options.servers.get(version, self._options.servers.get(EVERY_OTHER, ()))
        if not known:
            impossible(f"no servers are configured for {version!r}")
        return [server.replace("{version}", version) for server in known]

    def _render(self, want: Wanted) -> bytes:
        coming, leaving = self._servers(want.coming), self._servers(want.leaving)
        if set(coming) & set(leaving):
            impossible(f"{want.coming!r} and {want.leaving!r} run on the same servers")
        if "{split}" in self._options.template:
            lines = _split_lines(want)
        else:
            lines = _server_lines(coming, leaving, want.share)
        text = self._options.template.replace("{name}", self._options.upstream)
        text = text.replace("{servers}", lines).replace("{split}", lines)
        return _with_digest(text)

    def _reading(self, content: bytes, want: Wanted) -> Reading:
        text = content.decode("utf-8", "replace")
        is_split = "{split}" in self._options.template
        parts = _parts_of_split(text) if is_split else _parts_of_upstream(text)
        if not parts:
            impossible(f"{self._file} does not say how the traffic is shared out")
        sides = [{server.split(" ")[0] for server in self._servers(v)} for v in (want.coming, want.leaving)]
        coming, leaving = (sum(part for server, part in parts.items() if server in side) for side in sides)
        return Reading(coming, leaving, sum(parts.values()) - coming - leaving)

    # --- the running nginx --------------------------------------------------------------------------------

    def _load(self, former: bytes, content: bytes, span: Span, lock: int) -> None:
        """Test and reload; a file that is refused, or that nginx cannot be told of, is taken back."""
        reload = self._options.reload or (*self._options.nginx, "-s", "reload")
        try:
            self._start((*self._options.nginx, "-t"), "nginx refused the file", span, lock)
            self._start(reload, "nginx was not reloaded", span, lock)
        except HookEndedError as ended:
            if ended.outcome is HookOutcome.FAILED:
                file_swap.replace(self._file, former)
            raise
        if self._options.state_url:
            # nginx took the file and was told of it. Should the proof not come, this one is the file to go back to.
            self._former.keep(content, present=content, fresh=content)
            self._outlast_old_workers(content, span)

    def _outlast_old_workers(self, content: bytes, span: Span) -> None:
        """Wait until nobody has answered with the former file for as long as old and new workers overlap."""
        last_old = self._clock.monotonic()
        while self._clock.monotonic() - last_old < OVERLAP_S:
            if not self._is_loaded(content, span):
                last_old = self._clock.monotonic()
            span.wait()

    def _start(self, argv: tuple[str, ...], what: str, span: Span, lock: int) -> None:
        program = Program(argv=argv, env=self._programs_env, fds=(lock,))
        try:
            ended = run(program, clock=self._clock, timeout_s=span.left(), grace_s=0.5)
        except (OSError, ValueError) as error:
            impossible(f"{what}: {argv[0]}: {error}")
        if ended.timed_out:
            unclear(f"{argv[0]} did not end in time")
        if ended.exit_code != 0:
            impossible(f"{what} (exit {ended.exit_code}): {ended.output.strip()[-2000:]}")

    def _is_in_force(self, content: bytes, span: Span) -> bool:
        """Whether no change of ours is open, and the running nginx says so too."""
        return self._former.before(content) is None and self._is_loaded(content, span)

    def _is_loaded(self, content: bytes, span: Span) -> bool:
        """Whether the running nginx answers with the file's digest; where it is not asked, believed."""
        if not self._options.state_url:
            return True
        try:
            reply = exchange("GET", self._options.state_url, headers={}, deadline_s=span.left())
        except (NotSentError, NoReplyError):
            return False
        return reply.status == 200 and reply.text.strip() == _digest_in(content)


def _split_lines(want: Wanted) -> str:
    percent = f"{want.share * 100:.2f}%"
    if want.share == 1.0:
        return f"    * {want.coming};\n"
    if percent == "0.00%":
        return f"    * {want.leaving};\n"
    return f"    {percent} {want.coming};\n    * {want.leaving};\n"


def _server_lines(coming: list[str], leaving: list[str], share: float) -> str:
    """One line for each server that shall have traffic; the others do not stand there, nginx has no weight 0."""
    try:
        ours, theirs = split(share, [1] * len(coming), [1] * len(leaving), most=MOST)
    except ValueError as error:
        impossible(str(error))
    pairs = zip((*coming, *leaving), (*ours, *theirs), strict=True)
    return "".join(f"    server {server} weight={weight};\n" for server, weight in pairs if weight)


def _parts_of_upstream(text: str) -> dict[str, float]:
    parts: dict[str, float] = {}
    for server, words in _IN_FILE.findall(text):
        given = dict(word.partition("=")[::2] for word in words.split())
        weight = given.get("weight", "1")
        if not given.keys() & {"down", "backup"} and weight.isdecimal():
            parts[server] = parts.get(server, 0.0) + int(weight)
    return parts


def _parts_of_split(text: str) -> dict[str, float]:
    named = [(word, None if part == "*" else float(part[:-1])) for part, word in _IN_SPLIT.findall(text)]
    rest = 100.0 - sum(part for _, part in named if part is not None)
    parts: dict[str, float] = {}
    for word, part in named:
        parts[word] = parts.get(word, 0.0) + (rest if part is None else part)
    return parts


def _with_digest(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return text.replace("{digest}", f"d{digest}").encode()


def _digest_in(content: bytes) -> str | None:
    found = re.search(rb"\bd[0-9a-f]{16}\b", content)
    return found[0].decode() if found else None
