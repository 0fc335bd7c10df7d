"""How a message reads: pure rendering, nothing sent."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.samples import a_deploy
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.slack_message import EMOJI, WORDS, escape, link, render, render_reply, told_facts

FACTS: dict[str, Any] = {
    "exposed_requests": 1204,
    "affected_requests": 72,
    "total_requests": 12040,
    "time_to_detect_s": 21.4,
    "time_to_recover_s": 9.04,
    "public_url": "https://watch.example/deploys/d1?tab=1&x=2",
}


def a_delivery(
    sentence: str = "shop v2: errors 6 % vs 1 %", state: State = State.ROLLED_BACK, **facts: Any
) -> Delivery:
    message = Message(
        key="ended",
        watch_id="d1",
        kind=MessageKind.ENDED,
        severity=Severity.WARNING,
        sentence=sentence,
        facts=facts,
    )
    return Delivery(message=message, deploy=a_deploy(), state=state)


def texts(value: Any) -> list[dict[str, Any]]:
    """Every text object inside blocks."""
    if isinstance(value, dict):
        here = [value] if value.get("type") in ("mrkdwn", "plain_text") else []
        return here + [text for item in value.values() for text in texts(item)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


def test_a_rollback_reads_well() -> None:
    """State, what happened, how many were hit, how long it took, where to look: golden."""
    shown = render(a_delivery(**FACTS))
    assert [text["text"] for text in texts(shown.blocks)] == [
        "↩️ shop v2 in production: rolled back",
        "shop v2: errors 6 % vs 1 %",
        "*Blast radius*\n1\u202f204 requests exposed, 72 affected, of 12\u202f040 in total",
        "*Time to detect*\n21 s",
        "*Time to recover*\n9.0 s",
        "<https://watch.example/deploys/d1?tab=1&amp;x=2|Open this deploy>",
        texts(shown.blocks)[-1]["text"],
    ]
    assert texts(shown.blocks)[-1]["text"].startswith("deploy d1 · canary · message ")
    assert shown.text == "↩️ shop v2 in production: rolled back: shop v2: errors 6 % vs 1 %"


def test_a_hold_that_only_observes_asks_nobody_to_decide() -> None:
    """In mode observe nothing was done and nothing waits; in the others a human is waited for."""
    assert render(a_delivery(state=State.HELD, mode="observe")).blocks[0]["text"]["text"].endswith("nothing was done")
    assert render(a_delivery(state=State.HELD, mode="notify")).blocks[0]["text"]["text"].endswith("waits for you")


def test_a_healthy_ending_is_told_as_fully_as_a_bad_one() -> None:
    """The same parts, another sign."""
    good = render(a_delivery("shop v2 passed", State.PASSED, **FACTS))
    bad = render(a_delivery("shop v2 rolled back", State.ROLLED_BACK, **FACTS))
    assert [block["type"] for block in good.blocks] == [block["type"] for block in bad.blocks]
    assert good.blocks[0]["text"]["text"] == "✅ shop v2 in production: passed"


def test_a_healthy_ending_says_of_every_metric_what_would_have_been_seen() -> None:
    """The sentence speaks of one; the others, the traffic and the time stand below it: golden."""
    metrics = ["errors 0.8 % vs 0.9 %; an increase to ×3.3 would have been seen", "latency 29 % vs 30 % <fast>; ×1.5"]
    facts = {**FACTS, "state": "PASSED", "metrics": metrics, "looks": 20, "watched_s": 100.0, "time_to_detect_s": None}
    passed = a_delivery(f"shop v2 passed: healthy: {metrics[0]}", State.PASSED)
    shown = render(replace(passed, message=replace(passed.message, facts=facts)))
    assert [text["text"] for text in texts(shown.blocks)][2:5] == [
        "• latency 29 % vs 30 % &lt;fast&gt;; ×1.5",
        "*Traffic*\n1\u202f204 of 12\u202f040 requests reached it; 72 of them went wrong",
        "*Watched*\n100 s, 20 looks",
    ]


def test_every_state_has_a_sign_and_words() -> None:
    """No state reaches a human as a bare constant."""
    assert set(EMOJI) == set(WORDS) == set(State)


@pytest.mark.parametrize(
    "attack",
    ["<!channel> down", "<!here>", "<@U123>", "<https://evil.example|your bank>", "&lt;!channel&gt;", "a & b < c > d"],
)
def test_nothing_from_outside_speaks_slack(attack: str) -> None:
    """Mentions, links and entities of a sentence are shown as they were written."""
    for shown in (render(a_delivery(attack)), render_reply(a_delivery(attack))):
        assert escape(attack) in shown.text
        for text in [*texts(shown.blocks), {"type": "mrkdwn", "text": shown.text}]:
            if text["type"] == "mrkdwn":
                assert "<" not in text["text"]
                assert "&lt;!channel&gt;" not in text["text"] or "<!channel>" in attack


def test_facts_from_outside_are_escaped_or_dropped() -> None:
    """A fact that is no number is no fact; a link that is no address is no link."""
    hostile = {"exposed_requests": "<!channel>", "total_requests": 5, "time_to_detect_s": float("nan")}
    assert told_facts(hostile) == []
    for url in ("javascript:alert(1)", "https://x.example/ |<!channel>", "https://x.example/\u202e", "", None, 5):
        assert link({"public_url": url}) == ""
    assert link({"public_url": "https://x.example/a>|<b"}) == "https://x.example/a%3E%7C%3Cb"


def test_control_and_direction_characters_are_dropped() -> None:
    """No line break, escape or right-to-left override gets through."""
    shown = render(a_delivery("one\ntwo\x1b[31m\u202egnp.exe\x00"))
    assert shown.blocks[1]["text"]["text"] == "one two[31mgnp.exe"


def test_slack_limits_hold_for_the_longest_text() -> None:
    """Header 150, section 3000, field 2000 characters, also when every character needs an entity."""
    shown = render(a_delivery("&" * 100_000, **(FACTS | {"time_to_detect_s": 1e14})))
    for block in shown.blocks:
        limit = {"header": 150, "section": 3000, "context": 2000}[block["type"]]
        assert all(len(text["text"]) <= limit for text in texts(block))
    assert all(len(field["text"]) <= 2000 for field in shown.blocks[2]["fields"])
    assert shown.blocks[1]["text"]["text"].endswith("&amp;…")
    assert len(json.dumps(shown.blocks)) < 12_000


def test_slack_limits_hold_for_long_lists_and_reasons() -> None:
    """Metrics, steps, notes and the reason of an earlier message: each list ends with a whole line."""
    long = ["&" * 1000] * 40
    facts = {"state": "PASSED", "metrics": long, "seen": long, "worth_knowing": long}
    passed = a_delivery("passed", State.PASSED)
    held = replace(a_delivery("held", State.CANCELLED), thread={"why": "&" * 590})
    for delivery in (replace(passed, message=replace(passed.message, facts=facts)), held):
        sections = [block["text"]["text"] for block in render(delivery).blocks if block["type"] == "section"]
        assert max(map(len, sections)) > 500
        assert all(len(text) <= 3000 for text in sections)
        assert all(
            line.endswith(("&amp;…", "&amp;", "passed", "held", "*Why*"))
            for text in sections
            for line in text.split("\n")
        )


def test_names_are_plain_text() -> None:
    """Header and footer, where names stand, are never parsed."""
    blocks = render(a_delivery()).blocks
    assert blocks[0]["text"]["type"] == "plain_text"
    assert blocks[-1]["elements"][0]["type"] == "plain_text"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.44, "0.4 s"), (10.0, "10 s"), (119.4, "119 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_durations_are_told_as_people_do(seconds: float, told: str) -> None:
    """Tenths below ten seconds, whole seconds, minutes, hours."""
    assert told_facts({"time_to_recover_s": seconds}) == [("Time to recover", told)]


def test_copies_of_one_message_carry_the_same_id() -> None:
    """A duplicate is seen as one; another message has another id."""

    def footer(key: str) -> str:
        delivery = a_delivery()
        message = Message(key=key, watch_id="d1", kind=MessageKind.HELD, severity=Severity.PAGE, sentence="", facts={})
        return str(render(Delivery(message=message, deploy=delivery.deploy, state=State.HELD)).blocks[-1])

    assert footer("a") == footer("a") != footer("b")


def held(choices: list[str], state: State = State.HELD, url: str = "https://watch.example/deploys/d1") -> str:
    shown = render(a_delivery(state=state, public_url=url, choices=choices))
    return json.dumps(shown.blocks)


def test_a_held_deploy_is_decided_by_a_link() -> None:
    """Each choice leads to the page that asks; only what is possible is offered."""
    both = held(["approve", "deny"])
    assert "<https://watch.example/deploys/d1/approve|Approve the rollback>" in both
    assert "<https://watch.example/deploys/d1/deny|Deny it, keep the new version>" in both
    assert "/approve" not in held(["deny"])


def test_a_choice_is_not_offered_when_it_is_gone() -> None:
    """A message that comes late shows the state of now, and no word from outside becomes an address."""
    assert "/approve" not in held(["approve", "deny"], State.ROLLED_BACK)
    assert "/approve" not in held(["approve"], url="")
    assert "pay-me" not in held(["pay-me"])


def test_a_healthy_ending_tells_what_is_worth_knowing_all_the_same() -> None:
    """A change that proves nothing stands below the sentence, escaped."""
    note = "worth knowing: cpu 58 % vs 40 % <!channel>; replicas of one version may differ by so much"
    shown = render(a_delivery("shop v2 passed: healthy", State.PASSED, worth_knowing=[note]))
    assert shown.blocks[2]["text"]["text"] == f"ℹ️ {note.replace('<', '&lt;').replace('>', '&gt;')}"


def test_a_healthy_ending_says_what_would_have_been_seen_at_every_step() -> None:
    """One line a step, and not twice."""
    seen = ["at 10 % a rise to ×3.1 would have been seen", "at 50 % a rise to ×1.6 <would> have been seen"]
    shown = render(a_delivery(f"shop v2 passed: all on v2; {'; '.join(seen)}", State.PASSED, seen=seen))
    assert shown.blocks[1]["text"]["text"] == "shop v2 passed: all on v2"
    assert shown.blocks[2]["text"]["text"] == f"• {seen[0]}\n• at 50 % a rise to ×1.6 &lt;would&gt; have been seen"
