"""A delivery as a Slack message. Pure: the same blocks are sent, tested, and printed by the demo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from watchdog.model import Message, MessageKind, Mode, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.payload import message_id

HEADER_CHARS, SENTENCE_CHARS, FACT_CHARS = 140, 590, 120  # escaping may make five of one; Slack takes 150, 3000, 2000
SECTION_CHARS = 3000

STEPS_SHOWN = 12
NOTES_SHOWN = 3
METRICS_SHOWN, METRIC_CHARS = 8, 200
CHOICES: Mapping[str, str] = {"approve": "Approve the rollback", "deny": "Deny it, keep the new version"}

EMOJI: Mapping[State, str] = {
    State.SMOKE: "🧪",
    State.SMOKE_FAILED: "🧯",
    State.WATCHING: "👀",
    State.PASSED: "✅",
    State.INCONCLUSIVE: "🌫️",
    State.SUPERSEDED: "⏭️",
    State.CANCELLED: "⏹️",
    State.INTENT: "⏪",
    State.HELD: "✋",
    State.NOT_NEEDED: "🆗",
    State.RUNNING: "⏪",
    State.RETRY_WAIT: "⏪",
    State.FAILED: "🚨",
    State.UNKNOWN: "🚨",
    State.VERIFYING: "🔎",
    State.ROLLED_BACK: "↩️",
    State.NOT_RECOVERED: "🚨",
}
WORDS: Mapping[State, str] = {
    State.SMOKE: "smoke test",
    State.SMOKE_FAILED: "smoke test failed, nobody was exposed",
    State.WATCHING: "being watched",
    State.PASSED: "passed",
    State.INCONCLUSIVE: "inconclusive",
    State.SUPERSEDED: "superseded",
    State.CANCELLED: "cancelled",
    State.INTENT: "to be rolled back",
    State.HELD: "held, waits for you",
    State.NOT_NEEDED: "no rollback needed",
    State.RUNNING: "rolling back",
    State.RETRY_WAIT: "rolling back, next try soon",
    State.FAILED: "rollback failed, act now",
    State.UNKNOWN: "nobody knows if it was rolled back, look now",
    State.VERIFYING: "rolled back, verifying recovery",
    State.ROLLED_BACK: "rolled back",
    State.NOT_RECOVERED: "rolled back but not recovered, look now",
}
OBSERVED = "held, mode is observe: nothing was done"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """`text` is what notifications show, `blocks` what the channel shows; `text` is escaped mrkdwn."""

    text: str
    blocks: list[dict[str, Any]]


def render(delivery: Delivery) -> SlackMessage:
    """The whole message: state, sentence, facts, link. The parent of a deploy, and every one-way post."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cap(headline(delivery), HEADER_CHARS)}},
        _section(_sentence(delivery.message)),
    ]
    if why := _why(delivery):
        blocks.append(_section(f"*Why*\n{why}"))
    if others := _others(delivery.message):
        blocks.append(_listed("•", others, METRIC_CHARS))
    if seen := _seen(delivery.message):
        blocks.append(_listed("•", seen, FACT_CHARS))
    if notes := _worth_knowing(delivery.message):
        blocks.append(_listed("ℹ️", notes, FACT_CHARS))
    if facts := [f"*{name}*\n{escape(_cap(value, FACT_CHARS))}" for name, value in told_facts(delivery.message.facts)]:
        blocks.append({"type": "section", "fields": [_mrkdwn(fact) for fact in facts]})
    if links := _links(delivery):
        blocks.append(_section("  ·  ".join(f"<{url}|{words}>" for url, words in links)))
    blocks.append(_footer(delivery))
    return SlackMessage(text=escape(headline(delivery)) + ": " + _sentence(delivery.message), blocks=blocks)


def render_reply(delivery: Delivery) -> SlackMessage:
    """One step of the story, for the thread below the parent."""
    text = f"{_mark(delivery.message)} {_sentence(delivery.message)}"
    return SlackMessage(text=text, blocks=[_section(text), _footer(delivery)])


def headline(delivery: Delivery) -> str:
    """`↩️ checkout v42 in production: rolled back`."""
    deploy = delivery.deploy
    where = f"{deploy.service} {deploy.version} in {deploy.environment}"
    is_only_seen = delivery.state is State.HELD and delivery.message.facts.get("mode") == Mode.OBSERVE.value
    return f"{EMOJI[delivery.state]} {visible(where)}: {OBSERVED if is_only_seen else WORDS[delivery.state]}"


