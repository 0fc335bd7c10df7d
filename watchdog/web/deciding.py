"""Buttons: each leads to a page that says in one sentence what will happen, and only its form makes it happen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchdog.clean_text import clean
from watchdog.config import Scope
from watchdog.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from watchdog.label_desk import LabelDesk, possible_labels
from watchdog.model import FINAL, Action, ActionKind, ActionState, LabelKind, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Ledger
from watchdog.rollout import PENDING
from watchdog.web.auth import Caller
from watchdog.web.body import read_form
from watchdog.web.decided import is_repeated, too_late
from watchdog.web.errors import ApiError
from watchdog.web.reading import Reading
from watchdog.web.rendering import Pages, segment

_CANCELLABLE = (State.SMOKE, State.WATCHING, State.HELD, State.INTENT, State.UNKNOWN)
_LABEL_MEANS = {
    LabelKind.RIGHT: "The verdict was right.",
    LabelKind.FALSE_ALARM: "False alarm: it was called worse and was not.",
    LabelKind.MISSED: "Missed: it was worse and was not called so.",
    LabelKind.UNCLEAR: "Unclear: looked at, and nobody can tell.",
}
_REFUSALS = (ApiError, LedgerError, NotFoundError, RefusedError, ConflictError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something a person may do to a deploy."""

    name: str
    button: Callable[[Watch, Sequence[Action]], str]
    scope: Scope
    is_possible: Callable[[Watch, Sequence[Action]], bool]  # the actions of the watch so far
    says: Callable[[Watch], str]


def _goes_back(watch: Watch) -> str:
    d = watch.deploy
    return (
        f"{d.service} in {d.environment} goes back from {d.version} to {d.previous_version} at once, "
        f"with the hook {watch.plan.rollback_hook}."
    )


def _can_go_back(watch: Watch) -> bool:
    return watch.plan.rollback_hook is not None and watch.deploy.previous_version is not None


def _can_migrate_down(watch: Watch, done: Iterable[Action]) -> bool:
    """A hook is there, and the migration is neither taken back already nor being taken back."""
    asked = [a.state for a in done if a.kind is ActionKind.MIGRATE_DOWN]
    return (
        watch.state is State.HELD
        and watch.plan.migrate_down_hook is not None
        and not any(state in PENDING or state is ActionState.APPLIED for state in asked)
    )


def _waits_for_a_step(watch: Watch, done: Iterable[Action]) -> bool:
    held = [action.kind for action in done if action.state is ActionState.HELD]
    return watch.state is State.WATCHING and ActionKind.PROMOTE in held


def _always(button: str) -> Callable[[Watch, Sequence[Action]], str]:
    return lambda watch, done: button


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            name="approve",
            button=_always("Approve the rollback"),
            scope=Scope.APPROVE,
            is_possible=lambda w, done: w.state is State.HELD and waits_for_approval(done),
            says=_goes_back,
        ),
        Verb(
            name="deny",
            button=lambda w, done: (
                "Deny the rollback" if waits_for_approval(done) else f"Close: keep {w.deploy.version}"
            ),
            scope=Scope.APPROVE,
            is_possible=lambda w, done: w.state is State.HELD,
            says=lambda w: f"{w.deploy.version} stays, nothing is rolled back, and this deploy is watched no longer.",
        ),
        Verb(
            name="approve-step",
            button=_always("Approve the next step"),
            scope=Scope.APPROVE,
            is_possible=_waits_for_a_step,
            says=lambda w: f"{w.deploy.version} gets {100 * (w.next_share or 0):g} % of the traffic now.",
        ),
        Verb(
            name="deny-step",
            button=_always("Deny the next step"),
            scope=Scope.APPROVE,
            is_possible=_waits_for_a_step,
            says=lambda w: f"{w.deploy.version} keeps its share of the traffic, and is watched to the end.",
        ),
        Verb(
            name="rollback",
            button=_always("Roll back now"),
            scope=Scope.ROLLBACK,
            is_possible=lambda w, done: (
                _can_go_back(w)
                and (w.state is State.WATCHING or (w.state is State.HELD and not waits_for_approval(done)))
            ),
            says=lambda w: f"Whatever the metrics say: {_goes_back(w)}",
        ),
        Verb(
            name="migrate-down",
            button=_always("Take the migration back"),
            scope=Scope.APPROVE,
            is_possible=_can_migrate_down,
            says=lambda w: (
                f"The hook {w.plan.migrate_down_hook} takes the migration of {w.deploy.version} back in "
                f"{w.deploy.environment}. {w.deploy.version} goes on serving meanwhile, so it must be able to live "
                "with the old schema; the rollback of the code still waits for its own approval."
            ),
        ),
        Verb(
            name="cancel",
            button=_always("Stop watching"),
            scope=Scope.APPROVE,
            is_possible=lambda w, done: w.state in _CANCELLABLE and w.state is not State.HELD,
            says=lambda w: (
                f"{w.deploy.version} stays. Watching ends, so nobody is told if it gets worse; "
                "a rollback that has not begun is cancelled."
            ),
        ),
        Verb(
            name="label",
            button=_always("Label the verdict"),
            scope=Scope.LABEL,
            is_possible=lambda w, done: w.state in FINAL or w.state is State.HELD,
            says=lambda w: "Your word counts in the precision, recall and false-rollback rate of this service.",
        ),
    )
}


