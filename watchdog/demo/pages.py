"""The shop's pages: what each route answers, without any HTTP framework in it."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

from watchdog.demo.orders import Orders

CATALOGUE: dict[int, tuple[str, int]] = {
    1: ("teapot", 3_450),
    2: ("cup", 890),
    3: ("saucer", 450),
    4: ("kettle", 5_900),
    5: ("strainer", 720),
    6: ("green tea", 1_150),
    7: ("black tea", 990),
    8: ("honey", 640),
}


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a page may know about a request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]


class Pages:
    """The handlers; `ROUTES` names them once for the server and the visitors."""

    def __init__(self, version: str, orders: Orders) -> None:
        self._version = version
        self._orders = orders

    def home(self, _: Visit) -> Page:
        lines = (f'<li><a href="/product/{number}">{name}</a></li>' for number, (name, _) in CATALOGUE.items())
        return Page(200, f"<h1>Tea shop {html.escape(self._version)}</h1><ul>{''.join(lines)}</ul>")

    def product(self, visit: Visit) -> Page:
        found = _product(visit.path.get("id", ""))
        if found is None:
            return Page(404, "no such product")
        return Page(200, f"<h1>{found[0]}</h1><p>{found[1] / 100:.2f}</p>")

    def cart(self, visit: Visit) -> Page:
        items = _items(visit.query.get("items", ""))
        return Page(200, f"<p>{len(items)} items, {_cents(items) / 100:.2f}</p>")

    def checkout(self, visit: Visit) -> Page:
        items = _items(visit.form.get("items", ""))
        if not items:
            return Page(400, "the cart is empty")
        number = self._orders.add(
            version=self._version,
            customer=visit.form.get("customer", "somebody")[:64],
            items=".".join(map(str, items)),
            cents=_cents(items),
        )
        return Page(201, f"order {number}")

    def search(self, visit: Visit) -> Page:
        wanted = visit.query.get("q", "").lower()
        found = [name for name, _ in CATALOGUE.values() if wanted in name]
        return Page(200, "<ul>" + "".join(f"<li>{name}</li>" for name in found) + "</ul>")

    def login(self, visit: Visit) -> Page:
        name = visit.form.get("name", "")[:64]
        return Page(200, f"hello {html.escape(name)}") if name else Page(400, "a name is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route: its method, its handler's name in `Pages`, and how long it usually takes."""

    method: str
    path: str
    handler: str
    median_s: float


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path="/", handler="home", median_s=0.008),
    Route(method="GET", path="/product/{id}", handler="product", median_s=0.010),
    Route(method="GET", path="/cart", handler="cart", median_s=0.012),
    Route(method="POST", path="/checkout", handler="checkout", median_s=0.030),
    Route(method="GET", path="/search", handler="search", median_s=0.020),
    Route(method="POST", path="/login", handler="login", median_s=0.015),
)


def _product(text: str) -> tuple[str, int] | None:
    return CATALOGUE.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _items(text: str) -> list[int]:
    parts = (part for part in text[:256].split(".") if _product(part) is not None)
    return [int(part) for part in parts]


def _cents(items: list[int]) -> int:
    return sum(CATALOGUE[item][1] for item in items)
