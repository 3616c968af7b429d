"""Ablations as values: arms, the settings they are compared in, and what the paper found.

An ablation does not say how large its runs are: a *scale* gives the base spec, the seeds and the
benchmarks, and `By` the values that differ between scales. The arms are the same at every scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slam_core.prompts import Prompts, Sampling
from slam_core.spec import RunSpec
from sweeps.grid import specs_of

# Dotted fields of a run and their values, as in `RunSpec.but`.
Changes = dict[str, Any]
Base = Literal["slam", "first"]
LOSSES = ("val_loss", "val_loss_synthetic")
# Of continuations: the perplexity of their transcripts, or of their units under a judge, whichever
# a scale has, and the share of bigrams that they repeat.
GENERATED = ("GenPPL", "unit PPL", "auto-BLEU")
JUDGE = "judge"  # the label of its run
LONGEST = 60  # characters of the names of several ablations, as one study's


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class By(_Value):
    """A value at each scale."""

    tiny: Any
    paper: Any


class Paper(_Value):
    """What a paper found, and where it says so: `rows` by arm (or `setting: arm`), each the values
    of `metrics`."""

    source: str
    metrics: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """By row and metric; `ValueError` for a row of another length."""
        return {name: dict(zip(self.metrics, row, strict=True)) for name, row in self.rows.items()}


class Ablation(_Value):
    """One question: `arms` compared with the `baseline` arm in each of the `settings`, by paired
    seeds.

    `base` is the recipe that is varied: Slam's final one, or that of its `first` investigations.
    A setting's changes come before an arm's; an arm that is `By` scale is none where that says
    None. Each arm is trained at every value of the `tuned` fields and judged at its best, so that
    no arm suffers from another's optimum. `also` are further baselines, each with the arms that are
    compared with it besides. Runs are scored on `metrics` of the scale. `dose` is what the numbers
    in the arms' names are of, with its unit, where they are of one thing. `where` names the paper's
    figure or table, `paper` holds its numbers.
    """

    name: str
    question: str
    where: str
    base: Base = "slam"
    baseline: str
    arms: dict[str, Changes | By] = Field(min_length=2)
    settings: dict[str, Changes] = Field(default={"": {}}, min_length=1)
    tuned: dict[str, tuple[Any, ...] | By] = {}
    also: dict[str, tuple[str, ...]] = {}
    dose: str | By | None = None
    metrics: tuple[str, ...] = ("sBLIMP", "sSC", "tSC", "sWUGGY", *LOSSES)
    paper: Paper | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline '{self.baseline}' is none of the arms")
        beside = [arm for base, arms in self.also.items() for arm in (base, *arms)]
        if strange := [arm for arm in beside if arm not in self.arms]:
            raise ValueError(f"also: '{strange[0]}' is none of the arms")
        for base in (self.baseline, *self.also):
            said = self.arms[base]
            if isinstance(said, By) and None in (said.tiny, said.paper):
                raise ValueError(f"baseline '{base}' is none at a scale; give it changes at both")
        for name, changes in (self.arms | self.settings).items():
            scales = (changes.tiny, changes.paper) if isinstance(changes, By) else (changes,)
            if lost := [field for one in scales for field in one or () if field in self.tuned]:
                raise ValueError(
                    f"'{name}' sets {lost[0]}, which is tuned and takes other values; drop it "
                    "from one of the two"
                )
        known = {key(setting, arm) for setting in self.settings for arm in self.arms}
        if self.paper and (unknown := self.paper.values.keys() - known):
            raise ValueError(f"{self.paper.source} has '{min(unknown)}', which is no arm")
        return self

    def at(self, scale: Scale) -> Declared:
        """The study at a scale."""
        return Declared(self, scale)


class Generation(_Value):
    """What runs continue (`slam_core.generate`): the first `seconds` of `count` documents of a
    corpus' split, by up to `new` units. With a `judge`, a run of the study, the perplexity of the
    units is taken under it; without one that of their transcripts, which takes a vocoder."""

    corpus: str
    split: str = "validation"
    count: int
    seconds: float = 3.0
    new: int = 150
    judge: RunSpec | None = None

    @property
    def metrics(self) -> tuple[str, str]:
        """The perplexity that is taken, and repetition."""
        text, units, repetition = GENERATED
        return units if self.judge else text, repetition

    @property
    def prompts(self) -> Prompts:
        return Prompts(n=self.count, split=self.split, seconds=self.seconds)

    @property
    def sampling(self) -> Sampling:
        return Sampling(new=self.new)


class Scale(_Value):
    """How large an ablation is: the `bases`, the seeds, and what stands for the paper's metrics:
    pair benchmarks, corpora whose validation loss is one, and continuations. `about` says it in a
    line."""

    name: Literal["tiny", "paper"]
    about: str
    bases: dict[Base, RunSpec]
    seeds: tuple[int, ...] = Field(min_length=1)
    benchmarks: dict[str, str]
    losses: dict[str, str]
    generation: Generation


@dataclass(frozen=True)
class Cell:
    """Where one run of an ablation belongs."""

    setting: str
    arm: str
    tuned: tuple[tuple[str, Any], ...]
    seed: int

    @property
    def label(self) -> str:
        said = "".join(
            f",{field.rpartition('.')[2]}={as_word(value)}" for field, value in self.tuned
        )
        return f"{key(self.setting, self.arm)}{said},s{self.seed}"


@dataclass(frozen=True)
class Declared:
    """An ablation at a scale: a study."""

    ablation: Ablation
    scale: Scale

    @property
    def name(self) -> str:
        return f"{self.ablation.name}-{self.scale.name}"

    @property
    def arms(self) -> dict[str, Changes]:
        """Those that the scale has."""
        here = {name: self._here(arm) for name, arm in self.ablation.arms.items()}
        return {name: changes for name, changes in here.items() if changes is not None}

    @property
    def measures(self) -> tuple[str, ...]:
        """What its runs are scored on: benchmarks and corpora."""
        known = self.scale.benchmarks | self.scale.losses
        return tuple(known[metric] for metric in self.ablation.metrics if metric in known)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of the ablation that the scale has."""
        known = (*self.scale.benchmarks, *self.scale.losses, *self.scale.generation.metrics)
        return tuple(metric for metric in self.ablation.metrics if metric in known)

    @property
    def generation(self) -> Generation | None:
        """What its runs continue, if that is among the metrics."""
        asked = set(GENERATED) & set(self.ablation.metrics)
        return self.scale.generation if asked else None

    @cached_property
    def cells(self) -> dict[str, tuple[Cell, Changes]]:
        """By label, with the changes from the base."""
        found, arms = {}, self.arms
        for setting, arm, tuned, seed in self._product():
            cell = Cell(setting, arm, tuned, seed)
            parts = (self.ablation.settings[setting], arms[arm], dict(tuned))
            merged: Changes = {}
            for part in parts:
                merged |= {field: self._here(value) for field, value in part.items()}
            found[cell.label] = cell, _in_order(merged | {"seed": seed})
        return found

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `OPT-125M: synthetic,s0`, first stages and a judge included."""
        return self._runs

    @cached_property  # a table asks several times, and validating a hundred specs takes a second
    def _runs(self) -> dict[str, RunSpec]:
        base = self.scale.bases[self.ablation.base]
        labelled = ((label, changes) for label, (_, changes) in self.cells.items())
        specs = specs_of(self.name, base, labelled)
        judge = self.generation.judge if self.generation else None
        return specs | ({JUDGE: judge} if judge else {})

    @property
    def dose(self) -> str | None:
        """What the numbers in the arms' names are of, with its unit."""
        said: str | None = self._here(self.ablation.dose)
        return said

    @property
    def tuned(self) -> dict[str, tuple[Any, ...]]:
        """The values to choose from, by field."""
        return {field: tuple(self._here(some)) for field, some in self.ablation.tuned.items()}

    def _product(self) -> Iterator[tuple[str, str, tuple[tuple[str, Any], ...], int]]:
        values = self.tuned
        points = [
            tuple(zip(values, point, strict=True)) for point in itertools.product(*values.values())
        ]
        yield from itertools.product(self.ablation.settings, self.arms, points, self.scale.seeds)

    def _here(self, value: Any) -> Any:
        """A value at this scale; models are trees, as `RunSpec.but` takes them."""
        if isinstance(value, By):
            return self._here(getattr(value, self.scale.name))
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        if isinstance(value, Mapping):
            return {name: self._here(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._here(one) for one in value]
        return value


@dataclass(frozen=True)
class Several:
    """Ablations as one study: a run that several of them have is one run."""

    parts: tuple[Declared, ...]

    @property
    def name(self) -> str:
        names = "+".join(sorted(part.ablation.name for part in self.parts))
        if len(names) > LONGEST:
            names = f"{len(self.parts)}-ablations-{sha256(names.encode()).hexdigest()[:8]}"
        return f"{names}-{self.parts[0].scale.name}"

    def runs(self) -> dict[str, RunSpec]:
        """Labels such as `dpo-share: 0.5 h,s0`."""
        return {
            f"{part.ablation.name}: {label}": spec
            for part in self.parts
            for label, spec in part.runs().items()
        }


def together(parts: tuple[Declared, ...]) -> Declared | Several:
    """One study of an ablation or several."""
    return parts[0] if len(parts) == 1 else Several(parts)


def key(setting: str, arm: str) -> str:
    """How tables and the paper's numbers name an arm in a setting."""
    return f"{setting}: {arm}" if setting else arm


def as_word(value: Any) -> str:
    """A tuned value, as labels and tables say it."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _in_order(changes: Changes) -> Changes:
    """Whole trees before the fields inside them."""
    return dict(sorted(changes.items(), key=lambda change: change[0].count(".")))
