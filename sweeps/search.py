"""Searches declared as values, and which runs are their trials.

A trial is a point of the space with its replicates over seeds. Nothing but the specs of runs says
what was tried: a run that agrees with the base outside the space belongs to a trial, whoever asked
for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import to_jsonable_python

from slam_core import scratch
from slam_core.errors import UsageError
from slam_core.journal import read_lines
from slam_core.results import Result, read
from slam_core.spec import RunSpec, without_paths
from sweeps.grid import Study
from sweeps.rules import Rule, several
from sweeps.space import Drawn, OneOf, Part, at, combinations, depends_on, holds, said

Tree = Mapping[str, Any]
RESULTS = Path("results")
MOST_CHOICES = 4096  # each is resolved to read trials off runs, in some 0.2 ms
_OPEN = object()  # a value that is to be read off a run


class Search(BaseModel):
    """Minimise a validation NLL over a space of fields. `at`: fields that differ from the base's
    in all trials.

    `objective`: the corpus whose NLL counts; the only one if not said. `seeds` are
    replicates: a trial's value is the mean over them. `sampler_seed` is the sampler's own.
    `pruner` compares training losses at tenths of the budget; `wilcoxon` compares seed by seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: RunSpec
    at: dict[str, Any] = {}
    space: dict[str, Part] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    objective: str | None = None
    sampler: Literal["tpe", "gp", "qmc", "cma", "random"] = "tpe"
    sampler_seed: int = Field(default=0, ge=0)
    pruner: Literal["none", "median", "hyperband", "halving", "wilcoxon"] = "none"
    trials: int = Field(default=20, gt=0)
    scaled: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        before: list[str] = []
        for field, part in self.space.items():
            if missing := set(depends_on(part)) - set(before):
                raise ValueError(
                    f"{field} depends on '{missing.pop()}', which is not drawn before it"
                )
            before.append(field)
        if next(islice(self._choices(), MOST_CHOICES, None), None) is not None:
            raise ValueError(
                f"the space has more than the {MOST_CHOICES} combinations of OneOf that are looked "
                "through; let fields with an order be Int, Uniform or LogUniform"
            )
        if tried := several(self.scaled):
            raise ValueError(f"{tried[0]} has several values; a search draws: give its law one")
        if "seed" in self.space:
            raise ValueError("seeds are replicates, not a dimension; name them in `seeds`")
        corpora = self.corpora
        if self.objective is None and len(corpora) > 1:
            raise ValueError(f"name the objective: one of {', '.join(corpora)}")
        if self.objective is not None and self.objective not in corpora:
            raise ValueError(f"objective '{self.objective}' is none of {', '.join(corpora)}")
        if self.pruner == "wilcoxon" and len(self.seeds) < 5:
            # The smallest one-sided p-value of n pairs is 2^-n; the pruner acts below 0.1.
            raise ValueError("wilcoxon compares trials seed by seed; give at least 5 seeds")
        # A loss on another mix, under dropout, or of preferences, does not tell how good the
        # objective will be.
        fields = [*self.space, *(rule.field for rule in self.scaled)]
        others = ("data.sources", "data.interleave", "model.dropout")
        unlike = [name for name in fields if name.startswith(others)]
        given = {name: value for name, value in self.at.items() if name.startswith("dpo")}
        if self.base.but(given).dpo or any(name.startswith("dpo") for name in self.space):
            unlike.append("dpo")
        if unlike and self.pruner not in ("none", "wilcoxon"):
            raise ValueError(
                f"{self.pruner} compares training losses, and with {unlike[0]} these are not of "
                "what the objective is of; say pruner='none', or 'wilcoxon', which compares NLLs"
            )
        return self

    @property
    def corpora(self) -> list[str]:
        """What trials are validated on, by the names that `Result.validation` has."""
        given = {name: value for name, value in self.at.items() if name.startswith("data.sources")}
        return [Path(source.label).name for source in self.base.but(given).data.sources]

    def runs(self, results: Path = RESULTS) -> dict[str, RunSpec]:
        """The runs of the trials so far, from $SLAM_OUT and `results`, in the order begun.

        Labels such as `lr=0.00312,beta2=0.98`, with `,s1` behind where there are several seeds.
        """
        return {
            self.label(drawn, seed): self.spec(drawn, seed)
            for drawn in self.among(known_specs(results))
            for seed in self.seeds
        }

    def label(self, drawn: Drawn, seed: int | None = None) -> str:
        last = [field.rpartition(".")[2] for field in self.space]
        parts = []
        for field, value in drawn.changes.items():
            short = field.rpartition(".")[2]
            parts.append(f"{short if last.count(short) == 1 else field}={said(value)}")
        if seed is not None and len(self.seeds) > 1:
            parts.append(f"s{seed}")
        return ",".join(parts)

    def spec(self, drawn: Drawn, seed: int) -> RunSpec:
        """The run of a point with a seed; `UsageError` if a field or value is none of a run's."""
        spec = self.base.but({**self.at, **drawn.changes, "seed": seed})
        for rule in self.scaled:
            spec = rule.of(spec)
        return spec

    def changes(self, drawn: Drawn) -> dict[str, Any]:
        """What a point sets in the base, its seeds aside, by field."""
        tree = self.spec(drawn, self.seeds[0]).model_dump(mode="json")
        followed = {rule.field: _at(tree, rule.field) for rule in self.scaled}
        return {**to_jsonable_python(self.at), **drawn.changes, **followed}

    def _choices(self) -> Iterator[dict[str, Any]]:
        """Every choice of a `OneOf`, what is a number left open."""
        return combinations(
            self.space, lambda part: part.values if isinstance(part, OneOf) else (_OPEN,)
        )

    def among(self, specs: Mapping[str, Tree]) -> list[Drawn]:
        """The points that have a run among these (id -> resolved spec), in the order given.

        A run's values are read off its spec; it must then have the very id that they lead to.
        `UsageError` if a field, or a value of it, makes a run with none of the others.
        """
        forms: dict[frozenset[str], dict[str, list[dict[str, Any]]]] = {}
        refused: dict[tuple[str, Any], UsageError] = {}
        good: set[tuple[str, Any]] = set()
        for choice in self._choices():
            fixed = {field: value for field, value in choice.items() if value is not _OPEN}
            try:
                drawn, spec = self._some(fixed)
            except UsageError as error:
                refused |= dict.fromkeys(choice.items(), error)
                continue
            good.update(choice.items())
            loose = self._loose(set(drawn.changes) - set(fixed))
            tree = json.loads(spec.canonical())
            forms.setdefault(loose, {}).setdefault(_form(tree, loose), []).append(choice)
        # A value that goes with some others is no mistake; one that makes no run at all is.
        for value, why in refused.items():
            if value not in good:
                raise why
        found: dict[str, Drawn] = {}
        for run, tree in specs.items():
            for loose, choices in forms.items():
                for choice in choices.get(_form(tree, loose), []):
                    read = {f: _at(tree, f) if v is _OPEN else v for f, v in choice.items()}
                    seed = tree.get("seed", 0)
                    if seed not in self.seeds or not holds(self.space, read):
                        continue
                    drawn = at(self.space, read)
                    if self.spec(drawn, seed).id == run:
                        found.setdefault(self.label(drawn), drawn)
        return list(found.values())

    def _some(self, fixed: Mapping[str, Any]) -> tuple[Drawn, RunSpec]:
        """A point with these values by field, and its run: the others in the middle of what may be
        drawn or, where that is no run, at an end."""
        drawn = at(self.space, fixed)
        try:
            return drawn, self.spec(drawn, self.seeds[0])
        except UsageError:
            for share in (0.0, 1.0):
                with suppress(UsageError):
                    drawn = at(self.space, fixed, share)
                    return drawn, self.spec(drawn, self.seeds[0])
            raise

    def _loose(self, free: set[str]) -> frozenset[str]:
        """Fields in which the specs of one choice may differ."""
        fields = {"seed", *free, *(rule.field for rule in self.scaled)}
        # The rest of a shape follows from layers and width.
        return frozenset("model" if field.startswith("model.") else field for field in fields)


