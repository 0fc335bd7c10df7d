"""Which deploys there were: what a table says, and what the traffic of versions shows."""

from pathlib import Path

import pytest

from watchdog.cli.live_past import seconds
from watchdog.errors import WatchdogError
from watchdog.past import read_deploys
from watchdog.past.deploys import PastDeploy, Versions, _begun, completed


def versions(**served: tuple[int, int]) -> Versions:
    """Each version served 10 requests in every interval from one to before the other."""
    table = {name: dict.fromkeys(range(begin, end), 10.0) for name, (begin, end) in served.items()}
    return Versions(0.0, 300.0, max(end for _, end in served.values()), table)


def test_a_version_that_begins_beside_another_is_a_deploy() -> None:
    """The first there was is none, and one that was only silent for a while was not deployed again."""
    found = versions(v1=(0, 50), v2=(40, 200), v3=(150, 160))
    served = {**found.served, "v2": {at: 10.0 for at in range(40, 200) if not 100 <= at < 120}}
    assert list(_begun(Versions(0.0, 300.0, 200, served))) == [(40, "v2", "v1"), (150, "v3", "v2")]


def test_a_version_that_was_gone_for_long_is_deployed_again() -> None:
    """Going back by hand is a deploy too."""
    found = versions(v1=(0, 40), v2=(40, 140))
    served = {**found.served, "v1": {**found.served["v1"], **dict.fromkeys(range(140, 160), 10.0)}}
    assert list(_begun(Versions(0.0, 300.0, 160, served))) == [(40, "v2", "v1"), (140, "v1", "v2")]


def test_what_a_deploy_replaced_is_what_served_before() -> None:
    """Unless it is told; without traffic it is the deploy before it in the table."""
    deploys = [PastDeploy(at=at, version=name, previous_version=None, found_in="file") for at, name in told()]
    served = versions(v1=(0, 60), v3=(30, 90))
    assert [one.previous_version for one in completed(deploys, None)] == [None, "v2"]
    assert [one.previous_version for one in completed(deploys, served)] == ["v1", "v1"]


def told() -> list[tuple[float, str]]:
    return [(3000.0, "v2"), (9000.0, "v3")]


def test_a_table_is_read_in_order_of_time(tmp_path: Path) -> None:
    """Unix seconds and ISO 8601; lines about other services are left out."""
    rows = "time,version,service,share\n2024-05-01T12:00:00Z,v2,shop,0.1\n1714500000,v1,,\n2024-05-02 12:00,x,other,\n"
    (tmp_path / "deploys.csv").write_text(rows)
    found = read_deploys(tmp_path / "deploys.csv", "shop")
    assert [(one.at, one.version, one.share) for one in found] == [
        (1714500000.0, "v1", None),
        (1714564800.0, "v2", 0.1),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version\nv1\n", "expected a first line such as time,version"),
        ("time,version\n1,\n", "deploys.csv:2: version is missing"),
        ("time,version\n1,v1\nsoon,v2\n", "deploys.csv:3: time: 'soon' is no time"),
        ("time,version,share\n1,v1,2\n", "deploys.csv:2: share: '2' is no share"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """Nothing is guessed."""
    (tmp_path / "deploys.csv").write_text(text)
    with pytest.raises(WatchdogError, match=r"deploys\.csv") as caught:
        read_deploys(tmp_path / "deploys.csv", "shop")
    assert said in caught.value.message


def test_a_length_of_time_has_a_unit() -> None:
    """Days, hours and minutes; a bare number could be anything."""
    assert [seconds(text) for text in ("30d", "1.5h", "90m", "1w")] == [2592000.0, 5400.0, 5400.0, 604800.0]
    for wrong in ("30", "soon", "-1d", "0d"):
        with pytest.raises(WatchdogError, match="is no length of time"):
            seconds(wrong)
