"""What others send: deploy events and webhooks, Prometheus' answers, the configuration, a hook's output."""

import hashlib
import hmac
import json
import math
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from standardwebhooks import Webhook

from analysis.result import Kind, MetricSpec
from tests.fuzz.target import Target
from tests.web_server import CURRENT, NOW, PREVIOUS
from watchdog.app import adapter_options
from watchdog.config import load
from watchdog.errors import ConfigError, RefusedError
from watchdog.hooks.http import _answer, _outcome
from watchdog.hooks.process import KEEP_BYTES, _Output
from watchdog.intake import DeployRequest
from watchdog.model import Metric
from watchdog.ports import ArmWindow, HookOutcome, HookResult, ProbeAnswer
from watchdog.selector import parse_selector
from watchdog.senders import SENDERS
from watchdog.sending import Arrived, Sender
from watchdog.signed_http import Reply
from watchdog.sources.fold import fold
from watchdog.sources.prometheus_answer import Moments, QueryError, read
from watchdog.sources.questions import Ask, Question, Role
from watchdog.standard_webhooks import Check, check, read_key, signed_headers
from watchdog.strict_json import JsonError, parse_object
from watchdog.web.body import read_model
from watchdog.web.errors import ApiError

ROOT = Path(__file__).parents[2]
_CUT = b"\x1e"  # between the parts of an input
_GITHUB_SECRET = "github-secret-of-the-fuzzer"
_PAYLOADS = {path.stem: path.read_bytes() for path in sorted((ROOT / "tests" / "payloads").glob("*.json"))}
_EVENT = b'{"id": "shop-42", "service": "shop", "version": "v42", "previous_version": "v41", "share": 0.1}'


# --- webhooks: nothing that we did not sign is believed, nothing breaks the reading ------------------------


def _senders() -> list[Sender]:
    env = {"GITHUB": _GITHUB_SECRET, "GITLAB": "gitlab-token-of-the-fuzzer"}
    options = {"github": {"secret_env": "GITHUB"}, "gitlab": {"secret_env": "GITLAB"}}
    return [kind(name, kind.Options(**options.get(name, {})), env) for name, kind in SENDERS.items()]


_SENDERS = _senders()
_KEYS = [read_key(CURRENT), read_key(PREVIOUS)]


def _signed(number: int, body: bytes) -> bytes:
    at = datetime.fromtimestamp(NOW, UTC)
    signature = Webhook(CURRENT.get_secret_value()).sign(f"msg_{number}", at, body.decode())
    github = "sha256=" + hmac.digest(_GITHUB_SECRET.encode(), body, hashlib.sha256).hex()
    return _CUT.join((f"msg_{number}".encode(), str(int(NOW)).encode(), signature.encode(), github.encode(), body))


_GENUINE = [_signed(n, body) for n, body in enumerate((_EVENT, *_PAYLOADS.values()))]
_OURS = {tuple(one.split(_CUT, 4)[i] for i in (0, 1, 4)) for one in _GENUINE}
_OUR_BODIES = {body for *_, body in _OURS}


def _webhook(data: bytes) -> None:
    parts = [*data.split(_CUT, 4), b"", b"", b"", b""]
    names = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
    sent = signed_headers(zip(names, parts[:3], strict=True))
    body = parts[4]
    if sent is not None and check(sent, body, _KEYS, now=NOW) is not Check.FORGED:
        assert (sent.id, sent.timestamp, body) in _OURS, "a forged deploy event is believed"
    headers = {"x-hub-signature-256": parts[3].decode("latin-1"), "x-github-event": "deployment_status"}
    headers |= {"ce-type": "dev.cdevents.service.deployed.0.2.0", "x-gitlab-event": "Deployment Hook"}
    with suppress(ApiError):
        read_model(DeployRequest, body)
    try:
        parse_object(body, depth=40)
    except JsonError:
        return
    for sender in _SENDERS:
        believed = sender.is_genuine(headers, body, now=NOW)
        assert not believed or body in _OUR_BODIES, f"a forged body is believed by {sender.kind}"
        for hook in sorted(sender.hooks) or [""]:
            try:
                sender.read(Arrived(headers=headers, body=body, hook=hook))
            except (RefusedError, ValidationError):
                continue


# --- Prometheus: no answer reaches a judge with a number that is none --------------------------------------

