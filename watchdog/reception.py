"""What the daemon does with what a sender told or asked, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.alert_notes import firing, noted
from watchdog.deploy_request import DeployRequest, own_id
from watchdog.errors import ConflictError, RefusedError
from watchdog.gate import Gate, Word, gate
from watchdog.intake import Intake
from watchdog.model import FINAL, TRANSITIONS, Recorded, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Clock, Ledger
from watchdog.sending import Alert, AlertsTold, Asked, DeployTold, EndTold, Question

_ACTIVE = frozenset(TRANSITIONS)
_TRIES = 5
_LATEST = 20  # watches that are looked through for a version

# question → the words of the gate that mean yes
_YES: Mapping[Question, frozenset[Word]] = {
    Question.START: frozenset(Word),
    Question.GO_ON: frozenset(Word) - {Word.BACK},
    Question.GROW: frozenset({Word.GO, Word.WAIT}),
    Question.PROMOTE: frozenset({Word.GO}),
    Question.GO_BACK: frozenset({Word.BACK}),
}
_NOT_TOLD = "no deploy of it is on record: nobody has told that it began"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a sender is answered."""

    status: int
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Every method takes what one sender said, already known to be genuine and allowed for that service."""

    intake: Intake
    desk: OperatorDesk
    ledger: Ledger
    clock: Clock
    environments: Mapping[str, str] = field(default_factory=dict)  # of each configured service

    def is_elsewhere(self, service: str, environment: str | None) -> bool:
        """Whether a sender speaks of another environment than the one that is watched for the service."""
        watched = self.environments.get(service)
        return None not in (environment, watched) and environment != watched

    def deploy(self, told: DeployTold, *, actor: str, serves: Callable[[str], bool]) -> Reply:
        """Begin to watch (201), or know it already (200). Raises what `Intake.receive` raises."""
        request = self._anew(told.request) if told.again else told.request
        recorded, watch = self.intake.receive(request, actor=actor, serves=serves)
        if watch.deploy.service != request.service:  # ids of senders can be guessed: no other service takes ours away
            request = request.model_copy(update={"id": own_id(request)})
            recorded, watch = self.intake.receive(request, actor=actor, serves=serves)
        # Of one deployment the first "it is live" counts: what is sent again may differ in its time.
        created = recorded is Recorded.CREATED
        return Reply(status=201 if created else 200, told={"id": watch.id, "sentence": watch.sentence})

    def _anew(self, request: DeployRequest) -> DeployRequest:
        """The same id while its watch goes on; a new one for a roll-out after that, or after another one's."""
        newest = self._newest(request.service, request.environment)
        if newest is not None and _is_of(newest.id, request.id) and newest.state not in FINAL:
            return request.model_copy(update={"id": newest.id})
        number = 1
        name = request.id
        while name is not None and self.ledger.watch(name) is not None:
            number += 1
            name = f"{request.id}+{number}"
        return request.model_copy(update={"id": name})

    def answer(self, asked: Asked) -> Reply:
        """Answer with 200 for yes and 409 for no; where nobody told of the deploy, with what does no harm."""
        if self.is_elsewhere(asked.service, asked.environment):
            return self._reply(asked, Gate(word=Word.GO, why=f"the environment {asked.environment!r} is not watched"))
        watch = self._newest(asked.service, asked.environment)
        if watch is not None and not (_is_of(watch.id, asked.deploy_id) or watch.deploy.version == asked.version):
            watch = None
        found = self.gate_of(watch) if watch is not None else Gate(word=Word.ASK, why=_NOT_TOLD)
        return self._reply(asked, found, watch)

    @staticmethod
    def _reply(asked: Asked, found: Gate, watch: Watch | None = None) -> Reply:
        yes = found.word in _YES[asked.question]
        told = {"question": asked.question.value, "yes": yes, "gate": found.word.value, "sentence": found.why}
        return Reply(status=200 if yes else 409, told={**told, "id": watch.id if watch is not None else None})

    def gate_of(self, watch: Watch) -> Gate:
        """What may be done with a deploy now."""
        alerts = firing(self.ledger.audit(watch.id), watch.deploy.deployed_at) if watch.state not in FINAL else ()
        return gate(watch, alerts, self.clock.now())

    def find(self, service: str, version: str | None, environment: str | None) -> Watch | None:
        """The newest deploy of a service, or of one version of it."""
        found = self.ledger.watches(service=service, environment=environment, limit=_LATEST)
        return next((watch for watch in found if version in (None, watch.deploy.version)), None)

    def end(self, told: EndTold, *, actor: str) -> Reply:
        """Stop watching what its own system has ended; what goes back already goes on to be verified."""
        watch = self._newest(told.service, told.environment)
        if (
            watch is None
            or not _is_of(watch.id, told.deploy_id)
            or watch.state not in (State.SMOKE, State.WATCHING, State.HELD)
        ):
            return Reply(status=200, told={"ignored": f"{told.why}; nothing of it is being watched"})
        try:
            watch = self.desk.cancel(watch.id, actor=actor, why=told.why)
        except (RefusedError, ConflictError) as error:  # it ended in the same moment
            return Reply(status=200, told={"ignored": error.message})
        return Reply(status=200, told={"id": watch.id, "sentence": watch.sentence})

    def alerts(self, told: AlertsTold, *, actor: str) -> Reply:
        """Write alerts down where their service is being watched."""
        written: list[str] = []
        for service, environment in sorted({(a.service, a.environment or "") for a in told.alerts}):
            mine = [a for a in told.alerts if (a.service, a.environment or "") == (service, environment)]
            place = environment or None
            watched = self.ledger.watches(service=service, environment=place, states=_ACTIVE)
            written += [watch.id for watch in watched if self._note(watch, mine, actor)]
        return Reply(status=200, told={"deploys": written, "unrelated": told.unrelated})

    def _note(self, watch: Watch, alerts: list[Alert], actor: str) -> bool:
        """Whether anything was new. The watch may move in the same moment: it is read again."""
        current: Watch | None = watch
        for _ in range(_TRIES):
            if current is None or current.state in FINAL:
                return False
            change = noted(current, alerts, self.ledger.audit(watch.id), actor=actor, now=self.clock.now())
            if change is None:
                return False
            if self.ledger.commit(change):
                return True
            current = self.ledger.watch(watch.id)
        raise ConflictError("the deploy changed too often in the same moment; send it again")

    def _newest(self, service: str, environment: str | None) -> Watch | None:
        place = environment or self.environments.get(service)
        return next(iter(self.ledger.watches(service=service, environment=place, limit=1)), None)


def _is_of(watch_id: str, deploy_id: str | None) -> bool:
    """Whether a watch is of this deploy, or of a later roll-out of the same."""
    if deploy_id is None or not watch_id.startswith(deploy_id):
        return False
    rest = watch_id.removeprefix(deploy_id)
    return not rest or (rest[0] == "+" and rest[1:].isdigit())
