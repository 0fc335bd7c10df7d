"""Both databases that a ledger can live in."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests import servers

BACKENDS = ("sqlite", "postgresql")
NewHome = Callable[[str], str]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.PostgresServer]:
    """One PostgreSQL for all tests of a run; every test has a schema of its own in it."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def new_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewHome:
    """Makes places for new ledgers; PostgreSQL is started by the first one that asks for it."""
    numbers = itertools.count(1)

    def make(backend: str) -> str:
        if backend == "sqlite":
            return str(tmp_path_factory.mktemp("ledger") / "w.db")
        server: servers.PostgresServer = request.getfixturevalue("postgres_server")
        return server.new_schema(f"ledger{next(numbers)}")

    return make


@pytest.fixture(scope="session")
def one_schema(new_home: NewHome) -> str:
    """A schema for test after test: making one takes longer than most tests do."""
    return new_home("postgresql")


@pytest.fixture(params=BACKENDS)
def home(request: pytest.FixtureRequest, new_home: NewHome) -> str:
    """The address of an empty ledger, once in each database."""
    if request.param == "sqlite":
        return new_home("sqlite")
    address: str = request.getfixturevalue("one_schema")
    server: servers.PostgresServer = request.getfixturevalue("postgres_server")
    server.empty_schema(address.rpartition("%3D")[2])
    return address


@pytest.fixture(scope="module", params=BACKENDS)
def shared_home(request: pytest.FixtureRequest, new_home: NewHome) -> str:
    """The same for a whole file of tests."""
    return new_home(request.param)
