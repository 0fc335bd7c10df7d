"""What we write with others' words in it: PromQL, Slack, HTML; and the audit, which nobody may rewrite."""

import json
import re
from dataclasses import asdict, replace
from functools import cache
from html.parser import HTMLParser
from random import Random

from tests.fuzz.target import Target
from tests.samples import a_deploy
from watchdog.errors import LedgerError
from watchdog.ledger.chain import GENESIS, ChainedEntry, hash_entry, verify_chain
from watchdog.ledger.rows import audit_row, to_chained
from watchdog.model import AuditEntry, Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.selector import Matcher, Selector
from watchdog.sinks.slack_message import render
from watchdog.sources.promql import any_instance, any_of
from watchdog.web.rendering import templates

_SPOTS = (b"shop", b"v42", b'"} or vector(1) #', b".*|(", b"10.0.0.1:80", b"<b>x</b>", b"<!channel>", b"*bold* _it_")
_WORDS = (
    b'"}',
    b"\\",
    b"\\n",
    b"|",
    b".*",
    b"#",
    b"<script>",
    b"&amp;",
    b"<!here>",
    b"{{",
    b"{%",
    b"javascript:",
    b"'",
)


def _text(data: bytes) -> str:
    return data[:400].decode("utf-8", "replace")


# --- PromQL: the same tokens whatever the values are, and each value means itself --------------------------

_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"', re.DOTALL)
_UNQUOTED = {"\\": "\\", '"': '"', "n": "\n"}


def _promql(data: bytes) -> None:
    first, _, second = _text(data).partition(" ")
    values = [first, second, first + second]
    query = _query(values)
    literals = _STRING.findall(query)
    assert _STRING.sub("S", query) == _STRING.sub("S", _query(["a", "b", "c"])), "a value changes the query's shape"
    meant = [re.sub(r"\\(.)", lambda m: _UNQUOTED[m[1]], one, flags=re.DOTALL) for one in literals]
    assert meant[0] == first
    assert meant[1] == second
    for regex, wanted in ((meant[2], {first, second}), (meant[3], {first + second})):
        assert all(re.fullmatch(regex, value, re.DOTALL) for value in wanted), "a value does not match itself"
        assert re.fullmatch(regex, f"{first}x{second}y", re.DOTALL) is None, "a value matches others"


def _query(values: list[str]) -> str:
    first, second, third = values
    equal = Selector("m", (Matcher("version", "=", first),)).with_labels({"service": second})
    either = any_of("version", [first, f"{second}"] if first != second else [first, f"{second}\n"])
    instances = any_instance("instance", [third])
    return f"sum by (code) (increase({equal.render()}[5m])) / {Selector('m', (either, instances)).render()}"


# --- Slack and HTML: text stays text -----------------------------------------------------------------------


def _told(text: str) -> Delivery:
    deploy = replace(a_deploy(), service=text, version=text, previous_version=text, environment=text)
    facts = {"service": text, "version": text, "state": "HELD", "url": text, "seen": [text], "worth_knowing": [text]}
    message = Message(key="k", watch_id=text, kind=MessageKind.HELD, severity=Severity.PAGE, sentence=text, facts=facts)
    return Delivery(message=message, deploy=deploy, state=State.HELD, thread={})


class _Shape(HTMLParser):
    """Elements with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[object] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, sorted(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")


@cache
def _page():  # type: ignore[no-untyped-def]
    return templates().from_string(
        '<h1 title="{{ text }}">{{ text }}</h1>{% include "refused.html" %}<a href="/deploys/{{ text|segment }}">x</a>'
    )


def _html(text: str) -> list[object]:
    model = {"text": text, "message": text, "remedy": text, "onward": None, "actor": None, "seal": None}
    return _Shape(_page().render(model)).found


_HARMLESS = _html("word")


def _rendering(data: bytes) -> None:
    text = _text(data)
    message = render(_told(text))
    for block in message.blocks:
        _slack_is_text(block)
    sent = json.dumps({"text": message.text, "blocks": message.blocks})
    assert len(message.blocks) <= 50
    assert len(sent) < 60_000
    assert "<!" not in message.text
    assert _html(text) == _HARMLESS, "a text becomes markup"


def _slack_is_text(block: object) -> None:
    """No mention, no link of others: angle brackets are only those of our own links."""
    if isinstance(block, dict):
        if block.get("type") == "mrkdwn":
            told = str(block["text"])
            assert not re.search(r"<[!@#]", told), "somebody is mentioned"
            assert len(told) <= 3000
        for part in block.values():
            _slack_is_text(part)
    elif isinstance(block, list):
        for part in block:
            _slack_is_text(part)


# --- the audit: whatever is changed is found, or cannot be read --------------------------------------------


def _chain() -> list[ChainedEntry]:
    found: list[ChainedEntry] = []
    for number in range(1, 6):
        entry = AuditEntry(
            at=1.7e9 + number, watch_id="d1", actor="daemon", event="action.applied", before="RUNNING",
            after="VERIFYING", why=f"attempt {number}", details={"fence": number, "look": 3},
        )  # fmt: skip
        last = found[-1].hash if found else GENESIS
        found.append(ChainedEntry(id=number, entry=entry, prev_hash=last, hash=hash_entry(entry, last)))
    return found


_CHAIN = _chain()
_HEAD = _CHAIN[-1].hash
_ROWS = [{"id": one.id, **audit_row(one.entry, one.prev_hash, one.hash)} for one in _CHAIN]
_MEANT = [asdict(one) | {"id": 0} for one in _CHAIN]


def _audit(data: bytes) -> None:
    try:
        rows = [json.loads(line) for line in data.split(b"\n") if line]
    except (ValueError, RecursionError):
        return
    if not all(isinstance(row, dict) and "id" in row for row in rows):
        return
    try:
        chain = [to_chained(row) for row in rows]
    except LedgerError:
        return
    numbers = [one.id for one in chain]
    rising = all(n > 0 for n in numbers) and numbers == sorted(set(numbers))
    if [asdict(one) | {"id": 0} for one in chain] == _MEANT and rising:  # a gap between numbers is no change
        return
    assert verify_chain(chain, head=_HEAD).problem, "a changed audit passes for the one that was written"


def _audit_corpus() -> list[bytes]:
    lines = [json.dumps(row).encode() for row in _ROWS]
    swapped = Random(1).sample(lines, len(lines))
    return [b"\n".join(part) for part in (lines, lines[:-1], lines[1:], [*lines, lines[-1]], swapped)]


PROMQL = Target(name="promql", corpus=_SPOTS, check=_promql, words=_WORDS)
RENDERING = Target(name="rendering", corpus=_SPOTS, check=_rendering, words=_WORDS)
AUDIT = Target(
    name="audit", corpus=_audit_corpus(), check=_audit, words=(b"\n", b'"details"', b'"hash"', GENESIS.encode(), b"1.0")
)
