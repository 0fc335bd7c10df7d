"""What config.toml may say about a Prometheus, and how we show who we are."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from watchdog.config import read_secret
from watchdog.sources.questions import INSTANCE


class PrometheusOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="address before /api/v1, such as http://prometheus:9090")
    username: str = Field("", description="basic authentication: the user; the password by password_env or _file")
    password_env: str = Field("", description="environment variable with the password")
    password_file: str = Field("", description="file with the password")
    token_env: str = Field("", description="environment variable with a bearer token")
    token_file: str = Field("", description="file with a bearer token; read again for every fetch, so it may rotate")
    ca_file: str = Field("", description="PEM bundle of the authority that signed the server's certificate")
    headers: dict[str, str] = Field(default_factory=dict, description="further headers, such as X-Scope-OrgID")
    compress: bool = Field(False, description="ask for gzip; saves bytes on slow links and costs the server time")
    instance_label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")] = Field(
        INSTANCE, description="label that names a replica, such as instance or pod"
    )
    max_in_flight: int = Field(8, ge=1, le=64, description="queries that may run at the same time")
    max_bytes: int = Field(5_000_000, ge=10_000, le=200_000_000, description="largest answer that is read")
    max_series: int = Field(
        5_000, ge=10, le=100_000, description="most series in an answer, for each look in it; sums are asked beyond"
    )
    births_per_s: float = Field(
        1000.0,
        gt=0,
        allow_inf_nan=False,
        description="events per second up to which the new counters of an instance count whole; with more, and with"
        " more than went on, it has merely come into sight and is left out for that look",
    )
    max_clock_skew_s: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="furthest its clock may be from ours; 0 never compares them"
    )
    allow_partial: bool = Field(False, description="judge answers that say themselves that something is missing")

    @field_validator("url")
    @classmethod
    def _http_only(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("expected an http:// or https:// address such as http://127.0.0.1:9090")
        if "@" in parts.netloc:
            raise ValueError("holds a password; use username with password_env or password_file")
        return url

    @field_validator("headers")
    @classmethod
    def _no_secret_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        if any(name.lower() in {"authorization", "cookie", "proxy-authorization"} for name in headers):
            raise ValueError("holds a secret; use token_env, token_file or username with password_env")
        return headers

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        token, password = self.token_env or self.token_file, self.password_env or self.password_file
        if token and (self.username or password):
            raise ValueError("both a token and a user with a password are named; keep one of the two")
        if bool(self.username) != bool(password):
            raise ValueError("username and password_env or password_file belong together")
        return self

    def authorization(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of every request; secrets are read anew, so that they may rotate (ConfigError)."""
        token = read_secret(self.token_env, self.token_file, env, Path())
        if token is not None:
            return {**self.headers, "Authorization": f"Bearer {token.get_secret_value()}"}
        password = read_secret(self.password_env, self.password_file, env, Path())
        if password is not None:
            pair = f"{self.username}:{password.get_secret_value()}".encode()
            return {**self.headers, "Authorization": f"Basic {b64encode(pair).decode()}"}
        return dict(self.headers)
