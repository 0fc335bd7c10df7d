"""Prometheus series selectors as typed values: parsed once, matched by the scrape source, rendered by the
Prometheus source. Nothing from outside is ever pasted into a query."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\\n]|\\.)*)"\s*(,|$)')
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition; `op` is =, !=, =~ or !~ and regular expressions are anchored as in Prometheus."""

    label: str
    op: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        actual = labels.get(self.label, "")
        if self.op in ("=", "!="):
            return (actual == self.value) == (self.op == "=")
        return (re.fullmatch(self.value, actual) is not None) == (self.op == "=~")

    def render(self) -> str:
        return f'{self.label}{self.op}"{escape(self.value)}"'


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric name with label conditions, e.g. `http_requests_total{code=~"5.."}`."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(m.matches(labels) for m in self.matchers)

    def with_suffix(self, suffix: str) -> "Selector":
        return Selector(self.name + suffix, self.matchers)

    def with_labels(self, labels: Mapping[str, str]) -> "Selector":
        return Selector(self.name, self.matchers + tuple(Matcher(k, "=", v) for k, v in sorted(labels.items())))

    def with_matchers(self, *matchers: Matcher) -> "Selector":
        return Selector(self.name, self.matchers + matchers)

    def render(self) -> str:
        if not self.matchers:
            return self.name
        return self.name + "{" + ",".join(m.render() for m in self.matchers) + "}"


def escape(value: str) -> str:
    """Escape a label value for a double-quoted PromQL string."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse_selector(text: str) -> Selector:
    """Read `name` or `name{label="value", …}`.

    Raises
    ------
    ValueError
        Where the text is no plain series selector; the message says what was expected.
    """
    text = text.strip()
    head = _NAME.match(text)
    if head is None:
        raise ValueError(f"{text!r} does not start with a metric name")
    rest = text[head.end() :].strip()
    if not rest:
        return Selector(head.group())
    if not (rest.startswith("{") and rest.endswith("}")):
        raise ValueError(f'{text!r} is not a series selector; expected name{{label="value"}}')
    return Selector(head.group(), tuple(_parse_matchers(rest[1:-1].strip(), text)))


def _parse_matchers(body: str, text: str) -> list[Matcher]:
    matchers = []
    position = 0
    while position < len(body):
        found = _MATCHER.match(body, position)
        if found is None:
            raise ValueError(f'{text!r}: expected label="value" at {body[position : position + 20]!r}')
        label, op, raw, _ = found.groups()
        value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(0)), raw)
        if op in ("=~", "!~"):
            try:
                re.compile(value)
            except (re.error, OverflowError) as error:
                raise ValueError(f"{text!r}: {value!r} is not a regular expression ({error})") from None
        matchers.append(Matcher(label, op, value))
        position = found.end()
    return matchers


def is_label_name(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None
