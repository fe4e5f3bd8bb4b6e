"""A seeded generator of a small shop: taste, sessions, funnels, repeat purchases, trends, and some dirt.

Every product belongs to a theme (what it looks like) and a kind (what it is for); its title and description say so in
words. A user likes a few themes and kinds, so a model that reads text can place a product that nobody has bought yet.
Events are drawn session by session and written as they are drawn: memory does not grow with their number.
"""

import datetime as dt
import math
import random
from bisect import bisect
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.data.writer import TableWriter, write_dataset
from schema import names

THEMES: dict[str, tuple[str, ...]] = {
    "coastal": ("driftwood", "seashell", "harbour", "lighthouse", "sailcloth"),
    "forest": ("oak leaf", "fern", "moss", "pinecone", "woodland fox"),
    "alpine": ("edelweiss", "ski lodge", "glacier", "mountain goat", "snowflake"),
    "desert": ("cactus", "terracotta", "sand dune", "agave", "sunset"),
    "nordic": ("birch", "reindeer", "fjord", "hygge", "northern light"),
    "japanese": ("cherry blossom", "indigo wave", "bamboo", "crane", "bonsai"),
    "vintage": ("typewriter", "gramophone", "lace", "sepia", "apothecary"),
    "industrial": ("iron pipe", "concrete", "rivet", "workshop", "filament"),
    "cosmic": ("nebula", "moon phase", "comet", "constellation", "saturn"),
    "garden": ("lavender", "honeybee", "rose", "wildflower", "hedgehog"),
    "circus": ("big top", "trapeze", "elephant", "carousel", "stripe"),
    "gothic": ("raven", "cathedral", "velvet", "candelabra", "gargoyle"),
    "tropical": ("pineapple", "palm", "parrot", "hibiscus", "lagoon"),
    "literary": ("quill", "library", "poet", "manuscript", "bookworm"),
    "retro gaming": ("pixel", "arcade", "joystick", "dragon quest", "cartridge"),
    "culinary": ("olive", "lemon", "chilli", "saffron", "fig"),
}
# kind -> (what it is for, typical price, is it used up and bought again)
KINDS: dict[str, tuple[str, float, bool]] = {
    "mug": ("for slow mornings and hot drinks", 9.0, False),
    "candle": ("for calm evenings", 12.0, True),
    "cushion": ("for sofas and reading corners", 24.0, False),
    "notebook": ("for plans, lists and sketches", 7.0, True),
    "lamp": ("for warm light on a desk", 45.0, False),
    "tea blend": ("for the pot, loose leaf", 8.0, True),
    "poster": ("for bare walls", 15.0, False),
    "blanket": ("for cold nights", 39.0, False),
    "soap": ("for the bathroom, handmade", 6.0, True),
    "tote bag": ("for markets and books", 14.0, False),
    "vase": ("for cut flowers", 22.0, False),
    "jigsaw puzzle": ("for rainy weekends", 18.0, False),
    "coffee beans": ("for espresso and filter", 11.0, True),
    "apron": ("for cooks and bakers", 21.0, False),
    "greeting card": ("for birthdays and thanks", 3.5, True),
    "wall clock": ("for kitchens", 33.0, False),
    "socks": ("for cold floors", 9.5, False),
    "planter": ("for herbs and succulents", 17.0, False),
    "backpack": ("for commutes and day trips", 52.0, False),
    "doormat": ("for the front step", 19.0, False),
    "chocolate bar": ("for sharing, or not", 4.5, True),
    "bookend": ("for full shelves", 26.0, False),
    "umbrella": ("for wet days", 23.0, False),
    "board game": ("for four friends and a table", 34.0, False),
    "tea towel": ("for drying dishes", 8.5, False),
}
STYLES = ("classic", "handmade", "slim", "oversized", "limited", "everyday", "recycled", "hand-painted")
COLOURS = ("slate", "amber", "teal", "ivory", "crimson", "olive green", "charcoal", "blush")

