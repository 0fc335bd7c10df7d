"""The Kubernetes API by plain HTTP: read, list, patch, each within the call's time. Why no client: docs/adr/0012.

Nothing is configured where the daemon runs in the cluster it changes: address, authority and token are those of its
service account. The token is read anew for each request, since the kubelet replaces it every hour.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchdog.config import read_secret
from watchdog.errors import ConfigError
from watchdog.hooks.json_api import answered, ask
from watchdog.hooks.wanted_state import Span, impossible
from watchdog.signed_http import OptionalAddress, Reply

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ApiOptions(BaseModel):
    """What config.toml may say about the cluster; shared by the hooks that change one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = Field(pattern=NAME, description="Namespace of the workload.")
    url: OptionalAddress = Field(
        "", description="Address of the API server, https://… Empty: that of the cluster we run in."
    )
    ca_file: str = Field(
        "", description="Authority that signed its certificate. Empty: the cluster's, or the system's."
    )
    token_env: str = Field("", description="Variable with the bearer token.")
    token_file: str = Field("", description="File with it. Empty: the service account's, in the cluster we run in.")
    version_label: str = Field(
        "app.kubernetes.io/version", min_length=1, description="Label of the pod template that says the version."
    )
    container: str = Field(
        "", description="Container whose image's tag says the version instead. Empty: the label says it."
    )
    timeout_s: float = Field(
        60.0, gt=0, le=600, description="Longest time for the change and for seeing its roll-out end, which may go on."
    )
    probe_timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time of the probe.")

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> "ApiOptions":
        parts = urlsplit(self.url)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and (self.token_env or self.token_file):
            raise ValueError("a token is sent by https only, or to this machine itself")
        return self


@dataclass(frozen=True)
class Api:
    """One cluster, as one service account sees it."""

    options: ApiOptions
    env: Mapping[str, str]

    def get(self, path: str, span: Span, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """An object or a list; ends the attempt where it cannot be had."""
        return answered(self._ask("GET", path, span, query or {}), path)

    def patch(self, path: str, kind: str, patch: Any, span: Span, *, dry_run: bool = False) -> dict[str, Any] | None:
        """The changed object; None where somebody else has changed it since (409)."""
        query = {"fieldManager": "deploy-watchdog", **({"dryRun": "All"} if dry_run else {})}
        reply = self._ask("PATCH", path, span, query, {"Content-Type": kind}, patch)
        return None if reply.status == 409 else answered(reply, path)

    def _ask(
        self,
        method: str,
        path: str,
        span: Span,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        change: Any = None,
    ) -> Reply:
        base, tls = self._place()
        url = f"{base}{path}" + (f"?{urlencode(query)}" if query else "")
        return ask(method, url, span, headers={**(headers or {}), **self._credentials()}, change=change, tls=tls)

    def _place(self) -> tuple[str, ssl.SSLContext | None]:
        """Where the API server is, and whose word on its identity counts."""
        url, authority = self.options.url.rstrip("/"), self.options.ca_file
        if not url:
            host, port = (self.env.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
            if not host:
                impossible("no url is configured, and this is not a pod: KUBERNETES_SERVICE_HOST is not set")
            url = f"https://{f'[{host}]' if ':' in host else host}:{port or 443}"
            authority = authority or str(SERVICE_ACCOUNT / "ca.crt")
        if not url.startswith("https:"):
            return url, None
        try:
            return url, ssl.create_default_context(cafile=authority or None)
        except OSError as error:
            impossible(f"{authority}: {error}")

    def _credentials(self) -> dict[str, str]:
        options = self.options
        try:
            secret = read_secret(options.token_env, options.token_file, self.env, Path())
            # Who is in the pod may read it, whatever its mode: the kubelet writes it so that any user of the pod can.
            is_pods = secret is None and not options.url
            token = (SERVICE_ACCOUNT / "token").read_text().strip() if is_pods else ""
        except (ConfigError, OSError, ValueError) as error:
            impossible(f"no token: {error}")
        token = secret.get_secret_value() if secret is not None else token
        return {"Authorization": f"Bearer {token}"} if token else {}


def collection(group: str, namespace: str, resource: str, *names: str) -> str:
    """Path of a resource, or of one object (and its subresource)."""
    return "/".join(["/apis", group, "namespaces", *(quote(part, safe="") for part in (namespace, resource, *names))])


def selector(labels: Mapping[str, str]) -> dict[str, str]:
    """The query for objects with these labels, nothing where there are none."""
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))} if labels else {}


def items(answer: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The objects of a list."""
    found = answer.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
