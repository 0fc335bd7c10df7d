"""What a demo ends with: the sentence, the timeline, the blast radius by two counts, the messages, where it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.sentence import count
from watchdog.demo.scenario import Scenario
from watchdog.demo.scene import clock
from watchdog.demo.slack_desk import Post

KEYS = (
    *("outcome", "verdict", "reason", "metric", "time_to_detect_s", "time_to_recover_s"),
    *("exposed_requests", "affected_requests", "total_requests", "sentence"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontCount:
    """What the front counted from the deploy to the daemon's last look; the daemon never sees these figures."""

    exposed: int  # served by the new version
    errors: int  # of these, 5xx or no answer
    total: int
    after_end: int  # requests the new version still got after the watch had ended
    missing_orders: int = 0  # that the new version's visits would have brought at the old one's rate
    traffic_back_s: float | None = None  # seconds from the verdict until the front was told to send everybody back


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a demo ended."""

    scenario: Scenario
    watch: Mapping[str, Any]
    front: FrontCount
    posts: Sequence[Post] | None  # None: they went to the real Slack
    kept: Path | None

    @property
    def as_expected(self) -> bool:
        wanted = {"outcome": self.scenario.outcome, "reason": self.scenario.reason, "hold": self.scenario.hold}
        return all(value is None or self.watch.get(key) == value for key, value in wanted.items())


def as_json(ending: Ending) -> dict[str, Any]:
    """The keys that DESIGN §7 keeps stable, and what the front counted beside them."""
    told = {"scenario": ending.scenario.name, "strategy": ending.watch["strategy"]}
    told |= {key: ending.watch[key] for key in KEYS}
    front = ending.front
    counted = {
        "exposed_requests": front.exposed,
        "failed_requests": front.errors,
        "total_requests": front.total,
        "requests_after_end": front.after_end,
        "missing_orders": front.missing_orders,
        "traffic_back_s": front.traffic_back_s,
    }
    return told | {"time_to_hook_s": _hook_delay_s(ending.watch), "front": counted}


def _hook_delay_s(watch: Mapping[str, Any]) -> float | None:
    """Seconds from the verdict to the start of the hook."""
    verdict_at, hook_at = watch["degraded_at"], watch["hook_started_at"]
    return None if verdict_at is None or hook_at is None else round(hook_at - verdict_at, 2)


def as_text(ending: Ending, *, stays: bool = False) -> str:
    """The same for people. stays: whether the pages do, after the report."""
    parts = [
        _verdict(ending),
        _section("What happened", _timeline(ending.watch)),
        _section("Who was hit", _blast_radius(ending)),
        _section("What the team was told", _messages(ending.posts)),
        _section("Where to look further", _where(ending, stays=stays)),
    ]
    return "\n".join(parts)


def _verdict(ending: Ending) -> str:
    watch, scenario = ending.watch, ending.scenario
    expected = scenario.outcome + (f" ({scenario.hold or scenario.reason})" if scenario.reason else "")
    told = f"as expected: {expected}" if ending.as_expected else f"UNEXPECTED: this scenario ends {expected}"
    reason = f" ({watch['reason']})" if watch["reason"] else ""
    return f"\n{watch['outcome']}{reason}, {told}\n\n  {watch['sentence']}\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines), ""])


def _timeline(watch: Mapping[str, Any]) -> list[str]:
    began = float(watch["deployed_at"])
    return [f"{clock(float(entry['at']) - began):>8}  {entry['text']}" for entry in watch["timeline"]]


def _blast_radius(ending: Ending) -> list[str]:
    watch, front = ending.watch, ending.front
    exposed, affected, total = (count(watch[f"{word}_requests"]) for word in ("exposed", "affected", "total"))
    served, failed, all_ = map(count, (front.exposed, front.errors, front.total))
    lines = [
        f"by the daemon: {exposed} requests exposed, {affected} affected, of {total} in total (up to its last scrape)",
        f"by the front:  {served} requests exposed, {failed} failed, of {all_} in total",
    ]
    if watch["metric"] == "orders":
        lines.append(f"by the front's count of orders, {count(front.missing_orders)} are missing")
    if watch["time_to_detect_s"] is not None:
        lines.append(f"time to detect:  {watch['time_to_detect_s']:.1f} s after the new version took traffic")
    if watch["time_to_recover_s"] is not None:
        lines.append(f"time to recover: {watch['time_to_recover_s']:.1f} s after the verdict")
    if watch["outcome"] == "rolled_back":
        lines.append(f"the new version got {count(front.after_end)} requests after the end")
    return lines


def _messages(posts: Sequence[Post] | None) -> list[str]:
    if posts is None:
        return ["The messages went to Slack."]
    lines = ["No Slack token: the messages are shown as they would be sent.", ""]
    for post in posts:
        lines += [f"│ {line}" for line in post.text.splitlines()]
        for reply in post.replies:
            first, *rest = reply.splitlines() or [""]
            lines += [f"│   ↳ {first}", *(f"│     {line}" for line in rest)]
        lines.append("")
    return lines[:-1] if posts else [*lines, "(none)"]


def _where(ending: Ending, *, stays: bool) -> list[str]:
    page = [] if stays else ["The page's address above ends with the demo; `deploy-watchdog demo --stay` leaves it up."]
    if ending.kept is None:
        kept = "Nothing was kept. `deploy-watchdog demo --keep DIR` leaves ledger, configuration and logs in DIR."
        return [*page, kept]
    return [
        *page,
        f"ledger:   {ending.kept / 'watchdog.db'}",
        f"show:     deploy-watchdog show {ending.watch['id']} --ledger {ending.kept / 'watchdog.db'}",
        f"notebook: notebooks/01_review_a_verdict.ipynb, with DEPLOY_WATCHDOG_LEDGER={ending.kept / 'watchdog.db'}",
        f"logs:     {ending.kept}/*.log",
    ]
