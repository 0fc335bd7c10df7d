"""Deploys as frames, from a daemon's ledger or from recorded cases, read-only."""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.result import Arm, Kind, MetricSpec
from analysis.review.case_folder import CaseFolder
from analysis.review.database import is_ledger
from analysis.review.nouns import Store, Stored
from analysis.review.stored_ledger import StoredLedger

SLOW_PART = 0.9  # latency is shown as the share of requests slower than the old version's 90th percentile


class Ledger:
    """Deploys, their samples and what came of them, as frames that are read when they are asked for.

    `columns.COLUMNS` says what stands in each, with units. A daemon may be writing to the ledger meanwhile; asking
    again shows what is new.

    Parameters
    ----------
    stores
        Where the deploys are; an id may be in one of them only.
    only
        The deploys that are shown; all by default. See `select`.
    """

    def __init__(self, stores: Iterable[Store], only: list[str] | None = None) -> None:
        self._stores = tuple(stores)
        self._only = only

    def __repr__(self) -> str:
        return f"<ledger of {len(self.deploys)} deploys>"

    def _joined(self, ask: Callable[[Store], pd.DataFrame]) -> pd.DataFrame:
        parts = [ask(store) for store in self._stores]
        filled = [part for part in parts if len(part)] or parts[:1]
        if len(filled) == 1:
            return filled[0]
        return pd.concat(filled, ignore_index=filled[0].index.name is None and filled[0].index.nlevels == 1)

    @property
    def deploys(self) -> pd.DataFrame:
        """One row per deploy, oldest first, indexed by id: what it was, what became of it, what it cost."""
        found = self._joined(lambda store: store.deploys(self._only))
        if not found.index.is_unique:
            twice = found.index[found.index.duplicated()][0]
            raise ValueError(f"the deploy {twice!r} is in two of the ledgers; open them one by one")
        return found.sort_values("deployed_at", kind="stable") if len(self._stores) > 1 else found

    @property
    def samples(self) -> pd.DataFrame:
        """One row per (deploy, metric, interval, arm, replica, stratum, le): every stored value."""
        return self._joined(lambda store: store.samples(self._only))

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per (deploy, look): the judge's word and the evidence behind it."""
        return self._joined(lambda store: store.verdicts(self._only))

    @property
    def evidence(self) -> pd.DataFrame:
        """One row per (deploy, metric), of each deploy's last verdict: effect with interval, numbers behind it."""
        return self._joined(lambda store: store.evidence(self._only))

    @property
    def actions(self) -> pd.DataFrame:
        """One row per intended production change."""
        return self._joined(lambda store: store.actions(self._only))

    @property
    def labels(self) -> pd.DataFrame:
        """One row per labelled deploy: what an analyst said of its verdict."""
        return self._joined(lambda store: store.labels(self._only))

    @property
    def audit(self) -> pd.DataFrame:
        """Who did what and why, in order."""
        return self._joined(lambda store: store.audit(self._only))

    def select(self, deploys: str | Iterable[str] | pd.DataFrame) -> "Ledger":
        """The same ledger, restricted to some deploys: an id, ids, or rows of `deploys`.

        >>> ledger.select(ledger.deploys.query("service == 'checkout'")).verdicts  # doctest: +SKIP
        """
        if isinstance(deploys, str):
            return Ledger(self._stores, [deploys])
        return Ledger(
            self._stores, [str(name) for name in (deploys.index if isinstance(deploys, pd.DataFrame) else deploys)]
        )

    # --- one deploy -----------------------------------------------------------------------------------------

    def stored(self, deploy: str) -> Stored:
        """What the judge was told about one deploy (KeyError)."""
        return self._home(deploy).stored(deploy)

    def paths(self, deploy: str) -> pd.DataFrame:
        """The evidence of each metric after every look, in ln; metrics as columns."""
        return self._home(deploy).paths(deploy)

    def queries(self, deploy: str) -> pd.DataFrame:
        """What was asked of the source for the newest interval, one row per metric."""
        return self._home(deploy).queries(deploy)

    def levels(self, deploy: str, metric: str) -> pd.DataFrame:
        """One metric per interval, one column per arm: bad share, rate, share of slow requests, share of events with a
        label that the candidate alone shows, or mean level.
        """
        kind = self.spec(deploy, metric).kind
        rows = self.select(deploy).samples
        mine = rows[rows["metric"] == metric]
        if kind in (Kind.GAUGE, Kind.TREND):
            return mine.pivot_table(index="at_s", columns="arm", values="value", aggfunc="mean")
        if kind is Kind.LATENCY:
            mine = _slow(mine)
        elif kind is Kind.LABELS:
            mine = _never_shown(mine)
        value = mine.pivot_table(index="at_s", columns="arm", values="value", aggfunc="sum")
        total = mine.pivot_table(index="at_s", columns="arm", values="total", aggfunc="sum")
        return value / total.where(total > 0)

    def spec(self, deploy: str, metric: str) -> MetricSpec:
        """What the judge was told about one metric (KeyError)."""
        specs = {spec.name: spec for spec in self.stored(deploy).observation.metrics}
        if metric not in specs:
            raise KeyError(f"{deploy!r} has no metric {metric!r}; it has {', '.join(specs)}")
        return specs[metric]

    @cached_property
    def _homes(self) -> dict[str, Store]:
        return {}

    def _home(self, deploy: str) -> Store:
        """The store that has this deploy; a deploy stays where it is."""
        if len(self._stores) == 1:
            return self._stores[0]
        if deploy not in self._homes:
            homes = [store for store in self._stores if len(store.deploys([deploy]))]
            if not homes:
                raise KeyError(f"the ledgers know nothing of {deploy!r}")
            self._homes[deploy] = homes[0]
        return self._homes[deploy]


