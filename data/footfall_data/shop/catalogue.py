"""Catalogue of a simulated shop: items with titles, prices, popularity, arrival, and what goes with what."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

NOUNS = {
    "kitchen": ("teapot", "mug", "bowl", "cutting board", "jug", "colander", "cake tin", "apron"),
    "bath": ("towel", "soap dish", "bath mat", "sponge", "mirror", "hamper", "robe", "shelf"),
    "garden": (
        "lantern",
        "planter",
        "trowel",
        "bird feeder",
        "watering can",
        "bench",
        "trellis",
        "hose reel",
    ),
    "office": ("notebook", "desk lamp", "pen pot", "letter tray", "calendar", "stapler", "ruler", "folder"),
    "toys": ("train set", "puzzle", "kite", "doll", "top", "building blocks", "skipping rope", "puppet"),
    "textiles": ("cushion", "throw", "tablecloth", "curtain", "rug", "napkin set", "quilt", "doorstop"),
    "lighting": (
        "candle",
        "fairy lights",
        "table lamp",
        "night light",
        "tea light holder",
        "shade",
        "torch",
        "sconce",
    ),
    "travel": (
        "backpack",
        "water bottle",
        "umbrella",
        "wash bag",
        "luggage tag",
        "blanket",
        "flask",
        "wallet",
    ),
    "sport": ("yoga mat", "skittles", "racket", "gym bag", "jump ball", "swim cap", "whistle", "frisbee"),
    "party": (
        "bunting",
        "balloon set",
        "paper plates",
        "garland",
        "gift box",
        "card set",
        "ribbon",
        "cake stand",
    ),
    "music": ("ukulele", "tambourine", "record stand", "headphones", "speaker", "harmonica", "drum", "bell"),
    "pets": (
        "dog bed",
        "cat tree",
        "lead",
        "food bowl",
        "pet blanket",
        "scratching post",
        "collar",
        "carrier",
    ),
}
MATERIALS = (
    "oak",
    "enamel",
    "linen",
    "ceramic",
    "bamboo",
    "copper",
    "wool",
    "glass",
    "cork",
    "felt",
    "steel",
    "jute",
)
ADJECTIVES = ("red", "vintage", "striped", "large", "small", "folding", "dotted", "blue", "rustic", "classic")
ZIPF_EXPONENT = 1.0
NUM_FOLLOWERS = 4
TITLE_STRIDE = 367
"""Prime, so that numbers in turn get unlike titles and no title comes twice."""
SHARE_AT_START = 0.7


@dataclass(frozen=True)
class Catalogue:
    """Items in order of arrival, so that those on offer at a time are the first so many.

    category int64 [items]; weight float64 [items] (popularity); arrival float64 [items], share of the simulated
    span; follower int64 [items, NUM_FOLLOWERS]: what tends to be looked at next.
    """

    category: NDArray[np.int64]
    weight: NDArray[np.float64]
    arrival: NDArray[np.float64]
    follower: NDArray[np.int64]
    price: NDArray[np.float64]

    @classmethod
    def draw(cls, num_items: int, random: np.random.Generator) -> "Catalogue":
        category = random.integers(len(NOUNS), size=num_items)
        weight = random.permutation(np.arange(1, num_items + 1) ** -ZIPF_EXPONENT)
        late = random.random(num_items) >= SHARE_AT_START
        arrival = np.sort(np.where(late, random.random(num_items), 0.0))
        # What follows lies in the same category, or in the one that goes with it.
        shift = random.integers(2, size=(num_items, NUM_FOLLOWERS))
        wanted = (category[:, None] + shift) % len(NOUNS)
        shelves = Shelves.of(category, weight)
        follower = shelves.pick(wanted.ravel(), random.random(num_items * NUM_FOLLOWERS))
        price = np.round(np.exp(random.normal(2.2, 0.8, num_items)), 2)
        return cls(category, weight, arrival, follower.reshape(num_items, NUM_FOLLOWERS), price)

    def on_offer(self, now: float) -> "Shelves":
        """The items that have arrived by `now`, a share of the span."""
        count = int(np.searchsorted(self.arrival, now, side="right"))
        return Shelves.of(self.category[:count], self.weight[:count])

    def item_ids(self) -> pl.Series:
        return pl.Series([f"I{number:06d}" for number in range(len(self.category))])

    def table(self) -> pl.DataFrame:
        """item_id, title, category, price; every title once."""
        names = list(NOUNS)
        titles = [
            _title(names[kind], number)
            for kind, number in zip(self.category, _places(self.category), strict=True)
        ]
        return pl.DataFrame(
            {
                "item_id": self.item_ids(),
                "title": titles,
                "category": [names[kind] for kind in self.category.tolist()],
                "price": self.price,
            }
        )


@dataclass(frozen=True)
class Shelves:
    """The items on offer by category, ready to draw from by popularity."""

    item: NDArray[np.int64]
    cumulative: NDArray[np.float64]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, category: NDArray[np.int64], weight: NDArray[np.float64]) -> "Shelves":
        item = np.argsort(category, kind="stable")
        cumulative = np.concatenate([[0.0], np.cumsum(weight[item])])
        return cls(item, cumulative, np.searchsorted(category[item], np.arange(len(NOUNS) + 1)))

    def pick(self, category: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """One item of each category asked for, by popularity; `uniform` float64 in [0, 1)."""
        low, high = self.cumulative[self.start[category]], self.cumulative[self.start[category + 1]]
        place = np.searchsorted(self.cumulative, low + uniform * (high - low), side="right") - 1
        items: NDArray[np.int64] = self.item[np.minimum(place, len(self.item) - 1)]
        return items

    def __len__(self) -> int:
        return len(self.item)


def _places(category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each item's number within its category, from 0."""
    order = np.argsort(category, kind="stable")
    first = np.searchsorted(category[order], category[order])
    places = np.empty(len(category), dtype=np.int64)
    places[order] = np.arange(len(category)) - first
    return places


def _title(category: str, number: int) -> str:
    """Adjective, material and noun; where these run out, a number."""
    nouns = NOUNS[category]
    combinations = len(nouns) * len(MATERIALS) * len(ADJECTIVES)
    again, place = divmod(number, combinations)
    place = place * TITLE_STRIDE % combinations
    adjective, material = (
        ADJECTIVES[place % len(ADJECTIVES)],
        MATERIALS[place // len(ADJECTIVES) % len(MATERIALS)],
    )
    noun = nouns[place // (len(ADJECTIVES) * len(MATERIALS))]
    return f"{adjective} {material} {noun}" + (f" no. {again + 1}" if again else "")
