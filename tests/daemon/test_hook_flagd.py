"""The hook `flagd`: what stands in the file afterwards, what it leaves alone, and that flagd's own rules agree."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from pydantic import ValidationError

from tests.flag_file import FLAG, OTHERS, flag_in, fractional, ofrep, written
from tests.hook_calls import promote, rollback, switch
from watchdog.clock import SystemClock
from watchdog.hooks import file_swap
from watchdog.hooks.flag_definition import Definition, Document, Sides, wanted_definition
from watchdog.hooks.flagd import FlagdHook, FlagdOptions
from watchdog.ports import HookOutcome, ProbeAnswer

STAFF = {"$ref": "staff"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "flags.json", targeting=fractional(("v2", 10), ("v1", 90)))


def a_hook(file: Path, **options: Any) -> FlagdHook:
    options = {"file": str(file), "flag": FLAG, "timeout_s": 1.0, "probe_timeout_s": 0.5, **options}
    return FlagdHook("flag", FlagdOptions(**options), SystemClock(), {}, file.parent / "state")


def drawn(file: Path, people: int = 10_000, **attributes: Any) -> Counter[str]:
    """Who gets what, by the evaluator of the OpenFeature project."""
    core = FlagdCore()
    core.set_flags(file.read_text())
    contexts = (EvaluationContext(f"visitor-{n}", attributes) for n in range(people))
    return Counter(core.resolve_string_value(FLAG, "default", context).value for context in contexts)


def test_off_is_the_old_variant_for_everybody(file: Path) -> None:
    """No targeting is left, the probe agrees, and a second run finds it done."""
    hook = a_hook(file)
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.NOT_APPLIED, 0.9)
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert flag_in(file) == {
        "state": "ENABLED",
        "variants": {"v1": "old", "v2": "new", "v3": "newer"},
        "defaultVariant": "v1",
    }
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
    before = file.stat().st_mtime_ns
    assert hook.run(rollback(2)).outcome is HookOutcome.OK
    assert file.stat().st_mtime_ns == before


def test_the_rest_of_the_file_stays_as_it_is(file: Path) -> None:
    """Other flags, shared rules, their order and the file's mode."""
    file.chmod(0o640)
    before = json.loads(file.read_text())
    assert a_hook(file).run(switch()).outcome is HookOutcome.OK
    after = json.loads(file.read_text())
    assert {key: after[key] for key in OTHERS} == OTHERS
    assert list(after["flags"].items())[1] == list(before["flags"].items())[1]
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("share", [0.01, 0.125, 0.5])
def test_the_share_is_drawn_as_asked(file: Path, share: float) -> None:
    """Of 10 000 people within four standard errors; a whole percent is written in weights of 100."""
    hook = a_hook(file)
    assert hook.run(promote(share)).outcome is HookOutcome.OK
    assert hook.probe(promote(share)) is ProbeAnswer.APPLIED
    assert hook.share(promote(share)) == pytest.approx(share)
    found = drawn(file)
    assert found["new"] / 10_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 10_000) ** 0.5)
    assert found["new"] + found["old"] == 10_000
    weights = [weight for _, weight in flag_in(file)["targeting"]["fractional"]]
    assert sum(weights) == (10_000 if share == 0.125 else 100)


def test_who_has_it_keeps_it_as_the_share_grows(file: Path) -> None:
    """A visitor does not fall back while the deploy goes forward."""
    core, kept = FlagdCore(), []
    for share in (0.05, 0.25, 0.5):
        assert a_hook(file).run(promote(share)).outcome is HookOutcome.OK
        core.set_flags(file.read_text())
        ids = [f"visitor-{n}" for n in range(2000)]
        kept.append({i for i in ids if core.resolve_string_value(FLAG, "", EvaluationContext(i)).value == "new"})
    assert kept[0] < kept[1] < kept[2]


def test_a_share_by_company_draws_companies(file: Path) -> None:
    """Everybody of one company has the same variant; who has none gets the old one, not one lot for all of them."""
    hook = a_hook(file, by="company")
    assert hook.run(promote(0.5)).outcome is HookOutcome.OK
    assert {len(drawn(file, 50, company=f"company-{n}")) for n in range(8)} == {1}
    assert len({next(iter(drawn(file, 1, company=f"company-{n}"))) for n in range(8)}) == 2
    assert drawn(file, 50) == {"old": 50}
    assert hook.share(promote(0.5)) == 0.5


