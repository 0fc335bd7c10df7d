"""Secrets come by the name of a variable or a file; they are never accepted in the TOML and never printed."""

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from watchdog.config import Config, config_digest, load, read_secret
from watchdog.errors import ConfigError

SECRET = "correct-horse-battery-staple"


class SlackOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    token_env: str = ""
    token_file: str = ""
    ca_file: str = ""
    headers: dict[str, str] = {}


def read(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Config:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(file, {"sources": {}, "hooks": {}, "sinks": {"slack": SlackOptions}}, env or {})


def refused(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text, env)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("[auth]", "webhook_secret"),
        ("[[auth.tokens]]\nname = 'ci'\nscopes = ['read']\ntoken_env = 'CI'", "token"),
        ("[sinks.team]\nkind = 'slack'", "token"),
        ("[sinks.team]\nkind = 'slack'", "password"),
        ("[sinks.team]\nkind = 'slack'", "api_key"),
        ("[daemon]", "client_secret"),
    ],
)
def test_an_inline_secret_is_refused_with_the_remedy(table: str, key: str, tmp_path: Path) -> None:
    """The sentence names the `_env` and `_file` keys, and does not repeat the secret."""
    said = refused(tmp_path, f"{table}\n{key} = '{SECRET}'\n", {"CI": "0123456789abcdef"})
    assert len(said) == 1
    assert f"name that in {key}_env, or in a file and name that in {key}_file" in said[0]
    assert SECRET not in said[0]


@pytest.mark.parametrize("broken", ["\n# the former one", "\r\nhorse", "\0", "\x1b[2J"])
def test_a_secret_of_several_lines_is_refused_and_not_repeated(tmp_path: Path, broken: str) -> None:
    """No header carries it, and the error of the first request would tell it to everybody."""
    file = tmp_path / "token"
    file.write_text(SECRET + broken + "x", newline="")
    file.chmod(0o600)
    for env_name, named in (("", "token"), ("TOKEN", "")):
        with pytest.raises(ConfigError, match="a line break or another control character") as raised:
            read_secret(env_name, named, {"TOKEN": SECRET + broken + "x"}, tmp_path)
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "pasted",
    [
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "xoxb-2345-abcdef",
        "ghp_0123456789abcdef",
        "glpat-0123456789",
        "Bearer abc.def",
        "https://hooks.slack.com/services/T0/B0/xyz",
        "https://user:hunter2@prometheus.example.com/",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_a_pasted_secret_is_recognised_wherever_it_stands(pasted: str, tmp_path: Path) -> None:
    """Even as the name of a variable or in a header; it must be revoked, and is not repeated."""
    text = f'[sinks.team]\nkind = "slack"\nheaders = {{ Authorization = "{pasted}" }}\ntoken_env = "{pasted}"\n'
    said = refused(tmp_path, text)
    assert [sentence.split(": ")[0] for sentence in said] == ["config.toml:3", "config.toml:4"]
    assert all("revoke this one" in sentence and pasted not in sentence for sentence in said)


def test_a_named_secret_must_be_there(tmp_path: Path) -> None:
    """Not set, empty, missing and empty files: all told at once, at the key that names them."""
    (tmp_path / "empty").touch(mode=0o600)
    create = "create it with only the secret in it"
    said = refused(
        tmp_path,
        "[auth]\nwebhook_secret_env = 'NOT_SET'\nwebhook_secret_previous_env = 'EMPTY'\n"
        "[[auth.tokens]]\nname = 'ci'\nscopes = ['read']\ntoken_file = 'empty'\n"
        "[sinks.team]\nkind = 'slack'\ntoken_file = 'nowhere'\n",
        {"EMPTY": " "},
    )
    assert [sentence.removeprefix("config.toml:") for sentence in said] == [
        "2: auth.webhook_secret_env: environment variable NOT_SET is not set; set it where the daemon starts",
        "3: auth.webhook_secret_previous_env: environment variable EMPTY is empty; set it where the daemon starts",
        f"7: auth.tokens.0.token_file: {tmp_path}/empty is empty; put the secret in it",
        f"10: sinks.team.token_file: cannot read {tmp_path}/nowhere: No such file or directory; {create}",
    ]


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """The remedy is the command to run; a file that only says where certificates are is not a secret."""
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "token").chmod(0o644)
    said = refused(tmp_path, "[sinks.team]\nkind = 'slack'\nca_file = 'token'\ntoken_file = 'token'\n")
    said = [one for one in said if ".ca_file: " not in one]  # that it is no certificate is said, and nothing else
    assert len(said) == 1
    assert f"sinks.team.token_file: {tmp_path}/token can be read by everybody; run: chmod 600" in said[0]


def test_a_secret_file_is_found_from_the_configuration(tmp_path: Path) -> None:
    """An adapter may read it wherever the daemon was started: its path is absolute by then."""
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "token").chmod(0o600)
    config = read(tmp_path, "[sinks.team]\nkind = 'slack'\ntoken_file = 'token'\n")
    options = config.sinks["team"].options
    assert isinstance(options, SlackOptions)
    secret = read_secret(options.token_env, options.token_file, {}, Path())
    assert secret is not None
    assert secret.get_secret_value() == SECRET


def test_reading_a_secret_never_waits(tmp_path: Path) -> None:
    """A pipe in the place of a file is refused instead of opened."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="no regular file"):
        read_secret("", "pipe", {}, tmp_path)
    with pytest.raises(ConfigError, match="keep one of the two"):
        read_secret("A", "b", {"A": "x"}, tmp_path)
    assert read_secret("", "", {}, tmp_path) is None


def test_secrets_are_nowhere_in_what_is_printed(tmp_path: Path) -> None:
    """Neither repr nor dump nor digest knows more than the secret's name."""
    text = "[auth]\nwebhook_secret_env = 'HOOK'\n[sinks.team]\nkind = 'slack'\ntoken_env = 'SLACK'\n"
    config = read(tmp_path, text, {"HOOK": SECRET, "SLACK": SECRET})
    other = read(tmp_path, text, {"HOOK": "another", "SLACK": "another"})
    assert SECRET not in f"{config!r} {config} {config.model_dump_json()}"
    assert config_digest(config) == config_digest(other)
    secret = read_secret("HOOK", "", {"HOOK": SECRET}, tmp_path)
    assert SECRET not in f"{secret!r} {secret}"
