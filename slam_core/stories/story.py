"""A story by number and level: a pure function, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

from slam_core.errors import UsageError
from slam_core.stories.draw import Draw
from slam_core.stories.plots import PLOTS, Plot
from slam_core.stories.world import Cast, Seat, World

VERSION = 1  # raised when any story changes
LEVELS = (1, 2, 3)


@dataclass(frozen=True)
class Story:
    """Sentences, of which the last `ending` are the end, and ends that are wrong for a reason.

    `wrong` has an end of about the same length for each kind:

    - topic: the right end of a story of other characters, things and places;
    - detail: the right end with a thing that this story does not know;
    - story: the same characters, things and places, but what the other turn would have led to.

    `facts` are the plots, the cast and which turn each plot took. `gap` counts the sentences
    between the end and the last one that the other turn would have changed.
    """

    id: str
    level: int
    sentences: tuple[str, ...]
    ending: int
    wrong: dict[str, tuple[str, ...]]
    facts: dict[str, Any]
    gap: int

    @property
    def prompt(self) -> tuple[str, ...]:
        """The sentences before the end."""
        return self.sentences[: -self.ending]

    @property
    def right(self) -> tuple[str, ...]:
        """The sentences of the end."""
        return self.sentences[-self.ending :]

    @cached_property
    def key(self) -> str:
        """A checksum of plots and cast. It leaves out the turn: a story and its contrary share it.

        Splits drawn by key have no two tellings of the same facts on different sides.
        """
        facts = {name: value for name, value in self.facts.items() if name != "turn"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class _Told(NamedTuple):
    prompt: tuple[str, ...]
    end: tuple[str, ...]
    facts: dict[str, Any]


def story(number: int, level: int) -> Story:
    """Story `number` (0, 1, 2, ...) of `level` (1, 2 or 3)."""
    if level not in LEVELS or number < 0:
        raise UsageError(f"no story {number} of level {level}: number from 0, level 1, 2 or 3")
    seed = f"stories {VERSION}\0{level}\0{number}"
    draw = Draw(seed, "plots")
    plots = _plots(draw, level)
    turns = tuple(draw.below(2) for _ in plots)
    turned = draw.below(len(plots))
    seat = Seat(seed, level)
    told = _tell(plots, turns, seat)
    other_turns = tuple(turn ^ (i == turned) for i, turn in enumerate(turns))
    contrary = _tell(plots, other_turns, seat)
    others = _plots(draw, level)
    topic = _tell(others, tuple(draw.below(2) for _ in others), replace(seat, half=1))
    detail = _tell(plots, turns, replace(seat, foreign=plots[turned].detail))
    return Story(
        id=f"l{level}-{number:06d}",
        level=level,
        sentences=told.prompt + told.end,
        ending=len(told.end),
        wrong={"topic": topic.end, "detail": detail.end, "story": contrary.end},
        facts=told.facts,
        gap=_common_tail(told.prompt, contrary.prompt),
    )


def story_of(id: str) -> Story:
    """The story of an id such as l2-000123."""
    level, _, number = id.removeprefix("l").partition("-")
    if not (id.startswith("l") and level.isdigit() and number.isdigit()):
        raise UsageError(f"{id!r} is no story: ids look like l2-000123")
    return story(int(number), int(level))


def _common_tail(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many sentences at the end of both are the same."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _plots(draw: Draw, level: int) -> tuple[Plot, ...]:
    """One plot, or at level 3 two."""
    known = [plot for plot in PLOTS if plot.level <= level]
    return tuple(draw.shuffled(known)[: 2 if level == 3 else 1])


def _tell(plots: tuple[Plot, ...], turns: tuple[int, ...], seat: Seat) -> _Told:
    """Two plots alternate scene by scene, and each has the first sentence of its end."""
    cast = Cast(seat)
    worlds = [World(cast, f"strand {i}", bool(turn)) for i, turn in enumerate(turns)]
    for plot, world in zip(plots, worlds, strict=True):
        plot.tell(world)
    scenes = max(len(world.scenes) for world in worlds)
    prompt = [s for i in range(scenes) for w in worlds for s in (w.scenes[i : i + 1] or [[]])[0]]
    end = [sentence for world in worlds for sentence in world.end[: 2 // len(worlds)]]
    facts = {"plots": [plot.name for plot in plots], **cast.facts, "turn": list(turns)}
    return _Told(tuple(prompt), tuple(end), facts)