def test_staff_get_it_first_and_lose_it_with_everybody(file: Path) -> None:
    """A share of 0 is theirs alone; off means off for them too."""
    hook = a_hook(file, first=STAFF)
    assert hook.run(promote(0.0, 1)).outcome is HookOutcome.OK
    assert (drawn(file, 50), drawn(file, 50, email="a@shop.example")) == ({"old": 50}, {"new": 50})
    assert hook.probe(promote(0.0)) is ProbeAnswer.APPLIED
    assert hook.run(promote(0.25, 2)).outcome is HookOutcome.OK
    assert (drawn(file)["new"] > 0, drawn(file, 50, email="a@shop.example")) == (True, {"new": 50})
    assert hook.share(promote(0.25)) == 0.25
    assert hook.run(rollback(3)).outcome is HookOutcome.OK
    assert (drawn(file), drawn(file, 50, email="a@shop.example")) == ({"old": 10_000}, {"old": 50})


def test_programs_with_a_default_of_their_own_see_it_disabled(file: Path) -> None:
    """Off disables the flag where its variant is what programs do without it. A promotion never enables it again."""
    hook = a_hook(file, disabled_variant="v1")
    assert hook.run(rollback(1)).outcome is HookOutcome.OK
    assert (flag_in(file)["state"], drawn(file, 50)) == ("DISABLED", {"default": 50})
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
    ended = hook.run(promote(0.5, 2))
    assert (ended.outcome, hook.probe(promote(0.5))) == (HookOutcome.FAILED, ProbeAnswer.MOVED_ON)
    assert hook.run(switch(3)).outcome is HookOutcome.OK
    assert (flag_in(file)["state"], hook.share(switch())) == ("ENABLED", 1.0)


def test_a_flag_that_somebody_disabled_is_left_alone(tmp_path: Path) -> None:
    """Nobody told us what programs do without it."""
    file = written(tmp_path / "flags.json", state="DISABLED")
    before = file.read_bytes()
    ended = a_hook(file).run(rollback())
    assert (ended.outcome, "disabled" in ended.output) == (HookOutcome.FAILED, True)
    assert a_hook(file).probe(rollback()) is ProbeAnswer.UNKNOWN
    assert file.read_bytes() == before


def test_a_third_variant_is_left_alone(tmp_path: Path) -> None:
    """Neither of ours has anybody: hands off."""
    file = written(tmp_path / "flags.json", defaultVariant="v3")
    hook = a_hook(file)
    assert hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert flag_in(file)["defaultVariant"] == "v3"


THEIRS = {"if": [{"==": [{"var": "country"}, "de"]}, "v2", "v1"]}


def test_targeting_of_others_stops_a_promotion_and_not_the_way_back(tmp_path: Path) -> None:
    """It is told when the watch begins; a rollback replaces it and says what stood there."""
    file = written(tmp_path / "flags.json", targeting=THEIRS)
    hook = a_hook(file)
    assert "not this hook's" in str(hook.preflight(rollback()))
    assert hook.share(rollback()) is None
    assert hook.run(promote(0.5, 1)).outcome is HookOutcome.FAILED
    assert flag_in(file)["targeting"] == THEIRS
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    ended = hook.run(rollback(2))
    assert (ended.outcome, json.dumps(THEIRS) in ended.output) == (HookOutcome.OK, True)
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED


def test_an_edit_that_comes_in_between_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody turns another flag on between our reading and our writing: both changes are there."""
    read = file_swap.read
    edits: list[Path] = []

    def read_and_edit(path: Path) -> bytes:
        content = read(path)
        if not edits:
            edits.append(path)
            path.write_bytes(content.replace(b'"defaultVariant": "off"', b'"defaultVariant": "on"'))
        return content

    monkeypatch.setattr(file_swap, "read", read_and_edit)
    assert a_hook(file).run(rollback()).outcome is HookOutcome.OK
    document = json.loads(file.read_text())
    assert document["flags"]["dark-mode"]["defaultVariant"] == "on"
    assert "targeting" not in document["flags"][FLAG]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{", "utf"),
        (b"[]", "flags"),
        (b'{"flags": {}}', "there is no flag"),
        (b'{"flags": {"new-checkout": 1}}', "variants"),
        (b'{"flags": {"new-checkout": {"variants": {"v1": 1}, "state": "on"}}}', "state"),
        (b'{"flags": {"a": 1, "a": 2}}', "twice"),
        (b"[" * 100_000, "deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_answer(tmp_path: Path, content: bytes, why: str) -> None:
    """FAILED with the reason, told when the watch begins, and the file is as it was."""
    file = tmp_path / "flags.json"
    file.write_bytes(content)
    ended = a_hook(file).run(rollback())
    assert (ended.outcome, why in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert why in str(a_hook(file).preflight(rollback()))
    assert file.read_bytes() == content


def test_half_a_character_in_another_flag_does_not_stop_the_way_back(tmp_path: Path) -> None:
    """JSON may escape a lone surrogate, which no file can hold otherwise: it is written as it was, as an escape."""
    file = written(tmp_path / "flags.json")
    plain = tmp_path / "plain.json"
    plain.write_text(file.read_text().replace('"\\u00e4"', '"\u00e4\U0001f680\\\\"'), encoding="utf-8")
    file.write_text(plain.read_text("utf-8").replace("\\\\", "\\\\\\ud83d"), encoding="utf-8")
    for each in (file, plain):
        assert a_hook(each).preflight(switch()) is None
        assert a_hook(each).run(switch()).outcome is HookOutcome.OK
        assert a_hook(each).probe(switch()) is ProbeAnswer.APPLIED
    assert json.loads(file.read_bytes())["flags"]["dark-mode"]["metadata"] == {"\u00e4\U0001f680\\\ud83d": 1}
    assert file.read_bytes().replace(b"\\ud83d", b"") == plain.read_bytes()
    assert "\u00e4\U0001f680" in file.read_text("utf-8")


def test_a_file_that_can_be_read_and_not_written_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer Python reads deeper nesting than it writes: refused with the reason when the watch begins."""
    file = written(tmp_path / "flags.json")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    read, before = Document.read, file.read_bytes()
    monkeypatch.setattr(Document, "read", lambda content: Document({**read(content).content, "deep": deep}))
    assert "nested too deeply" in str(a_hook(file).preflight(switch()))
    ended = a_hook(file).run(switch())
    assert (ended.outcome, "nested too deeply" in ended.output) == (HookOutcome.FAILED, True)
    assert file.read_bytes() == before


