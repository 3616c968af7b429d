"""The words of the stories. Each pool lists what level 1 knows, then what levels 2 and 3 add.

A pool is drawn from in halves (see `world`), so level 1 needs four entries of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Pool(Generic[T]):
    """Exchangeable entries: those of level 1, and those that each further level adds."""

    name: str
    added: tuple[tuple[T, ...], ...]

    def at(self, level: int) -> list[T]:
        """What `level` knows."""
        return [entry for more in self.added[:level] for entry in more]


class Name(NamedTuple):
    name: str
    girl: bool


class Place(NamedTuple):
    noun: str
    preposition: str

    def __str__(self) -> str:
        return f"the {self.noun}"

    @property
    def at(self) -> str:
        """'in the barn'."""
        return f"{self.preposition} the {self.noun}"


class Charge(NamedTuple):
    """Something that does well if cared for."""

    noun: str
    care: str
    cared: str
    good: str
    bad: str


class Danger(NamedTuple):
    """A trouble on the way and the thing that helps against it."""

    warning: str
    item: str
    event: str
    good: str
    bad: str


class Repair(NamedTuple):
    noun: str
    trouble: str
    tool: str
    state: str


class Remedy(NamedTuple):
    ailment: str
    item: str
    relief: str


class Obstacle(NamedTuple):
    """Where a thing is stuck, and the kind of animal that can get it from there."""

    where: str
    kind: str
    ability: str
    deed: str


class Seed(NamedTuple):
    noun: str
    fruit: str


NAMES = Pool(
    "names",
    (
        (
            *(Name(name, True) for name in ("Anna", "Lily", "Mia", "Rosa", "Lucy", "Nora")),
            *(Name(name, False) for name in ("Tom", "Ben", "Max", "Sam", "Jack", "Leo")),
        ),
        (
            *(Name(name, True) for name in ("Emma", "Ruby", "Zoe", "Molly")),
            *(Name(name, False) for name in ("Tim", "Oscar", "Hugo", "Peter")),
        ),
        (
            *(Name(name, True) for name in ("Clara", "Stella", "Daisy", "Ivy")),
            *(Name(name, False) for name in ("Felix", "Victor", "Martin", "Walter")),
        ),
    ),
)

KINDS = Pool(
    "kinds",
    (
        ("fox", "rabbit", "pig", "dog", "goat", "frog"),
        ("owl", "squirrel", "hedgehog", "wolf", "hen", "pony"),
        ("robot", "lion", "monkey", "turtle", "penguin", "badger", "dragon", "beaver"),
    ),
)

THINGS = Pool(
    "things",
    (
        ("ball", "kite", "doll", "drum", "hat", "bell", "book", "ring"),
        ("mask", "whistle", "scarf", "basket", "flute", "crown", "spoon", "puppet"),
        ("necklace", "trumpet", "mirror", "lantern", "violin", "feather", "ribbon", "marble"),
    ),
)

COLOURS = Pool(
    "colours", (("red", "blue", "green", "yellow"), ("white", "brown"), ("silver", "purple"))
)

PLACES = Pool(
    "places",
    (
        (
            Place("barn", "in"),
            Place("hill", "on"),
            Place("river", "by"),
            Place("garden", "in"),
            Place("bridge", "under"),
            Place("well", "by"),
            Place("forest", "in"),
            Place("gate", "by"),
        ),
        (
            Place("mill", "in"),
            Place("meadow", "in"),
            Place("tower", "in"),
            Place("beach", "on"),
            Place("valley", "in"),
            Place("pond", "by"),
        ),
        (
            Place("market", "at"),
            Place("castle", "in"),
            Place("library", "in"),
            Place("station", "at"),
            Place("orchard", "in"),
            Place("workshop", "in"),
        ),
    ),
)

FOODS = Pool(
    "foods",
    (
        ("bread", "cake", "cheese", "nuts"),
        ("honey", "berries", "pudding", "carrots"),
        ("pancakes", "cookies", "noodles", "sandwiches"),
    ),
)

RIDES = Pool("rides", (("boat", "train", "bus", "wagon"), ("ship", "sleigh"), ("tram", "balloon")))

CHARGES = Pool(
    "charges",
    (
        (
            Charge("plant", "water", "watered", "tall and strong", "dry and thin"),
            Charge("fish", "feed", "fed", "big and fast", "small and weak"),
            Charge("fire", "watch", "watched", "warm and bright", "cold and dark"),
            Charge("horse", "brush", "brushed", "clean and happy", "dirty and sad"),
        ),
        (
            Charge("kitten", "feed", "fed", "round and lively", "thin and tired"),
            Charge("stew", "stir", "stirred", "thick and tasty", "black and burned"),
        ),
        (
            Charge("lettuce", "cover", "covered", "crisp and fresh", "eaten by snails"),
            Charge("canoe", "bail out", "bailed out", "dry and floating", "full of water"),
        ),
    ),
)

DANGERS = Pool(
    "dangers",
    (
        (
            Danger(
                "It will rain", "coat", "Soon the rain came down.", "was warm and dry", "was wet"
            ),
            Danger(
                "It will be dark",
                "lamp",
                "Soon the night came down.",
                "saw the way home",
                "was lost",
            ),
            Danger(
                "It will be cold",
                "boots",
                "Soon the snow came down.",
                "had warm feet",
                "had cold feet",
            ),
            Danger("It will be hot", "water", "Soon the sun was hot.", "felt strong", "felt weak"),
        ),
        (
            Danger(
                "There are thorns",
                "gloves",
                "Soon the thorns were all around.",
                "had safe hands",
                "had sore hands",
            ),
            Danger(
                "There are bees", "net", "Soon the bees came flying.", "was not stung", "was stung"
            ),
        ),
        (
            Danger(
                "The river is deep",
                "rope",
                "Soon the river was deep and fast.",
                "crossed safely",
                "was swept away a little",
            ),
            Danger(
                "The paths are confusing",
                "map",
                "Soon the path split in three.",
                "knew the right path",
                "took the wrong path",
            ),
        ),
    ),
)

REPAIRS = Pool(
    "repairs",
    (
        (
            Repair("chair", "had a broken leg", "hammer", "strong"),
            Repair("shirt", "had a big hole", "needle", "whole"),
            Repair("cup", "had no handle", "glue", "whole"),
            Repair("door", "made a loud noise", "oil", "quiet"),
        ),
        (
            Repair("knife", "did not cut", "stone", "sharp"),
            Repair("window", "was very dirty", "cloth", "clean"),
        ),
        (
            Repair("wheel", "had lost its air", "pump", "round"),
            Repair("wall", "had lost its colour", "paint", "pretty"),
        ),
    ),
)

REMEDIES = Pool(
    "remedies",
    (
        (
            Remedy("cold", "blanket", "warm"),
            Remedy("hungry", "soup", "full"),
            Remedy("thirsty", "milk", "fine"),
            Remedy("tired", "pillow", "rested"),
        ),
        (Remedy("hot", "fan", "cool"), Remedy("wet", "towel", "dry")),
        (Remedy("dirty", "soap", "clean"), Remedy("bored", "game", "cheerful")),
    ),
)

OBSTACLES = Pool(
    "obstacles",
    (
        (
            Obstacle("high in a tree", "cat", "could climb", "climbed up"),
            Obstacle("in the deep water", "duck", "could swim", "swam out"),
            Obstacle("in a small hole", "mouse", "was very small", "went in"),
            Obstacle("under a big stone", "bear", "was very strong", "pushed hard"),
        ),
        (
            Obstacle("deep in the sand", "mole", "could dig", "dug down"),
            Obstacle("on top of the roof", "crow", "could fly", "flew up"),
        ),
        (
            Obstacle("behind a tall fence", "kangaroo", "could jump", "jumped over"),
            Obstacle("on a high shelf", "giraffe", "was very tall", "reached up"),
        ),
    ),
)

SEEDS = Pool(
    "seeds",
    (
        (
            Seed("apple", "apples"),
            Seed("rose", "roses"),
            Seed("bean", "beans"),
            Seed("plum", "plums"),
        ),
        (Seed("pumpkin", "pumpkins"), Seed("cherry", "cherries")),
        (Seed("melon", "melons"), Seed("tulip", "tulips")),
    ),
)

# Sentences that change nothing.
ASIDES = (
    (
        "A bird sang in a tree.",
        "The sun was in the sky.",
        "The wind was warm.",
        "A bird came by.",
    ),
    (
        "A leaf fell to the ground.",
        "Far away a clock rang.",
        "A butterfly sat on a flower.",
        "It was quiet for a while.",
    ),
    (
        "Somewhere a woodpecker knocked on a trunk.",
        "A snail crept slowly along the path.",
        "Smoke rose from a chimney in the village.",
        "Two sparrows quarrelled about a crumb.",
    ),
)