# Shares of rows; together a few per cent, as real logs have them.
_DIRT = {"without a user": 0.01, "written twice": 0.015, "of an unknown event": 0.003, "without an item": 0.003}


@dataclass(frozen=True)
class _Product:
    item_id: str
    theme: int
    kind: int
    title: str
    description: str
    price: float
    launch_day: int


@dataclass
class _User:
    user_id: str
    themes: Sequence[float]  # cumulative weights
    kinds: Sequence[float]  # cumulative weights
    bought: deque[_Product]  # the latest things that are used up


def write_sample(
    out: str, events: int = 60_000, users: int = 1_500, products: int = 2_000, days: int = 56, seed: int = 1
) -> Counter[str]:
    """Writes a generated shop: daily folders of events, and its catalog.

    Args:
      out: folder that gets `behaviors/` and `catalog/`.
      events: about how many rows the log gets.
      users, products, days: size of the shop.
      seed: the same arguments and seed give the same files.

    Returns:
      What was written, dirt included: label -> rows.

    Raises:
      InputError: `out` is taken.
    """
    rng = random.Random(seed)
    catalog = list(_products(rng, products, days))
    with write_dataset(out) as writer:
        shop = _Shop(rng, catalog, users, days)
        for day in range(days):
            while writer.counts["behaviors written"] < events * (day + 1) / days:
                for row in shop.session(day):
                    _write_with_dirt(writer, row, rng)
        writer.catalog(
            {
                names.ITEM_ID: p.item_id,
                names.TITLE: p.title,
                names.DESCRIPTION: p.description,
                names.CATEGORY: f"{list(THEMES)[p.theme]}{names.CATEGORY_SEPARATOR}{list(KINDS)[p.kind]}",
                names.PRICE: f"{p.price:.2f}",
            }
            for p in catalog
        )
        return writer.counts


