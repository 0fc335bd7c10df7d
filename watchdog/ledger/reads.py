"""What the ledger can be asked about watches: every method is one snapshot, or a part of the one that is open."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from watchdog.ledger import history, queries
from watchdog.ledger.engine import Database
from watchdog.model import State, StoredLook, Watch
from watchdog.ports import EvidencePoint, RawSamples, StoredVerdict


class Reads:
    """The reading half of the ledger, as far as watches and their looks go."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads of this thread within see one moment, and cost one transaction; a write within is not seen by them."""
        return self._database.snapshot()

    def watch(self, watch_id: str) -> Watch | None:
        with self._database.read() as connection:
            return queries.watch(connection, watch_id)

    def watches_of(self, watch_ids: Sequence[str]) -> dict[str, Watch]:
        """These watches, by id; an id that is not on record is absent."""
        with self._database.read() as connection:
            return queries.watches_of(connection, watch_ids)

    def watches(
        self,
        *,
        service: str | None = None,
        environment: str | None = None,
        states: frozenset[State] | None = None,
        limit: int = 100,
        before: float | None = None,
        before_id: str | None = None,
        services: frozenset[str] | None = None,
    ) -> list[Watch]:
        """The newest first; `before` pages on by `created_at`, with `before_id` also among equal times."""
        with self._database.read() as connection:
            return queries.find_watches(
                connection,
                service=service,
                environment=environment,
                states=states,
                limit=limit,
                before=before,
                before_id=before_id,
                services=services,
            )

    def standing(
        self,
        *,
        service: str,
        environment: str,
        states: frozenset[State],
        lately: frozenset[State] = frozenset(),
        since: float = 0.0,
    ) -> list[Watch]:
        """One place's watches in these states, those that changed `since` into one of `lately`, and its newest whatever
        its state; the newest first."""
        with self._database.read() as connection:
            return queries.standing(connection, service, environment, states, lately, since)

    def hurt(self, *, environment: str, reason: str, since: float) -> list[str]:
        """The services of which a watch that goes on has come to this reason since, in order."""
        with self._database.read() as connection:
            return queries.hurt(connection, environment, reason, since)

    def train(self, name: str, *, environment: str) -> list[Watch]:
        """One release train, in the order of its deploys."""
        with self._database.read() as connection:
            return queries.train(connection, name, environment)

    def services(self) -> list[str]:
        """Every service on record, in order."""
        with self._database.read() as connection:
            return queries.distinct(connection, "service")

    def environments(self) -> list[str]:
        """Every environment on record, in order."""
        with self._database.read() as connection:
            return queries.distinct(connection, "environment")

    def looks(self, watch_id: str, after: int | None = None) -> list[StoredLook]:
        """The closed intervals in order; with `after`, only later ones."""
        with self._database.read() as connection:
            return queries.stored_looks(connection, watch_id, after)

    def verdicts(self, watch_id: str, *, last: int | None = None) -> list[StoredVerdict]:
        """The verdicts in the order they fell; with `last`, only the newest."""
        with self._database.read() as connection:
            return queries.stored_verdicts(connection, watch_id, last)

    def metric_evidence(self, watch_id: str, *, after: int | None = None) -> Iterator[tuple[int, Mapping[str, float]]]:
        """By look, what was said of each metric."""
        with self._database.read() as connection:
            yield from history.metric_evidence(connection, watch_id, after)

    def evidence_path(self, watch_id: str) -> list[EvidencePoint]:
        """The evidence of all metrics together, look by look."""
        with self._database.read() as connection:
            return history.evidence_path(connection, watch_id)

    def last_look(self, watch_id: str) -> StoredLook | None:
        """The newest closed interval, without its cells."""
        with self._database.read() as connection:
            return history.last_look(connection, watch_id)

    def raw_samples(self, watch_id: str, *, after: int | None = None) -> Iterator[RawSamples]:
        """One by one: a long watch with wide histograms would fill much memory at once."""
        with self._database.read() as connection:
            yield from history.raw_samples(connection, watch_id, after)
