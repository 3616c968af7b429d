"""Fields that follow from others: a power law of size and data, what is left of a total.

Rules are values inside a declaration. Each sets one field of a spec that is otherwise complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from slam_core.errors import UsageError
from slam_core.spec import RunSpec, resolve
from sweeps.table import exact


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str

    def each(self) -> dict[str, Self]:
        """The rules of one value that it stands for, by what is said of them in a label."""
        return {"": self}


class _Law(_Rule):
    """`field` is `value` times what its subclass says; of several values each makes a run, whose
    label ends as in `lr~0.01`."""

    value: float | Annotated[tuple[float, ...], Field(min_length=1)]

    def each(self) -> dict[str, Self]:
        if not isinstance(self.value, tuple):
            return {"": self}
        name = self.field.rpartition(".")[2]
        return {
            f",{name}~{exact(value)}": self.model_copy(update={"value": value})
            for value in self.value
        }


class Powers(_Law):
    """A field that follows a power law of several numbers: `field = value` times the product of
    `(number / at) ** power` over `by`, which maps each number to its `(at, power)`.

    A number is one of the resolved spec (`model.width`, `model.layers`, `budget.amount`), `params`,
    the total number of parameters, or `tokens`, what the budget buys. Rounded to 3 significant
    digits, so that ids do not hang on the last bit of a power.
    """

    by: dict[str, tuple[PositiveFloat, float]] = Field(min_length=1)

    @property
    def numbers(self) -> tuple[str, ...]:
        """What the field goes by."""
        return tuple(self.by)

    def of(self, spec: RunSpec) -> RunSpec:
        """`spec` with the field set."""
        assert not isinstance(self.value, tuple)
        value = self.value
        for name, (at, power) in self.by.items():
            number = _number(spec, name)
            if number is None or number <= 0:
                raise UsageError(
                    f"scaled {self.field}: '{name}' is no positive number of a run; "
                    "use params, tokens, model.width, model.layers or budget.amount"
                )
            value *= (number / at) ** power
        return spec.but({self.field: float(f"{value:.3g}")})


class Scaled(_Law):
    """A field that follows a power law of one number: `field = value * (by / at) ** power`, as
    `Powers` has of several."""

    by: str
    at: float = Field(gt=0)
    power: float

    @property
    def numbers(self) -> tuple[str, ...]:
        """What the field goes by."""
        return (self.by,)

    def of(self, spec: RunSpec) -> RunSpec:
        """`spec` with the field set."""
        law = Powers(field=self.field, value=self.value, by={self.by: (self.at, self.power)})
        return law.of(spec)


class Complement(_Rule):
    """A field that is what others leave of a total: `field = total - sum(to)`.

    Two weights of a mix that sum to 1: `Complement(field="data.sources.1.weight",
    to=("data.sources.0.weight",))`. Rounded to 12 digits, so that 1 - 0.9 is 0.1. What must be
    positive may not be left with nothing: a pure mix is a case of its own.
    """

    to: tuple[str, ...] = Field(min_length=1)
    total: float = 1.0

    def of(self, spec: RunSpec) -> RunSpec:
        """`spec` with the field set."""
        parts = [_number(spec, field) for field in self.to]
        if None in parts:
            wrong = self.to[parts.index(None)]
            raise UsageError(f"complement {self.field}: '{wrong}' is no number of a run")
        rest = self.total - sum(part for part in parts if part is not None)
        return spec.but({self.field: float(f"{rest:.12g}")})


Rule = Powers | Scaled | Complement


def several(rules: Iterable[Rule]) -> list[str]:
    """The fields that follow laws of several values."""
    return [rule.field for rule in rules if len(rule.each()) > 1]


def ways(rules: Iterable[Rule]) -> Iterator[tuple[str, tuple[Rule, ...]]]:
    """Every choice of one value a law: what is said of it in labels, and the rules."""
    each: list[Mapping[str, Rule]] = [rule.each() for rule in rules]
    for chosen in product(*(values.items() for values in each)):
        yield "".join(said for said, _ in chosen), tuple(rule for _, rule in chosen)


def _number(spec: RunSpec, path: str) -> float | None:
    """A number of the resolved spec by its dotted field, or `params`, all parameters, or `tokens`;
    None where there is none."""
    if path == "params":
        return spec.counts.total
    if path == "tokens":
        return spec.steps * spec.step_units if spec.steps else None
    node: Any = resolve(spec)
    for key in path.split("."):
        if isinstance(node, tuple) and key.isdigit():
            node = node[int(key)] if int(key) < len(node) else None
        else:
            node = getattr(node, key, None) if isinstance(node, BaseModel) else None
    return node if isinstance(node, int | float) and not isinstance(node, bool) else None
