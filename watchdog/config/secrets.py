"""Secrets come from the environment or from a file, never from config.toml, and are never printed."""

import os
import re
import ssl
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from watchdog.errors import ConfigError, Problem

Options = TypeVar("Options", bound=BaseModel)

_LARGEST_FILE = 65_536
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_KEY = re.compile(
    r"(?:^|_)(?:token|secret|password|passwd|passphrase|api_?key|private_key|credential|signing_key)s?$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"^whsec_|^xox[a-z]-|^xapp-|^gh[pousr]_|^github_pat_|^glpat-|^sk-|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|^(?:bearer|basic)\s+\S|hooks\.slack\.com/services/\w|^[a-z][a-z0-9+.-]*://[^/?#@\s]*:[^/?#@\s]+@",
    re.IGNORECASE,
)


def read_secret(env_name: str, file: str, env: Mapping[str, str], base: Path) -> SecretStr | None:
    """Return the secret named by an environment variable or a file, None where neither is named.

    Relative files are looked for beside the configuration (`base`). Raises ConfigError, with the remedy, where
    the secret is named and cannot be used.
    """
    if env_name and file:
        raise _refused(env_name, "named by an environment variable and by a file; keep one of the two")
    if env_name:
        return _from_environment(env_name, env)
    return _from_file(base / file) if file else None


def names_a_secret(key: str) -> bool:
    """Tell whether a key would hold a secret itself instead of naming where it is."""
    return _SECRET_KEY.search(key) is not None


def inline_secrets(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of all texts that look like a secret someone pasted."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from inline_secrets(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from inline_secrets(inner, (*path, index))
    elif isinstance(value, str) and _SECRET_VALUE.search(value):
        yield path


def secret_fields(options: BaseModel) -> list[str]:
    """Return every `<x>` that the options name a secret by, with a field `<x>_env` and one `<x>_file`."""
    stems = [name.removesuffix("_env") for name in type(options).model_fields if name.endswith("_env")]
    return [stem for stem in stems if f"{stem}_file" in type(options).model_fields]


def with_absolute_files(options: Options, base: Path) -> Options:
    """Return the options with the files they name found from `base`, wherever the daemon is started."""
    named = {key: getattr(options, key) for key in type(options).model_fields if key.endswith("_file")}
    return options.model_copy(update={key: str(base / file) for key, file in named.items() if file})


def unreadable_authority(file: str) -> str:
    """Why a PEM bundle of authorities cannot be used; empty where it can."""
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # what is no PEM is one too
        why = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        return f"cannot read {file}: {why}; name a PEM bundle of the authority that signed the server's certificate"
    return ""


def _from_environment(name: str, env: Mapping[str, str]) -> SecretStr:
    if not _ENV_NAME.fullmatch(name):  # perhaps the secret itself: it must not be repeated
        raise _refused("", "expected the name of an environment variable (letters, digits and _), not the secret")
    value = env.get(name, "").strip()
    if not value:
        state = "empty" if name in env else "not set"
        raise _refused(name, f"environment variable {name} is {state}; set it where the daemon starts")
    return _one_line(value, name, f"environment variable {name}")


def _from_file(path: Path) -> SecretStr:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(str(path), f"{path} is no regular file; name a file that holds only the secret")
        if status.st_mode & stat.S_IROTH:
            raise _refused(
                str(path), f"{path} can be read by everybody; run: chmod 600 {path} (Kubernetes: defaultMode: 0400)"
            )
        if status.st_size > _LARGEST_FILE:
            raise _refused(str(path), f"{path} has {status.st_size} bytes; expected a file that holds only the secret")
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is not text"
        raise _refused(str(path), f"cannot read {path}: {why}; create it with only the secret in it") from None
    if not value:
        raise _refused(str(path), f"{path} is empty; put the secret in it")
    return _one_line(value, str(path), str(path))


def _one_line(value: str, key: str, where: str) -> SecretStr:
    """No header can carry a line break, and the error of who tries would repeat the secret."""
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise _refused(key, f"{where} holds a line break or another control character; keep only the secret in it")
    return SecretStr(value)


def _refused(key: str, message: str) -> ConfigError:
    return ConfigError([Problem(file="secret", line=None, key=key, message=message)])