def test_a_number_that_is_beyond_us_is_not_written_as_no_json(tmp_path: Path) -> None:
    """As `Infinity` no flagd could read the file any more, all other flags included."""
    file = written(tmp_path / "flags.json")
    file.write_text(file.read_text().replace('"\\u00e4": 1', '"huge": 1e999'))
    before = file.read_bytes()
    assert "cannot be written" in str(a_hook(file).preflight(switch()))
    assert a_hook(file).run(switch()).outcome is HookOutcome.FAILED
    assert file.read_bytes() == before


def test_a_variant_that_is_not_there_is_named(file: Path) -> None:
    """When the watch begins; variants may be called otherwise than versions."""
    assert "no variant 'v7'" in str(a_hook(file).preflight(rollback(target="v7")))
    renamed = a_hook(file, variants={"v7": "v1"})
    assert renamed.preflight(rollback(target="v7")) is None
    assert "same variant" in str(renamed.preflight(rollback(target="v7", candidate="v1")))


def test_off_is_proven_by_the_flagd_that_serves_it(file: Path) -> None:
    """One that goes on with the old file is PARTIAL and keeps the attempt unclear; one that reloads proves it."""
    with ofrep(file, reload=False) as stale, ofrep(file) as fresh:
        hook = a_hook(file, flagd_urls=(fresh.url, stale.url))
        assert hook.run(rollback(1)).outcome is HookOutcome.TIMED_OUT
        assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
        asked = a_hook(file, flagd_urls=(fresh.url,))
        assert asked.run(rollback(2)).outcome is HookOutcome.OK
        assert asked.probe(rollback()) is ProbeAnswer.APPLIED
        disabling = a_hook(file, flagd_urls=(fresh.url,), disabled_variant="v1")
        assert disabling.run(rollback(3)).outcome is HookOutcome.OK
        assert flag_in(file)["state"] == "DISABLED"


def test_a_flagd_that_is_away_proves_nothing(file: Path) -> None:
    """The file is written all the same: whoever reads it sees the flag off."""
    hook = a_hook(file, flagd_urls=("http://127.0.0.1:1",), timeout_s=0.2)
    assert hook.run(rollback()).outcome is HookOutcome.TIMED_OUT
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
    assert "targeting" not in flag_in(file)


@pytest.mark.parametrize("wrong", [{"file": "flags.yaml"}, {"flag": ""}, {"flagd_urls": ("flagd:8016",)}])
def test_mistakes_are_found_by_check(wrong: dict[str, Any]) -> None:
    """YAML would lose its comments, and an address is whole."""
    with pytest.raises(ValidationError):
        FlagdOptions(**{"file": "flags.json", "flag": FLAG, **wrong})


@given(share=st.floats(0.0, 1.0), by=st.sampled_from(["", "company"]), first=st.sampled_from([{}, STAFF]))
def test_what_is_written_is_read_again(share: float, by: str, first: dict[str, Any]) -> None:
    """The share comes back within a twentieth of its smaller side, or was refused."""
    plain = Definition(variants=frozenset({"v1", "v2"}), state="ENABLED", default="v1", targeting={})
    try:
        made = wanted_definition(plain, Sides("v2", "v1"), share, by=by, first=first, disabled="")
    except ValueError:
        assert min(share, 1 - share) < 1.01e-3
        return
    parts = made.parts(by=by, first=first, disabled="")
    assert parts is not None
    got = parts.get("v2", 0) / sum(parts.values())
    assert abs(got - share) <= 0.05 * min(share, 1 - share) + 1e-12