def told_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Blast radius, time to detect, time to recover: those that are known."""
    told = []
    exposed, affected, total = (_number(facts, f"{word}_requests") for word in ("exposed", "affected", "total"))
    is_well = facts.get("state") == State.PASSED.value
    if exposed is not None and total is not None and is_well:
        wrong = "" if affected is None else f"; {_count(affected)} of them went wrong"
        told.append(("Traffic", f"{_count(exposed)} of {_count(total)} requests reached it{wrong}"))
    elif exposed is not None and total is not None:
        hit = "" if affected is None else f", {_count(affected)} affected"
        told.append(("Blast radius", f"{_count(exposed)} requests exposed{hit}, of {_count(total)} in total"))
    looks, watched_s = _number(facts, "looks"), _number(facts, "watched_s")
    if is_well and looks and watched_s:
        told.append(("Watched", f"{_duration(watched_s)}, {_count(looks)} looks"))
    for name, key in (("Time to detect", "time_to_detect_s"), ("Time to recover", "time_to_recover_s")):
        if (seconds := _number(facts, key)) is not None:
            told.append((name, _duration(seconds)))
    return told


def link(facts: Mapping[str, Any]) -> str:
    """The page of the deploy (fact `public_url`), safe inside `<…|…>`; empty where there is none."""
    url = str(facts.get("public_url") or "")
    if urlsplit(url).scheme not in ("http", "https") or visible(url) != url or " " in url:
        return ""
    return url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")


def escape(text: str) -> str:
    """Text that Slack shows as it is: no mention, no link, no entity."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def visible(text: str) -> str:
    """Text without line breaks and without control and direction characters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable() or c == "\u202f")


def short_id(message: Message) -> str:
    """The same in every copy of one message, so that a duplicate is seen as one."""
    return message_id(message)[-6:]


def _links(delivery: Delivery) -> list[tuple[str, str]]:
    """Ways on. Links, not buttons: a button would also call Slack back, which needs a public address of ours. A
    decision leads to the page that says what will happen and asks who is asking."""
    url = link(delivery.message.facts)
    if not url:
        return []
    choices = delivery.message.facts.get("choices") if delivery.state is State.HELD and "?" not in url else None
    asked = [word for word in choices if word in CHOICES] if isinstance(choices, list | tuple) else []
    return [*((f"{url}/{word}", CHOICES[word]) for word in asked), (url, "Open this deploy")]


def _seen(message: Message) -> list[str]:
    """Of a deploy that went step by step: which regression would have been seen at each."""
    seen = message.facts.get("seen")
    return [visible(str(line)) for line in seen[:STEPS_SHOWN]] if isinstance(seen, list | tuple) else []


def remembered(delivery: Delivery) -> Mapping[str, str]:
    """What the parent goes on saying while later messages change its sentence: why the deploy was called worse, or is
    held."""
    message = delivery.message
    if message.kind not in (MessageKind.DEGRADED, MessageKind.HELD) or not message.facts.get("because"):
        return {}
    return {"why": _cap(visible(str(message.facts["because"])), SENTENCE_CHARS)}


def _why(delivery: Delivery) -> str:
    """The reason out of an earlier message, where this one does not give it and it still matters; escaped."""
    is_over = delivery.state in (State.WATCHING, State.PASSED) or bool(delivery.message.facts.get("because"))
    return "" if is_over else escape(delivery.thread.get("why", ""))


def _others(message: Message) -> list[str]:
    """Of a deploy that passed: the metrics that its sentence does not speak of."""
    lines = message.facts.get("metrics")
    if message.facts.get("state") != State.PASSED.value or not isinstance(lines, list | tuple):
        return []
    told = [visible(str(line)) for line in lines]
    return [line for line in told if line not in visible(message.sentence)][:METRICS_SHOWN]


def _worth_knowing(message: Message) -> list[str]:
    """Changes that are no reason to act, beside the good news."""
    notes = message.facts.get("worth_knowing")
    return [visible(str(note)) for note in notes[:NOTES_SHOWN]] if isinstance(notes, list | tuple) else []


def _sentence(message: Message) -> str:
    said = visible(message.sentence)
    if seen := _seen(message):
        said = said.removesuffix("; " + "; ".join(seen))  # they stand below it, one a line
    return escape(_cap(said, SENTENCE_CHARS))


def _mark(message: Message) -> str:
    if message.kind is MessageKind.SOURCE_DOWN:
        return "🔌"
    return {Severity.INFO: "•", Severity.GOOD: "✅", Severity.WARNING: "⚠️", Severity.PAGE: "🚨"}[message.severity]


def _footer(delivery: Delivery) -> dict[str, Any]:
    deploy = delivery.deploy
    told = f"deploy {deploy.id} · {deploy.strategy.value.replace('_', '-')} · message {short_id(delivery.message)}"
    return {"type": "context", "elements": [{"type": "plain_text", "text": _cap(visible(told), 300), "emoji": False}]}


def _listed(mark: str, lines: Sequence[str], chars: int) -> dict[str, Any]:
    """One section with a line for each, as many as Slack takes."""
    shown = ""
    for line in lines:
        longer = f"{shown}{mark} {escape(_cap(line, chars))}\n"
        if len(longer) > SECTION_CHARS:
            break
        shown = longer
    return _section(shown.rstrip("\n"))


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: names and addresses do not become links


def _number(facts: Mapping[str, Any], key: str) -> float | None:
    value = facts.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15  # NaN is not
    return float(value) if usable and value is not None else None


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _cap(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