def _products(rng: random.Random, count: int, days: int) -> Iterator[_Product]:
    themes, kinds = list(THEMES), list(KINDS)
    for number in range(count):
        theme, kind = number % len(themes), (number // len(themes)) % len(kinds)
        word, style, colour = rng.choice(THEMES[themes[theme]]), rng.choice(STYLES), rng.choice(COLOURS)
        purpose, price, _ = KINDS[kinds[kind]]
        yield _Product(
            item_id=f"P{number:06d}",
            theme=theme,
            kind=kind,
            title=f"{style.capitalize()} {word} {kinds[kind]}",
            description=(
                f"{_article(style)} {style} {kinds[kind]} in {colour}, {purpose}. "
                f"{themes[theme].capitalize()} design with {word} details."
            ),
            price=round(price * math.exp(rng.gauss(0, 0.3)), 2),
            # One product in ten comes out while the log runs.
            launch_day=rng.randrange(days) if rng.random() < 0.1 else 0,
        )


def _article(word: str) -> str:
    return "An" if word[0] in "aeiou" else "A"


class _Shop:
    """Draws sessions: who comes, what they look at, what they buy."""

    _START = dt.datetime(2025, 1, 6, tzinfo=dt.timezone.utc)

    def __init__(self, rng: random.Random, catalog: Sequence[_Product], users: int, days: int):
        self._rng = rng
        self._days = days
        self._cells: dict[tuple[int, int], list[_Product]] = {}
        for product in catalog:
            self._cells.setdefault((product.theme, product.kind), []).append(product)
        self._all = catalog
        self._users = [self._user(number) for number in range(users)]
        # Few users come often, most come rarely.
        self._visits = list(accumulate(1 / (rank + 10) ** 0.8 for rank in range(users)))
        self._phases = [rng.random() * 2 * math.pi for _ in THEMES]

    def _user(self, number: int) -> _User:
        return _User(
            user_id=f"U{number:06d}",
            themes=self._taste(len(THEMES), 3),
            kinds=self._taste(len(KINDS), 5),
            bought=deque(maxlen=5),
        )

    def _taste(self, options: int, liked: int) -> list[float]:
        weights = [0.15] * options
        for strength, option in enumerate(self._rng.sample(range(options), liked), start=1):
            weights[option] += 6.0 / strength
        return list(accumulate(weights))

    def session(self, day: int) -> Iterator[dict[str, Any]]:
        """The events of one visit on a day."""
        rng = self._rng
        user = self._users[bisect(self._visits, rng.random() * self._visits[-1])]
        hour = min(23.9, max(0.0, rng.gauss(15, 4)))
        moment = self._START.timestamp() + day * 86_400 + hour * 3_600
        if user.bought and rng.random() < 0.15:  # something is used up
            yield from self._funnel(user, rng.choice(user.bought), moment, repeat=True)
        for _ in range(1 + min(11, int(rng.expovariate(0.35)))):
            product = self._pick(user, day)
            moment += rng.expovariate(1 / 45)
            yield from self._funnel(user, product, moment, repeat=False)

    def _pick(self, user: _User, day: int) -> _Product:
        rng = self._rng
        for _ in range(20):
            theme = bisect(user.themes, rng.random() * user.themes[-1])
            # A theme's season comes and goes over the weeks: out of season, half of its visits go elsewhere.
            season = 0.75 + 0.25 * math.sin(2 * math.pi * day / self._days * 1.5 + self._phases[theme])
            cell = self._cells.get((theme, bisect(user.kinds, rng.random() * user.kinds[-1])))
            if cell and rng.random() < season:
                product = cell[int(len(cell) * rng.random() ** 2)]  # the first of a cell sell most
                if product.launch_day <= day:
                    return product
        return next(p for p in iter(lambda: rng.choice(self._all), None) if p.launch_day <= day)

    def _funnel(self, user: _User, product: _Product, moment: float, repeat: bool) -> Iterator[dict[str, Any]]:
        rng = self._rng

        def row(event: str, delay: float, value: str = "", comment: str = "") -> dict[str, Any]:
            return {
                names.USER_ID: user.user_id,
                names.ITEM_ID: product.item_id,
                names.EVENT: event,
                names.TIMESTAMP: int(moment + delay),
                names.VALUE: value,
                names.COMMENT: comment,
            }

        yield row("view", 0)
        if not repeat and rng.random() > 0.45:
            return
        yield row("click", 5)
        if not repeat and rng.random() > 0.4:
            return
        yield row("cart", 20)
        if not repeat and rng.random() > 0.6:
            return
        yield row("purchase", 60, value=str(1 + int(rng.expovariate(1.2))))
        if KINDS[list(KINDS)[product.kind]][2]:
            user.bought.append(product)
        if rng.random() < 0.15:
            stars = rng.choice((3, 4, 4, 5, 5))
            yield row("rating", 900, value=str(stars))
            if rng.random() < 0.5:
                words = "Lovely, would buy again." if stars > 3 else "Smaller than I had thought."
                yield row("comment", 960, value=str(stars), comment=words)


def _write_with_dirt(writer: TableWriter, row: dict[str, Any], rng: random.Random) -> None:
    dirt = rng.choices([*_DIRT, ""], [*_DIRT.values(), 1 - sum(_DIRT.values())])[0]
    day = dt.datetime.fromtimestamp(row[names.TIMESTAMP], dt.timezone.utc).strftime("%Y-%m-%d")
    if dirt == "without a user":
        row = {**row, names.USER_ID: ""}
    elif dirt == "without an item":
        row = {**row, names.ITEM_ID: ""}
    elif dirt == "of an unknown event":
        row = {**row, names.EVENT: "hover"}
    if dirt:
        writer.counts[f"of these {dirt}"] += 1
    writer.behavior(row, day)
    if dirt == "written twice":
        writer.behavior(row, day)
