"""Nouns survive the way to text and back, to the last bit."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.prepare import Cells, LookFacts
from analysis.result import Design, Direction, Evidence, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind
from tests.samples import a_plan, a_watch
from watchdog.ledger.encode import dumps, loads, to_json
from watchdog.model import AuditEntry, Deploy, Message, MessageKind, Metric, Plan, Severity, Strategy
from watchdog.selector import Matcher, Selector

TEXT = st.text(max_size=12)
NUMBER = st.floats()  # NaN, infinities, subnormals and negative zero included
REAL = st.floats(allow_nan=False)
MAYBE = st.none() | REAL
COUNT = st.integers(-(2**53), 2**53)
NAMES = st.tuples() | st.tuples(TEXT) | st.tuples(TEXT, TEXT, TEXT)
VALUE = st.recursive(
    st.none() | st.booleans() | COUNT | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def cells_of(size: int) -> st.SearchStrategy[Cells]:
    words = st.lists(TEXT, min_size=size, max_size=size).map(tuple)
    numbers = st.lists(NUMBER, min_size=size, max_size=size).map(tuple)
    return st.builds(Cells, arm=words, replica=words, stratum=words, le=numbers, value=numbers, total=numbers)


CELLS = st.integers(0, 5).flatmap(cells_of)
SELECTOR = st.builds(Selector, TEXT, st.lists(st.builds(Matcher, TEXT, TEXT, TEXT), max_size=2).map(tuple))
SPEC = st.builds(
    MetricSpec, name=TEXT, kind=st.sampled_from(Kind), direction=st.sampled_from(Direction), unit=TEXT,
    margin=MAYBE, floor=MAYBE, weight=NUMBER, critical=st.booleans(), slo_le=MAYBE, slower_by=MAYBE,
)  # fmt: skip
PLAN = st.builds(
    Plan,
    design=st.sampled_from(Design),
    source=TEXT,
    metrics=st.lists(
        st.builds(
            Metric, spec=SPEC, series=st.dictionaries(TEXT, SELECTOR, max_size=2), promql=st.none() | TEXT, by=NAMES
        ),
        max_size=2,
    ).map(tuple),
    judge=st.builds(JudgeSettings, budget=REAL, planned_looks=COUNT, placebo_rate=MAYBE),
    step_s=REAL,
    settle_s=REAL,
    watch_s=REAL,
    selector_labels=st.dictionaries(TEXT, TEXT, max_size=2),
    rollback_hook=st.none() | TEXT,
)
DEPLOY = st.builds(
    Deploy, id=TEXT, service=TEXT, environment=TEXT, version=TEXT, previous_version=st.none() | TEXT,
    strategy=st.sampled_from(Strategy), deployed_at=REAL, received_at=REAL, share=MAYBE,
    instances=st.dictionaries(TEXT, NAMES, max_size=2),
)  # fmt: skip
EVIDENCE = st.builds(
    Evidence, metric=TEXT, method=TEXT, log_evidence=NUMBER, log_threshold=NUMBER,
    path=st.lists(NUMBER, max_size=4).map(tuple), effect=NUMBER, n_baseline=NUMBER, since_look=st.none() | COUNT,
)  # fmt: skip
VERDICT = st.builds(
    Verdict, kind=st.sampled_from(VerdictKind), reason=st.none() | st.sampled_from(Reason), metric=st.none() | TEXT,
    look=COUNT, alarm_look=st.none() | COUNT, log_evidence=NUMBER, log_threshold=NUMBER, sentence=TEXT,
    evidence=st.lists(EVIDENCE, max_size=2).map(tuple), notes=NAMES,
)  # fmt: skip
MESSAGE = st.builds(
    Message, key=TEXT, watch_id=TEXT, kind=st.sampled_from(MessageKind), severity=st.sampled_from(Severity),
    sentence=TEXT, facts=st.dictionaries(TEXT, VALUE, max_size=3),
)  # fmt: skip
ENTRY = st.builds(
    AuditEntry, at=REAL, watch_id=st.none() | TEXT, actor=TEXT, event=TEXT, details=st.dictionaries(TEXT, VALUE)
)


def bits(value: object) -> object:
    """The value with every float as its bytes, so that NaN equals NaN and -0.0 differs from 0.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, tuple | list):
        return [bits(item) for item in value]
    if isinstance(value, Mapping):
        return {key: bits(item) for key, item in value.items()}
    if is_dataclass(value):
        return type(value), {f.name: bits(getattr(value, f.name)) for f in fields(value)}
    return type(value), value


@given(noun=st.one_of(CELLS, PLAN, DEPLOY, VERDICT, MESSAGE, ENTRY))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_noun_reads_back_bit_for_bit(noun: object) -> None:
    """Types, tuples, NaN, infinities and negative zero come back as they were."""
    assert bits(loads(type(noun), dumps(noun))) == bits(noun)


@given(noun=st.one_of(PLAN, VERDICT, ENTRY))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_one_noun_has_one_text(noun: object) -> None:
    """Reading and writing again gives the same text: digests and the audit's hashes depend on it."""
    text = dumps(noun)
    assert dumps(loads(type(noun), text)) == text
    json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity: any JSON reader can read it


def test_absent_and_unknown_numbers_stay_apart() -> None:
    """Null is NaN where a number is due, and None where it may be missing."""
    spec = loads(MetricSpec, dumps(MetricSpec(name="m", kind=Kind.GAUGE, weight=math.nan, margin=None)))
    assert math.isnan(spec.weight)
    assert spec.margin is None


def test_numpy_numbers_are_stored_as_numbers() -> None:
    """The judge may leave numpy scalars in a verdict; they keep their value."""
    numpy = pytest.importorskip("numpy")
    assert to_json((numpy.float64(0.1), numpy.int64(7), numpy.float64("nan"))) == [0.1, 7, None]


def test_a_field_added_later_takes_its_default() -> None:
    """Rows written before a noun grew a field are read with that field's default."""
    stored = json.loads(dumps(LookFacts(baseline_up=3)))
    del stored["detail"]
    assert loads(LookFacts, json.dumps(stored)) == LookFacts(baseline_up=3)


@pytest.mark.parametrize(
    "change",
    [
        {"from_the_future": 1},
        {"design": "sideways"},
        {"step_s": "fast"},
        {"metrics": {}},
        {"selector_labels": []},
        {"source": 3},
        {"baseline_looks": 1.5},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object]) -> None:
    """Unknown fields and wrong types are never guessed at."""
    stored = json.loads(dumps(a_plan())) | change
    with pytest.raises((ValueError, TypeError)):
        loads(Plan, json.dumps(stored))


def test_a_needed_field_that_is_missing_is_refused() -> None:
    """A noun without one of its required fields is damage."""
    stored = json.loads(dumps(a_watch().deploy))
    del stored["service"]
    with pytest.raises(ValueError, match="no Deploy"):
        loads(Deploy, json.dumps(stored))


def test_what_cannot_be_stored_is_refused() -> None:
    """An object that is no value raises instead of being stored as its repr."""
    with pytest.raises(TypeError, match="object cannot be stored"):
        dumps({"thing": object()})
