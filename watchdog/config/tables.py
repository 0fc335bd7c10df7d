"""The tables of config.toml but for services and metrics. A description is what the annotated file says of the key."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SerializeAsAny, StringConstraints

from analysis.result import JudgeSettings
from watchdog.config.listen import Listen, PublicUrl
from watchdog.config.section import Count, Flag, Mistake, Name, Number, Seconds, SecondsOrZero, Section

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    TRIGGER = "trigger"
    APPROVE = "approve"
    ROLLBACK = "rollback"
    LABEL = "label"
    ADMIN = "admin"


class DaemonConfig(Section):
    """The process itself."""

    listen: Listen = Field("127.0.0.1:8811", description="address:port of the API and the status pages")
    ledger: Text = Field("watchdog.db", description="SQLite file, or postgresql://USER@HOST/DATABASE for replicas")
    ledger_password_env: str = Field("", description="environment variable with PostgreSQL's password")
    ledger_password_file: str = Field("", description="file with PostgreSQL's password")
    public_url: PublicUrl = Field("", description="where people reach the status pages, for links in messages")
    traces: Literal["off", "otlp"] = Field("off", description="whether spans go to a collector, by OTLP")
    tick_s: Number = Field(1.0, gt=0, le=60, description="seconds between two rounds over the due watches")
    lease_s: Seconds = Field(15.0, description="seconds that a round may hold a watch")
    judges: int = Field(0, ge=0, le=64, description="processes that judge; 0: the daemon's own")
    fetch_deadline_s: Seconds = Field(5.0, description="seconds a source may take for one round, all queries together")

    @property
    def is_shared(self) -> bool:
        """Tell whether several daemons may use the ledger."""
        return self.ledger.startswith(("postgresql://", "postgres://"))

    def mistakes(self) -> list[Mistake]:
        found = list(self._ledger_mistakes())
        if self.lease_s <= self.fetch_deadline_s + self.tick_s:
            least = self.fetch_deadline_s + self.tick_s
            found += [Mistake(("lease_s",), f"expected more than fetch_deadline_s + tick_s = {least:g}, or a slow "
                                            "source makes the daemon lose its own watches")]  # fmt: skip
        return found

    def _ledger_mistakes(self) -> Iterator[Mistake]:
        named = [key for key in ("ledger_password_env", "ledger_password_file") if getattr(self, key)]
        if len(named) > 1:
            yield Mistake((named[0],), f"expected only one of {' and '.join(named)}")
        if named and not self.is_shared:
            yield Mistake((named[0],), "is of use only where ledger is postgresql://USER@HOST/DATABASE")
        if self.is_shared and "password=" in self.ledger.partition("?")[2]:
            yield Mistake(("ledger",), "holds a password; expected it in ledger_password_env, ledger_password_file or "
                                       "PGPASSFILE")  # fmt: skip


class TokenConfig(Section):
    """One bearer token of the API."""

    name: Name = Field(description="who the token stands for; written to the audit")
    token_env: str = Field("", description="environment variable that holds the token")
    token_file: str = Field("", description="file that holds the token")
    token_previous_env: str = Field("", description="the former token, still accepted during a rotation")
    token_previous_file: str = Field("", description="the former token, in a file")
    scopes: tuple[Scope, ...] = Field((), description="what it may do: read trigger approve rollback admin")
    services: tuple[Text, ...] = Field(("*",), min_length=1, description='services it is good for; ["*"] is all')

    def mistakes(self) -> list[Mistake]:
        found = []
        if bool(self.token_env) == bool(self.token_file):
            found.append(Mistake(("token_env",), "expected exactly one of token_env and token_file"))
        if self.token_previous_env and self.token_previous_file:
            told = "expected only one of token_previous_env and token_previous_file"
            found.append(Mistake(("token_previous_env",), told))
        if not self.scopes:
            found.append(Mistake(("scopes",), f"is empty; expected some of {', '.join(Scope)}"))
        return found


class AuthConfig(Section):
    """Who may talk to the API. With nothing set, only loopback is served."""

    webhook_secret_env: str = Field("", description="environment variable with the Standard Webhooks secret whsec_…")
    webhook_secret_file: str = Field("", description="file with the Standard Webhooks secret whsec_…")
    webhook_secret_previous_env: str = Field("", description="the former secret, still accepted during a rotation")
    webhook_secret_previous_file: str = Field("", description="the former secret, in a file")
    tokens: tuple[TokenConfig, ...] = Field((), description="bearer tokens")

    @property
    def has_secret(self) -> bool:
        """Tell whether anybody can be told from anybody else."""
        return bool(self.webhook_secret_env or self.webhook_secret_file or self.tokens)

    def mistakes(self) -> list[Mistake]:
        found = []
        for key in ("webhook_secret", "webhook_secret_previous"):
            if getattr(self, f"{key}_env") and getattr(self, f"{key}_file"):
                found += [Mistake((f"{key}_env",), f"expected only one of {key}_env and {key}_file")]
        names = [token.name for token in self.tokens]
        for index, name in enumerate(names):
            if name in names[:index]:
                found.append(
                    Mistake(("tokens", index, "name"), f"a second token is named {name!r}; expected one name each")
                )
        return found


class JudgeConfig(Section):
    """How verdicts are reached. `[services.X.judge]` overrides single keys for one service."""

    budget: Number = Field(0.01, gt=0, le=0.2, description="chance that a healthy deploy is ever called DEGRADED")
    margin: Number = Field(0.25, gt=0, le=10, description="relative worsening tolerated before acting")
    margin_tell: Number = Field(0.10, gt=0, le=10, description="relative worsening worth telling")
    min_looks: Count = Field(6, ge=1, le=10_000, description="looks that HEALTHY needs at least")
    absent_looks: Count = Field(3, ge=1, le=10_000, description="looks in a row that must prove the candidate absent")
    judge_absence: Flag = Field(True, description="whether an absent candidate counts as DEGRADED")
    placebo_rate: Number | None = Field(
        None, ge=0, lt=1, description="measured false-rollback rate of before/after verdicts"
    )
    warm_up_looks: Count = Field(0, ge=0, le=10_000, description="looks after the deploy that are not judged")
    start_up_looks: Count = Field(3, ge=0, le=10_000, description="first looks in which latency is not judged")
    seen_ratio: Number = Field(5.0, gt=1, description="HEALTHY claims: a regression this large would have been seen")

    def mistakes(self) -> list[Mistake]:
        if self.margin_tell > self.margin:
            return [Mistake(("margin_tell",), f"expected at most margin = {self.margin:g}: acting comes after telling")]
        return []

    def overridden_by(self, other: "JudgeOverrides | None") -> "JudgeConfig":
        """Return these settings with the keys that `other` sets itself."""
        return self if other is None else self.model_copy(update=other.model_dump(exclude_unset=True))

    def settings(self, *, planned_looks: int, act_uncalibrated: bool = False) -> JudgeSettings:
        """Return what the core is given for one watch."""
        return JudgeSettings(
            **self.model_dump(),
            guess_absence=False,
            planned_looks=planned_looks,
            act_uncalibrated=act_uncalibrated,
        )


class JudgeOverrides(JudgeConfig):
    """Single keys of [judge] for one service. They are weighed together with [judge], not by themselves."""

    def mistakes(self) -> list[Mistake]:
        return []


class PolicyConfig(Section):
    """When a verdict may become an action."""

    cool_down_s: SecondsOrZero = Field(3600.0, description="seconds after a rollback in which the next one is held")
    breaker_rollbacks: Count = Field(3, ge=1, le=1000, description="rollbacks of all services after which all are held")
    breaker_share: Number = Field(0.30, gt=0, le=1, description="or this share of the active watches, of ten and more")
    breaker_window_s: Seconds = Field(1800.0, description="seconds in which so many rollbacks are too many")
    bad_target_s: SecondsOrZero = Field(
        86400.0, description="seconds a version rolled back or found worse is no way back"
    )
    hold_s: Seconds = Field(7200.0, description="seconds a HELD watch waits for a human before it ends, loudly")
    verify_s: Seconds = Field(60.0, description="seconds the metrics have to recover after a rollback")
    retries: Count = Field(3, ge=0, le=20, description="attempts of a hook that failed surely without effect")


class AdapterConfig(Section):
    """One source, hook or sink: its kind and, typed, that kind's options."""

    kind: str = Field(description="which adapter")
    options: SerializeAsAny[BaseModel]