def waits_for_approval(actions: Iterable[Action]) -> bool:
    """Whether a rollback is recorded and held."""
    return any(action.state is ActionState.HELD and action.kind is ActionKind.ROLLBACK for action in actions)


def buttons(watch: Watch, caller: Caller, done: Sequence[Action]) -> list[dict[str, Any]]:
    """What may be done to a watch as it stands, and whether this caller may do it."""
    return [
        {"name": v.name, "button": v.button(watch, done), "allowed": caller.may(v.scope), "scope": v.scope.value}
        for v in VERBS.values()
        if v.is_possible(watch, done)
    ]


def deciding_routes(
    pages: Pages, *, ledger: Ledger, reading: Reading, desk: OperatorDesk, labels: LabelDesk
) -> APIRouter:
    """Build the routes of the confirming pages and of their forms."""
    router = APIRouter(include_in_schema=False)
    decide = Decider(ledger=ledger, reading=reading, desk=desk, labels=labels)

    @router.get("/deploys/{deploy_id}/{verb}")
    def ask(request: Request, deploy_id: str, verb: str) -> Response:
        def model(caller: Caller) -> Mapping[str, Any]:
            chosen, watch = _verb(verb), reading.watch(deploy_id, caller)
            if pages.door.seal_for(request) is None:
                raise ApiError(401, "Sign in first.")
            caller.require(chosen.scope)
            done = ledger.actions(watch_id=watch.id)
            if not chosen.is_possible(watch, done):
                raise too_late(ledger, watch)
            said = ledger.labels([watch.id]).get(watch.id)
            return {
                "watch": watch,
                "verb": chosen,
                "button": chosen.button(watch, done),
                "says": chosen.says(watch),
                "paused": desk.paused(),
                "choices": [(kind.value, _LABEL_MEANS[kind]) for kind in possible_labels(watch.verdict)],
                "said": said,
            }

        return pages.show(request, "decide.html", model)

    @router.post("/deploys/{deploy_id}/{verb}")
    async def do(request: Request, deploy_id: str, verb: str) -> Response:
        try:
            chosen, form = _verb(verb), await read_form(request)
            caller = pages.door.admit_actor(request, form, chosen.scope)
            watch_id = await run_in_threadpool(decide.act, chosen, deploy_id, caller, form)
        except _REFUSALS as error:
            return pages.refused(request, error)
        return RedirectResponse(f"/deploys/{segment(watch_id)}", status_code=303)

    return router


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Carries out what a form asks for."""

    ledger: Ledger
    reading: Reading
    desk: OperatorDesk
    labels: LabelDesk

    def act(self, verb: Verb, deploy_id: str, caller: Caller, form: Mapping[str, str]) -> str:
        """Do it, unless the deploy is no longer as the sender saw it; returns the watch's id. What somebody has just
        decided is not asked for again."""
        try:
            return self._act(verb, deploy_id, caller, form)
        except (ConflictError, RefusedError):
            watch = self.reading.watch(deploy_id, caller)
            if verb.name == "label" or form.get("seen") == watch.state.value:
                raise
            if is_repeated(self.ledger, watch, verb.name, caller.actor, self.desk.clock.now()):
                return watch.id
            raise too_late(self.ledger, watch) from None

    def _act(self, verb: Verb, deploy_id: str, caller: Caller, form: Mapping[str, str]) -> str:
        watch = self.reading.watch(deploy_id, caller)
        if form.get("seen") != watch.state.value:
            raise ConflictError(f"it is {watch.state.value} now")
        why = clean(form.get("why", ""))[:500]
        if verb.name == "label":
            try:
                kind = LabelKind(form.get("label", ""))
            except ValueError:
                raise ApiError(422, "Choose one of the labels.", remedy="Go back and choose one.") from None
            self.labels.label(watch.id, kind, actor=caller.actor, note=why)
        else:
            getattr(self.desk, verb.name.replace("-", "_"))(watch.id, actor=caller.actor, why=why)
        return watch.id


def _verb(name: str) -> Verb:
    if name not in VERBS:
        raise ApiError(404, "There is nothing at this address.")
    return VERBS[name]
