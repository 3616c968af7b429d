"""The world of one plot: who is in it, what is where, and what has been told.

Three properties make endings that only the beginning can judge:

- A plot forks once, at `World.twist`, a fair coin. The contradicting end of a story is the end of
  the same world with the coin turned over: each of the two is the right one in half of the worlds.
- Every pool of the lexicon is shuffled and halved. A story casts from one half; a stranger to it
  from the other. Both halves have the same distribution.
- Wording is drawn scene by scene from streams of their own, so a turned coin or a stranger leaves
  the wording of the end as it was.

Events check the state before they change it: a character gives only what it holds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from slam_core.stories.draw import Draw
from slam_core.stories.lexicon import (
    ASIDES,
    COLOURS,
    KINDS,
    NAMES,
    PLACES,
    THINGS,
    Place,
    Pool,
)

T = TypeVar("T")

IDLE = (0.15, 0.35, 0.1)  # chance that a scene begins with something that does not matter, by level


class Character(NamedTuple):
    name: str
    girl: bool
    kind: str

    def __str__(self) -> str:
        return self.name

    @property
    def he(self) -> str:
        return "she" if self.girl else "he"

    @property
    def him(self) -> str:
        return "her" if self.girl else "him"

    @property
    def his(self) -> str:
        return "her" if self.girl else "his"


class Thing(NamedTuple):
    noun: str
    colour: str

    def __str__(self) -> str:
        return f"{self.colour} {self.noun}"


Spot = Character | Place


@dataclass(frozen=True)
class Seat:
    """Where a world draws from: the seed, and what differs between a story and its wrong ends."""

    seed: str
    level: int
    half: int = 0
    foreign: str = ""  # the pool that is drawn from the other half
    orders: dict[str, list[Any]] = field(default_factory=dict)  # of the pools, once shuffled

    def order(self, pool: Pool[T]) -> list[T]:
        """The half of the pool that is drawn from, in the order of drawing."""
        if pool.name not in self.orders:
            entries = pool.at(self.level)
            self.orders[pool.name] = Draw(self.seed, pool.name).shuffled(entries)
        return self.orders[pool.name][self.half ^ (pool.name == self.foreign) :: 2]


class Cast:
    """Draws from the pools without repetition; the facts are what the plots drew."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.facts: dict[str, list[Any]] = {}
        self._waiting: dict[str, Iterator[Any]] = {}
        self.first: Character | None = None  # who was introduced first

    def next(self, pool: Pool[T]) -> T:
        if pool.name not in self._waiting:
            self._waiting[pool.name] = itertools.cycle(self.seat.order(pool))
        entry: T = next(self._waiting[pool.name])
        return entry


class World:
    """What a plot is told with."""

    def __init__(self, cast: Cast, strand: str, twist: bool) -> None:
        self.cast = cast
        self.level = cast.seat.level
        self.twist = twist
        self.scenes: list[list[str]] = [[]]
        self.end: list[str] = []
        self._strand = strand
        self._told = self.scenes[0]
        self._where: dict[Thing, Spot] = {}
        self._wording = self._stream("scene 0")

    def _stream(self, what: str) -> Draw:
        return Draw(self.cast.seat.seed, self._strand, what)

    # Who and what

    def new(self, pool: Pool[T]) -> T:
        """An entry that is not in the story yet; it becomes one of the facts."""
        entry = self.cast.next(pool)
        self.cast.facts.setdefault(pool.name, []).append(entry)
        return entry

    def character(self, kind: str = "") -> Character:
        """Somebody new; a girl or a boy in half of the cases unless `kind` is given."""
        name, girl = self.new(NAMES)
        if not kind and self._stream(f"kind of {len(self.cast.facts['names'])}").chance(0.5):
            kind = self.new(KINDS)
        return Character(name, girl, kind or ("girl" if girl else "boy"))

    def thing(self) -> Thing:
        """A new thing in a new colour."""
        return Thing(self.new(THINGS), self.new(COLOURS))

    def either(self, x: T, y: T) -> tuple[T, T]:
        """(x, y) or, if the coin fell so, (y, x)."""
        return (x, y) if self.twist else (y, x)

    # Telling

    def say(self, *ways: str) -> None:
        """One of `ways`, simplest first: level 1 knows two of them, level 2 three, level 3 all."""
        sentence = self._wording.choice(ways[: self.level + 1 if self.level < 3 else None])
        sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
        self._told.append(sentence[0].upper() + sentence[1:])

    def maybe(self, *ways: str) -> None:
        """Perhaps one of `ways`."""
        if self._wording.chance(0.5):
            self.say(*ways)

    def scene(self) -> None:
        """A new scene: the first sentence names whom it is about. Something idle may come first."""
        self._wording = self._stream(f"scene {len(self.scenes)}")
        self._told = []
        self.scenes.append(self._told)
        idle = self._stream(f"idle {len(self.scenes)}")
        if idle.chance(IDLE[self.level - 1]):
            self._told.append(idle.choice([s for more in ASIDES[: self.level] for s in more]))
        elif self.level > 1 and idle.chance(IDLE[self.level - 1]):
            self.passes()

    def ending(self) -> None:
        """What is told from here on is the end: a sentence that suffices, and one that adds."""
        self._wording = self._stream("end")
        self._told = self.end

    # Events

    def meet(self, a: Character, b: Character | None = None) -> None:
        """Introduce one and where it lives, or two who are friends."""
        home, near = self.new(PLACES), self.cast.first
        self.cast.first = a
        if near:
            self.say(
                f"Not far from {near}, a {a.kind} named {a} lived {home.at}.",
                f"The neighbour of {near} was {a}, a {a.kind} {home.at}.",
            )
        else:
            self.say(
                f"A {a.kind} named {a} lived {home.at}.",
                f"{a} was a little {a.kind} and lived {home.at}.",
                f"Once a {a.kind} named {a} lived {home.at}.",
                f"Long ago a {a.kind} by the name of {a} lived {home.at}.",
            )
        if b:
            self.say(
                f"{a} had a friend named {b}, a {b.kind}.",
                f"{b} the {b.kind} was a friend of {a}.",
                f"{b} was a {b.kind}, and {a} liked {b.him} very much.",
            )

    def passes(self) -> None:
        """Somebody comes by with something, which does not matter and is no fact."""
        name, kind = self.cast.next(NAMES).name, self.cast.next(KINDS)
        thing = Thing(self.cast.next(THINGS), self.cast.next(COLOURS))
        self.say(
            f"{name} the {kind} came by with a {thing}.",
            f"{name} the {kind} carried a {thing} down the road.",
            f"{name} the {kind} showed everybody a {thing}.",
        )

    def owns(self, a: Character, thing: Thing) -> None:
        self._where[thing] = a
        self.say(
            f"{a} had a {thing}.",
            f"{a} loved {a.his} {thing}.",
            f"{a} was proud of {a.his} {thing}.",
            f"{a} had a {thing} and took good care of it.",
        )

    def moves(self, thing: Thing, old: Spot, new: Spot) -> None:
        """`thing` goes from `old` to `new`, told elsewhere."""
        if self._where.setdefault(thing, old) != old:
            raise ValueError(f"the {thing} is not with {old} but with {self._where[thing]}")
        self._where[thing] = new

    def where(self, thing: Thing) -> Any:
        """The character or place that has `thing`."""
        return self._where[thing]