def slow_bound(cells: pd.DataFrame) -> float:
    """The bucket bound just above the old version's 90th percentile, as the blast radius counts slow requests: of the
    bounds that the new version has too, where there is one."""
    is_new = cells["arm"] == Arm.CANDIDATE.value
    under = cells[~is_new].groupby("le")["value"].sum()
    above = under[(under >= SLOW_PART * under.get(float("inf"), float("nan"))) & (under.index < float("inf"))]
    above = above[above.index.isin(cells[is_new]["le"])] if is_new.any() else above
    return float(above.index.min()) if len(above) else float("inf")


def _slow(cells: pd.DataFrame) -> pd.DataFrame:
    """Requests slower than `slow_bound`, of all requests."""
    place = ["at_s", "arm", "replica", "stratum"]
    everything = cells[cells["le"] == float("inf")].set_index(place)["value"]
    at_bound = cells[cells["le"] == slow_bound(cells)].set_index(place)["value"]
    return pd.DataFrame({"value": everything - at_bound, "total": everything}).reset_index()


def _never_shown(cells: pd.DataFrame) -> pd.DataFrame:
    """Events with a label value that the candidate alone shows, of all events; all values' rows have the same total."""
    shown = cells[cells["value"] > 0].groupby("stratum")["arm"].agg(set)
    new = shown.index[[arms == {Arm.CANDIDATE.value} for arms in shown]]
    place = ["at_s", "arm", "replica"]
    value = cells["value"].where(cells["stratum"].isin(new), 0.0).groupby([cells[name] for name in place]).sum()
    return pd.DataFrame({"value": value, "total": cells.groupby(place)["total"].max()}).reset_index()


def open_ledger(*places: str | Path) -> Ledger:
    """Open ledgers for reading; several together are read as one.

    Parameters
    ----------
    places
        ``sqlite:///watchdog.db`` or the file's path, ``postgresql://USER@HOST/DATABASE``, or a folder: one with
        cases.json is a case folder, any other one stands for the ledgers (``*.db``) in it and in its folders.

    Raises
    ------
    FileNotFoundError
        There is nothing at one of these places.
    """
    if not places:
        raise TypeError("name at least one ledger")
    return Ledger([store for place in places for store in _stores(str(place))])


def _stores(place: str) -> list[Store]:
    folder = Path(place)
    if "://" in place or not folder.is_dir():
        return [StoredLedger(place)]
    if (folder / "cases.json").exists():
        return [CaseFolder(folder)]
    files = [file for file in sorted([*folder.glob("*.db"), *folder.glob("*/*.db")]) if is_ledger(file)]
    if not files:
        raise FileNotFoundError(f"{folder} has neither cases.json nor a ledger (*.db) in it")
    return [StoredLedger(str(file)) for file in files]


def row_of(ledger: Ledger, deploy: str) -> dict[str, Any]:
    """One deploy's row (KeyError)."""
    found = ledger.select(deploy).deploys
    if not len(found):
        raise KeyError(f"the ledger knows nothing of {deploy!r}")
    return {str(name): value for name, value in found.iloc[0].items()}