def runs_of(study: Study, results: Path) -> dict[str, RunSpec]:
    """A study's runs; of a search those so far, also the ones that only `results` has."""
    return study.runs(results) if isinstance(study, Search) else study.runs()


def known_specs(results: Path) -> dict[str, Tree]:
    """Run id -> resolved spec of every run in `results` or $SLAM_OUT, the first begun first."""
    found: dict[str, tuple[str, Tree]] = {}
    for result in read(results, Result).values():
        found[result.run] = min(found.get(result.run, ("~", {}))[0], result.attempt), result.spec
    for run in scratch.known_runs():
        asked = scratch.run_folder(run) / "spec.json"
        tried = scratch.attempts(run)
        begun = tried[0].name if tried else "~"  # after all that has begun
        if run not in found:
            for tree in read_lines(asked if asked.exists() or not tried else tried[0] / asked.name):
                found[run] = begun, tree
    return {run: tree for run, (_, tree) in sorted(found.items(), key=lambda item: item[1][0])}


def _form(tree: Tree, without: Iterable[str]) -> str:
    """A resolved spec less some fields, as a key; files by name, whatever their folder."""
    left = without_paths(json.loads(json.dumps(tree)))
    for field in without:
        parents, _, last = field.rpartition(".")
        node = _at(left, parents) if parents else left
        if isinstance(node, dict):
            node.pop(last, None)
    return json.dumps(left, sort_keys=True)


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
