"""Spaces as data: dotted fields of a run, each with what may be drawn for it.

The order counts: a field may depend on the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Interval(_Value):
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class Uniform(_Interval):
    """A number from `low` to `high`, of 4 significant digits; or `low` plus whole `step`s."""

    step: float | None = Field(default=None, gt=0)


class LogUniform(_Interval):
    """A positive number whose logarithm is uniform, of 4 significant digits."""

    low: float = Field(gt=0)


class Int(_Interval):
    """A whole number; both ends are in. With `log`, its logarithm is uniform."""

    low: int
    high: int
    log: bool = False


class OneOf(_Value):
    """One of some values, without an order."""

    values: tuple[bool | int | float | str | None, ...] = Field(min_length=1)


Distribution = Uniform | LogUniform | Int | OneOf


class Given(_Value):
    """What `field` drew decides the distribution; for a value that is not in `then` nothing is
    drawn and the base's stays.

    Sizes per family: `Given(field="model.family", then={"llama": OneOf(...), "qwen2": ...})`.
    """

    field: str
    then: dict[str, Distribution | Given] = Field(min_length=1)


Part = Distribution | Given
Space = Mapping[str, Part]


@dataclass(frozen=True)
class Drawn:
    """A point of a space. `params` by the name of their distribution, which for a conditional one
    is like `model.size[model.family=llama]`; `changes` by dotted field."""

    params: dict[str, Any]
    distributions: dict[str, Distribution]
    changes: dict[str, Any]


def draw(space: Space, suggest: Callable[[str, Distribution], Any]) -> Drawn:
    """A point, each value of which `suggest(name, distribution)` gives."""
    params: dict[str, Any] = {}
    distributions: dict[str, Distribution] = {}
    changes: dict[str, Any] = {}
    for field in space:
        name, part = _active(space, field, changes)
        if part is not None:
            distributions[name] = part
            changes[field] = params[name] = _rounded(suggest(name, part), part)
    return Drawn(params, distributions, changes)


def at(space: Space, chosen: Mapping[str, Any], share: float = 0.5) -> Drawn:
    """The point with these values by field, and of whatever else is drawn the first value, or that
    at a share of the way from low to high."""

    def suggest(name: str, part: Distribution) -> Any:
        field = name.partition("[")[0]
        return chosen[field] if field in chosen else _between(part, share)

    return draw(space, suggest)


def combinations(
    space: Space, options: Callable[[Distribution], Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """Every choice, by field, of what `options` offers for each distribution. A field for which it
    offers nothing is left open."""

    def walk(fields: Sequence[str], chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not fields:
            yield chosen
            return
        _, part = _active(space, fields[0], chosen)
        offered = () if part is None else options(part)
        if not offered:
            yield from walk(fields[1:], chosen)
        for value in offered:
            yield from walk(fields[1:], {**chosen, fields[0]: value})

    return walk(list(space), {})


def cells(space: Space, limit: int = 10_000) -> list[Drawn] | None:
    """Every point of a space that can be counted, up to `limit` of them; else None."""
    found: list[Drawn] = []
    for chosen in combinations(space, _counted):
        drawn = at(space, chosen)
        named = (name.partition("[")[0] for name in drawn.params)
        if len(found) == limit or not all(field in chosen for field in named):
            return None
        found.append(drawn)
    return found


def holds(space: Space, chosen: Mapping[str, Any]) -> bool:
    """Whether each of the values, by field, is one that may be drawn."""

    def may(field: str, value: Any) -> bool:
        _, part = _active(space, field, chosen)
        if isinstance(part, OneOf):
            return value in part.values
        if part is None or not isinstance(value, int | float):
            return False
        step = 1 if isinstance(part, Int) else part.step if isinstance(part, Uniform) else None
        steps = (value - part.low) / step if step else 0
        return part.low <= value <= part.high and abs(steps - round(steps)) < 1e-8

    return all(may(field, value) for field, value in chosen.items())


def depends_on(part: Part) -> Iterator[str]:
    """The fields that a part looks at."""
    if isinstance(part, Given):
        yield part.field
        for then in part.then.values():
            yield from depends_on(then)


def said(value: Any) -> str:
    """A drawn value as labels and conditions write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def _active(space: Space, field: str, chosen: Mapping[str, Any]) -> tuple[str, Distribution | None]:
    """Name and distribution of a field where the fields before it are `chosen`."""
    part: Part | None = space[field]
    conditions = []
    while isinstance(part, Given):
        value = said(chosen[part.field]) if part.field in chosen else ""
        conditions.append(f"{part.field}={value}")
        part = part.then.get(value)
    return f"{field}[{','.join(conditions)}]" if conditions else field, part


def _counted(part: Distribution) -> Sequence[Any]:
    match part:
        case OneOf():
            return part.values
        case Int():
            return range(part.low, part.high + 1)
        case Uniform(step=float(step)):
            steps = math.floor((part.high - part.low) / step + 1e-9)
            return [part.low + k * step for k in range(steps + 1)]
    return ()


def _between(part: Distribution, share: float) -> Any:
    match part:
        case OneOf():
            return part.values[0]
        case Int():
            return part.low + int((part.high - part.low) * share)
    return part.low + (part.high - part.low) * share


def _rounded(value: Any, part: Distribution) -> Any:
    """Few digits, so that ids do not hang on the last bit of a float."""
    if not isinstance(part, Uniform | LogUniform):
        return value
    stepped = isinstance(part, Uniform) and part.step is not None
    return min(max(float(f"{value:.{12 if stepped else 4}g}"), part.low), part.high)
