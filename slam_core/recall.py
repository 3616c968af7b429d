"""What stored runs say of things that are not here, for results that are read where these are not.

Ids of runs take checksums of what the runs eat. On a laptop that has the results alone these are
read off the specs of the stored runs. Never to launch by: what is not here cannot be trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache, wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from slam_core.errors import UsageError
from slam_core.results import Result, latest
from slam_core.text_tokens import further_ids

Tree = Mapping[str, Any]
S = TypeVar("S", bound=Hashable)
T = TypeVar("T")
Told = TypeVar("Told", bound=tuple[Any, ...])


class Stored:
    """The runs of a results folder, read when the first thing is missing. `notes` say what was
    taken from them."""

    def __init__(self, results: Path):
        self.results = results
        self.notes: list[str] = []
        self.told: dict[Hashable, Any] = {}

    @cached_property
    def _ended(self) -> list[Result]:
        return [*latest(self.results, Result).values()]

    @cached_property
    def specs(self) -> list[Tree]:
        return [result.spec for result in self._ended]

    @cached_property
    def units(self) -> dict[Hashable, int]:
        return self._noted("units", "unique")

    @cached_property
    def rates(self) -> dict[Hashable, float | None]:
        return self._noted("rate")

    def _noted(self, what: str, *also: str) -> dict[Hashable, Any]:
        """What runs have noted of what they trained on; early ones did not."""
        return {
            _parts(source, *also): noted[what]
            for result in self._ended
            for source, noted in zip(
                result.spec["data"]["sources"], result.provenance.get("sources", ()), strict=False
            )
        }


_stored: ContextVar[Stored | None] = ContextVar("stored", default=None)


def allowed() -> bool:
    """Whether stored runs may be asked."""
    return _stored.get() is not None


@contextmanager
def recalling(results: Path) -> Iterator[Stored]:
    """Within, what a spec names and is not here is as the runs in a results folder have it."""
    asked = Stored(results)
    token = _stored.set(asked)
    try:
        yield asked
    finally:
        _stored.reset(token)


def remembered(of: Callable[[S], T]) -> Callable[[S], T]:
    """`lru_cache` of what may take stored runs: what these told is not known without them."""

    alone = lru_cache(maxsize=65_536)(of)

    @wraps(of)
    def call(one: S) -> T:
        asked = _stored.get()
        if asked is None:
            return alone(one)
        if (of, one) not in asked.told:
            asked.told[of, one] = of(one)
        return cast("T", asked.told[of, one])

    return call


# Each raises the `missing` given if there are no runs to ask or none names the thing, `UsageError`
# if they do not agree on it. Folders do not count, as in a run's id.


class Corpus(NamedTuple):
    """`inventory`: the number of its unit ids."""

    revision: str
    inventory: int


def corpus(corpus: str, revision: str | None, missing: UsageError) -> Corpus:
    """A corpus, of the revision if one is given."""
    name = Path(corpus).name
    said = (
        Corpus(source["revision"], spec["model"]["vocab"] - further_ids(_text_ids(spec)))
        for spec in _specs()
        for source in spec["data"]["sources"]
        if Path(source["corpus"]).name == name and revision in (None, source["revision"])
    )
    return _only(f"corpus '{name}'", said, "revision of its source", missing)


def units(source: Tree) -> int | None:
    """What stored runs have noted that there is of a source to train on (`streams.facts_of`)."""
    asked = _stored.get()
    return asked.units.get(_parts(source, "unique")) if asked else None


def rate(source: Tree) -> float | None:
    """What stored runs have noted of the rate that a source is validated at."""
    asked = _stored.get()
    return asked.rates.get(_parts(source)) if asked else None


def text(text: str, missing: UsageError) -> tuple[str, int]:
    """Revision and size of a text tokeniser."""
    name = Path(text).name
    said = (
        (how["text_revision"], how["text_size"])
        for spec in _specs()
        if (how := spec["data"].get("interleave")) and Path(how["text"]).name == name
    )
    return _only(f"text tokeniser '{name}'", said, "data.interleave.text_revision", missing)


def preferences(
    pairs: str, max_auto_bleu: float, context: int, missing: UsageError
) -> tuple[str, float]:
    """Revision of a preference set, and the mean units of those of its pairs that are kept."""
    name = set_name(pairs)
    said = (
        (dpo["revision"], dpo["units"])
        for spec in _specs()
        if (dpo := spec.get("dpo")) and set_name(dpo["pairs"]) == name
        if (dpo["max_auto_bleu"], spec["data"]["context"]) == (max_auto_bleu, context)
    )
    return _only(f"preferences '{name}'", said, "dpo.revision and dpo.units", missing)


def checkpoint(source: str, missing: UsageError) -> tuple[str, Tree]:
    """sha256 of the weights that runs start from, and the deepest model that does."""
    name = Path(source).name
    begun = [
        model
        for spec in _specs()
        if (init := (model := spec["model"]).get("init")) and Path(init["source"]).name == name
    ]
    said = ((model["init"]["sha256"],) for model in begun)
    (sha256,) = _only(f"checkpoint '{name}'", said, "model.init.sha256", missing)
    return sha256, max(begun, key=lambda model: int(model["layers"]))


def set_name(pairs: str) -> str:
    """A preference set without the folder that its corpus is in."""
    return "/".join(Path(pairs).parts[-4:])


def _parts(source: Tree, *also: str) -> Hashable:
    """What decides which documents are held out, and what they are taken as."""
    fields = ("revision", "held_out", "modality", *also)
    return (Path(source["corpus"]).name, *map(source.get, fields))


def _specs() -> list[Tree]:
    asked = _stored.get()
    return asked.specs if asked else []


def _text_ids(spec: Tree) -> int | None:
    interleave = spec["data"].get("interleave")
    return interleave["text_size"] if interleave else None


def _only(what: str, said: Iterable[Told], field: str, missing: UsageError) -> Told:
    found, asked = Counter(said), _stored.get()
    if not found or asked is None:
        raise missing
    if len(found) > 1:
        listed = ", ".join(f"{_brief(one)} ({runs} runs)" for one, runs in found.most_common())
        raise UsageError(
            f"{what} is not here, and the runs in {asked.results} have several: {listed}; say in "
            f"the study which is meant ({field}), or bring it here"
        )
    (one,) = found
    note = f"{what} is not here: as the stored runs have it ({_brief(one)})"
    if note not in asked.notes:
        asked.notes.append(note)
    return one


def _brief(told: tuple[Any, ...]) -> str:
    return str(told[0])[:12]