_METRICS = {
    Kind.RATIO: ("total", Ask.COUNT),
    Kind.LATENCY: ("histogram", Ask.BUCKETS),
    Kind.GAUGE: ("level", Ask.LEVEL),
}
_VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [
            {"metric": {"instance": "a:80", "code": "200", "le": "0.5"}, "value": [1000, "12"]},
            {"metric": {"instance": "b:80", "code": "500", "le": "+Inf"}, "value": [1000, "NaN"]},
        ],
    },
    "warnings": ["one shard did not answer"],
}
_MATRIX = {
    "status": "success",
    "isPartial": True,
    "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1000, "1"], [1005, "2"]]}]},
}
_SCALAR = {"status": "success", "data": {"resultType": "scalar", "result": [1000, "0.25"]}}


def _prometheus(data: bytes) -> None:
    for moments in (Moments(1_000_000), Moments(1_000_000, 5_000, 3)):
        try:
            answers, why = read(data, moments, 100), ""
        except QueryError as error:
            answers, why = [], str(error)
        assert len(why) < 400, "an error repeats what was sent without bound"
        if not answers:
            continue
        for kind, (role, ask) in _METRICS.items():
            of = Role(metric="m", name=role, ask=ask, selector=parse_selector("m"))
            question = Question(of, ArmWindow(arm="candidate", start=995.0, end=1000.0))
            metric = Metric(spec=MetricSpec(name="m", kind=kind), series={role: of.selector})
            cells = fold(metric, [(question, answers[0].series)], max_replicas=10)
            assert all(map(math.isfinite, cells.value)), "a number that is none reaches a cell"
            assert kind is Kind.GAUGE or all(map(math.isfinite, cells.total))


# --- the configuration: mistakes in words, each with a line that exists ------------------------------------

_ADAPTERS = adapter_options()
_FILE = Path(tempfile.mkdtemp(prefix="fuzz-")) / "config.toml"


def _config_corpus() -> list[bytes]:
    """Every table of the documented file by itself, so that an input is short."""
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    lines = [line.partition(" # ")[0].rstrip() for line in text.splitlines() if line and line[0] != "#"]
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("["):
            tables.append([])
        tables[-1].append(line)
    parts = ["\n".join(table) for table in tables if table]
    return ["\n".join(parts[i : i + 3]).encode() for i in range(0, len(parts), 2)]


def _config(data: bytes) -> None:
    _FILE.write_bytes(data)
    refused: ConfigError | None = None
    try:
        load(_FILE, _ADAPTERS, {})
    except ConfigError as error:
        refused = error
    if refused is not None:
        assert refused.problems
        for problem in refused.problems:
            assert problem.message
            assert problem.line is None or 1 <= problem.line <= data.count(b"\n") + 2


# --- a hook's output: printable, bounded, and never taken for an answer it is not --------------------------


def _hook_output(data: bytes) -> None:
    with _Output() as output:
        much = 1 + KEEP_BYTES // (len(data) + 1) if len(data) % 64 == 0 else 1  # rarely, for it takes long
        for piece in (data, data * much, data):
            output._keep(piece)
        text = output.text()
    assert len(text) <= 2 * KEEP_BYTES + 100
    assert all(c.isprintable() or c in "\n\t" for c in text), "a control character comes through"
    answer = _answer(Reply(status=200, headers={}, body=data))
    if answer is not ProbeAnswer.UNKNOWN:
        assert json.loads(data)["state"] == answer.value
    outcome = _outcome(Reply(status=len(data) % 1000, headers={}, body=data))
    assert HookResult(outcome=outcome, output=text).outcome in HookOutcome


WEBHOOK = Target(
    name="webhook",
    corpus=_GENUINE,
    check=_webhook,
    words=(_CUT, b'"service"', b'"version"', b"v1,", b"sha256=", b'"id": 1,', b'"deployed_at": 1e308'),
)
PROMETHEUS = Target(
    name="prometheus",
    corpus=[json.dumps(one).encode() for one in (_VECTOR, _MATRIX, _SCALAR)],
    check=_prometheus,
    words=(b'"value"', b'"values"', b'"matrix"', b'"scalar"', b'"string"', b'"+Inf"', b'"NaN"', b"1e400", b'"le"'),
)
CONFIG = Target(
    name="config",
    corpus=_config_corpus(),
    check=_config,
    words=(b"[services.shop]", b"[[services.shop.metrics]]", b'"', b"'''", b"=", b"inf", b"nan", b"[[", b"kind = 'x'"),
)
HOOK_OUTPUT = Target(
    name="hook-output",
    corpus=[
        b'{"state": "applied"}',
        b'{"state": "not_applied"}',
        b"restored\nto backup-17\n",
        b"\x1b[31mfailed\x1b[0m",
    ],
    check=_hook_output,
    words=(b'"moved_on"', b'"partial"', b"\x1b]0;x\x07", b"\xc2\x85", b"\xe2\x80\xa8"),
)
