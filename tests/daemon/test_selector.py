"""Series selectors: parsed, matched, rendered, never pasted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.selector import Matcher, Selector, parse_selector


def test_a_plain_name_is_a_selector() -> None:
    """No labels, no braces."""
    assert parse_selector(" up ") == Selector("up")
    assert parse_selector("up").render() == "up"


def test_all_four_operators_match_as_in_prometheus() -> None:
    """Regular expressions are anchored; a missing label is the empty string."""
    selector = parse_selector('requests{code=~"5..", route!~"/health.*", method="GET", zone!="a"}')
    hit = {"code": "503", "route": "/buy", "method": "GET"}
    assert selector.matches(hit)
    for change in ({"code": "5033"}, {"route": "/healthz"}, {"method": "POST"}, {"zone": "a"}):
        assert not selector.matches({**hit, **change})


@pytest.mark.parametrize(
    "text",
    ["", "5xx", "up{", "up{a}", 'up{a="b}', 'up{a=~"("}', 'up{a="b"} or vector(1)', "rate(up[5m])", 'up{a="b" c="d"}'],
)  # fmt: skip
def test_what_is_no_plain_selector_is_refused(text: str) -> None:
    """Functions, operators and broken quoting are not selectors."""
    with pytest.raises(ValueError, match=r"selector|metric name|expected|regular expression"):
        parse_selector(text)


@given(st.text(max_size=40))
def test_any_label_value_survives_rendering_and_parsing(value: str) -> None:
    """Whatever a version is called, it stays inside its quotes."""
    selector = Selector("up", (Matcher("version", "=", value),))
    if "\r" in value:
        return
    assert parse_selector(selector.render()) == selector


def test_an_injected_version_stays_a_label_value() -> None:
    """The classic attempt ends as plain text."""
    rendered = Selector("up").with_labels({"version": '"} or vector(1) or up{a="'}).render()
    assert rendered == 'up{version="\\"} or vector(1) or up{a=\\""}'
