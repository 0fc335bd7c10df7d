"""What config.toml may say about the pages to read."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.sources.questions import INSTANCE

_LABEL = r"^[a-zA-Z_][a-zA-Z0-9_]*$"


class ScrapeTarget(BaseModel):
    """One page, and what we know of the instance behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="address of the page, such as http://10.0.0.7:9100/metrics")
    labels: dict[Annotated[str, Field(pattern=_LABEL)], str] = Field(
        default_factory=dict, description='labels of all its series, such as { version = "v1", job = "shop" }'
    )

    @field_validator("url")
    @classmethod
    def _http_only(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("expected an http:// or https:// address without a password")
        return url

    @property
    def known(self) -> dict[str, str]:
        """The labels with the instance, which is host and port unless named."""
        return {INSTANCE: urlsplit(self.url).netloc, **self.labels}


class ScrapeOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: tuple[ScrapeTarget, ...] = Field(min_length=1, max_length=200, description="the pages to read")
    interval_s: float = Field(1.0, ge=0.05, le=300, description="seconds from one reading of a page to the next")
    timeout_s: float = Field(1.0, gt=0, le=60, description="time allowed for one page, connection included")
    keep_s: float = Field(1800.0, ge=60, le=86_400, description="how long readings are kept, for the time before")
    max_bytes: int = Field(5_000_000, ge=10_000, le=200_000_000, description="largest page that is read")
    births_per_s: float = Field(
        1000.0,
        gt=0,
        allow_inf_nan=False,
        description="events per second up to which the new counters of an instance count whole; with more, and with"
        " more than what went on, they bring their past along and are left out of that look",
    )
    ca_file: str = Field("", description="PEM bundle of the authority that signed the pages' certificates")
    max_series: int = Field(5_000, ge=10, le=100_000, description="most series on a page")
