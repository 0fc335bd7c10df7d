"""Prometheus series selectors as typed values: parsed once, matched by the scrape source, rendered by the
Prometheus source. Nothing from outside is ever pasted into a query."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TEXT = r'"((?:[^"\\\n]|\\.)*)"'
_MATCHER = re.compile(rf"\s*(?:([a-zA-Z_][a-zA-Z0-9_]*)|{_TEXT})\s*(=~|!~|!=|=)\s*{_TEXT}\s*(,|$)")
_QUOTED_NAME = re.compile(rf"\s*{_TEXT}\s*(,|$)")  # Prometheus 3: {{"http.server.request.duration", code="200"}}
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
        return f'{label_name(self.label)}{self.op}"{escape(self.value)}"'


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
        matchers = [m.render() for m in self.matchers]
        if _NAME.fullmatch(self.name) is None:
            return "{" + ",".join([f'"{escape(self.name)}"', *matchers]) + "}"
        return self.name + "{" + ",".join(matchers) + "}" if matchers else self.name


def label_name(name: str) -> str:
    """A label's name as a query writes it: one that Prometheus 2 would not know is quoted, as Prometheus 3 asks."""
    return name if is_label_name(name) else f'"{escape(name)}"'


def escape(value: str) -> str:
    """Escape a label value for a double-quoted PromQL string."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse_selector(text: str) -> Selector:
    """Read `name`, `name{label="value", …}` or, for names that need it, `{"the.name", label="value", …}`.

    Raises
    ------
    ValueError
        Where the text is no plain series selector; the message says what was expected.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        return _parse_quoted(text)
    head = _NAME.match(text)
    if head is None:
        raise ValueError(f"{text!r} does not start with a metric name")
    rest = text[head.end() :].strip()
    if not rest:
        return Selector(head.group())
    if not (rest.startswith("{") and rest.endswith("}")):
        raise ValueError(f'{text!r} is not a series selector; expected name{{label="value"}}')
    return Selector(head.group(), tuple(_parse_matchers(rest[1:-1].strip(), text)))


def _parse_quoted(text: str) -> Selector:
    body = text[1:-1].strip()
    head = _QUOTED_NAME.match(body)
    if head is None or not head[1]:
        raise ValueError(
            f'{text!r} does not start with a metric name in quotes; expected {{"the.name", label="value"}}'
        )
    return Selector(_unescaped(head[1]), tuple(_parse_matchers(body[head.end() :].strip(), text)))


def _unescaped(raw: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(0)), raw)


def _parse_matchers(body: str, text: str) -> list[Matcher]:
    matchers = []
    position = 0
    while position < len(body):
        found = _MATCHER.match(body, position)
        if found is None:
            raise ValueError(f'{text!r}: expected label="value" at {body[position : position + 20]!r}')
        plain, quoted, op, raw, _ = found.groups()
        label, value = plain if plain is not None else _unescaped(quoted), _unescaped(raw)
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
