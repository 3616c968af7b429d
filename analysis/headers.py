"""What the columns of anybody's file mean, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.units import NATS
from slam_core.errors import UsageError
from slam_core.flops import plain

# Names by what they mean here, without case and punctuation.
COLUMNS: dict[str, tuple[str, ...]] = {
    "n": (
        *("n", "params", "parameters", "nparams", "nparameters", "numparams", "numparameters"),
        *("paramcount", "parametercount", "modelsize", "modelparams", "modelparameters"),
        *("totalparams", "totalparameters", "paramstotal", "parameterstotal", "ntotal", "size"),
    ),
    "d": (
        *("d", "tokens", "units", "ntokens", "nunits", "numtokens", "tokencount", "tokensseen"),
        *("unitsseen", "tokenstrained", "trainingtokens", "traintokens", "trainunits"),
        *("trainingunits", "totaltokens", "tokenstotal", "datasetsize", "dtokens", "dunits"),
        "numinputtokensseen",
    ),
    "c": (
        *("c", "flops", "flop", "compute", "budget", "computebudget", "trainingflop"),
        *("trainingflops", "trainflops", "totalflops", "trainingcompute", "cflop", "cflops"),
        "totalflos",
    ),
    "loss": (
        *("loss", "l", "finalloss", "valloss", "validloss", "validationloss", "evalloss"),
        *("testloss", "finalvalloss", "nll", "valnll", "testnll", "crossentropy", "celoss"),
        *("ce", "bpb", "lossnats", "vallossnats", "testlossnats", "nllnats"),
    ),
    "seed": ("seed",),
    "family": ("family", "architecture"),
    "label": ("label", "run", "name", "runname", "runid"),
    "schedule": ("schedule", "lrschedule", "lrscheduler"),
    "unique": ("unique", "uniquetokens", "uniqueunits"),
    "epochs": ("epochs",),
    "init": ("init", "initialisation", "initialization", "textlm"),
    "text": ("texttokens",),
    "layers": ("layers", "nlayers", "depth"),
    "width": ("width", "dmodel", "embeddim", "hiddensize"),
    "ffn": ("ffn", "ffndim", "dff", "ffnsize"),
    "context": ("context", "contextlength", "seqlen"),
    "tuned": (),  # which of the fields it is, only a user knows
    "seconds": ("seconds", "trainseconds", "trainingseconds", "trainruntime"),
}
BODY = (
    *("nonembeddingparams", "nonembeddingparameters", "nonembparams", "nonembedding"),
    *("paramsnonembedding", "nnonembedding", "nnonembeddingparams"),
)
TRAINING = ("trainloss", "trainingloss", "finaltrainloss", "trainnll")
PERPLEXITY = (
    *("perplexity", "ppl", "valperplexity", "valppl", "validationperplexity", "validppl"),
    *("evalperplexity", "evalppl", "testperplexity", "testppl"),
)
_BITS = {"bpb": "bits per byte", "bpc": "bits per character"}
# Columns whose values have losses of their own; of trackers' states only `finished` has a run's.
APART = ("tokenizer", "tokeniser", "vocab", "vocabsize", "corpus", "dataset", "task", "state")
# Taken only where no other column can have the role.
_LAST = {"n": BODY, "loss": TRAINING}
_LIKE = {
    "n": ("param", "size"),
    "d": ("token", "unit", "data"),
    "c": ("flop", "compute", "budget"),
    "loss": ("loss", "nll", "entropy", "perplexity", "ppl", "bpb"),
}
MAGNITUDES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_WORDS = {"thousand": "k", "million": "m", "billion": "b", "trillion": "t"}
_SCALED = re.compile(
    rf"(.+?)[\W_]+(?:in[\W_]+)?(?:([{''.join(MAGNITUDES)}])|({'|'.join(_WORDS)})s?)\W*", re.I
)
_AMOUNTS = ("n", "d", "c", "unique", "text")
_PATHS = ("n", "d", "c")  # a `train/loss` is another loss
_SHOWN = 8  # headers in a message


def recognised(path: Path, header: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The column of each role: those given, else those whose names are known.

    A plain name goes before one with a magnitude (`Params (M)`, see `scale`), then for amounts the
    end of a path (`model/num_params`), and all before a perplexity, N without embeddings and a
    training loss. `UsageError` where two could be meant.
    """
    found: dict[str, str] = {}
    for role, name in given.items():
        if role not in COLUMNS:
            raise UsageError(f"no role '{role}' for a column; there are {', '.join(COLUMNS)}")
        check(path, name, header)
        found[role] = name
    for role, names in COLUMNS.items():
        if role in found:
            continue
        alike = [h for h in header if plain(h) in names]
        alike = alike or [h for h in header if scale(role, h) > 1 and plain(_base(h)) in names]
        alike = alike or [h for h in header if role in _PATHS and _end(h) in names]
        alike = alike or [h for h in header if role == "loss" and plain(h) in PERPLEXITY]
        alike = alike or [h for h in header if plain(h) in _LAST.get(role, ())]
        if role == "loss" and alike and plain(alike[0]) in TRAINING:
            others = [h for h in header if _is_like(h, _LIKE["loss"]) and h not in alike]
            if others:  # which of them is the loss of validation, nobody has said
                continue
        if len(alike) > 1:
            raise UsageError(
                f"{path}: {' and '.join(alike)} could both be {role}; "
                f"say which with --column {role}={alike[0]}"
            )
        if alike:
            found[role] = alike[0]
    return found


def scale(role: str, name: str) -> float:
    """What the numbers of a column are to be multiplied by: 1e6 for `Params (M)`, `params_m` and
    `Params in millions`, where the role is an amount and the rest of the name is known or the
    magnitude stands in brackets; else 1."""
    written = _SCALED.fullmatch(name.strip())
    if not written or role not in _AMOUNTS:
        return 1.0
    base = plain(written[1])
    if not (set(name) & set("([") or (len(base) > 1 and base in COLUMNS[role])):
        return 1.0
    return MAGNITUDES[(written[2] or _WORDS[written[3].lower()]).lower()]


def missing(path: Path, role: str, header: Sequence[str]) -> UsageError:
    """That no column has a role (or either of `d or c`), and which may be it."""
    like = [word for part in role.split(" or ") for word in _LIKE.get(part, ())]
    return UsageError(
        f"{path} has no column for {role}; it has {_listed(header, like)}: "
        f"name one with --column {role.split()[0]}=NAME"
    )


def check(path: Path, column: str, header: Sequence[str]) -> None:
    """`UsageError` if there is no such column."""
    if column not in header:
        like = re.findall(r"[a-z]{2,}", column.lower())
        raise UsageError(f"{path} has no column '{column}'; it has {_listed(header, like)}")


def is_perplexity(name: str) -> bool:
    """Whether a column of losses is named as their exponential."""
    words = re.split(r"[\W_]+", name.lower())
    return plain(name) in PERPLEXITY or not {"perplexity", "ppl"}.isdisjoint(words)


def unit_of(name: str) -> str:
    """What the losses of a column are in, in words."""
    known = plain(name)
    for end, unit in _BITS.items():
        if known.endswith(end):
            return unit
    return "bits" if "bit" in known else NATS.title


def _base(name: str) -> str:
    """A name without its magnitude."""
    written = _SCALED.fullmatch(name.strip())
    return written[1] if written else name


def _end(name: str) -> str:
    """The last part of a path, as trackers of runs write names; nothing where that says little."""
    *path, last = re.split(r"[/.]", name)
    return plain(last) if path and len(plain(last)) > 4 else ""


def _is_like(name: str, words: Sequence[str]) -> bool:
    return any(word in name.lower() for word in words)


def _listed(header: Sequence[str], like: Sequence[str]) -> str:
    """A few headers, those first that contain a word."""
    names = sorted(header, key=lambda name: not _is_like(name, like))
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
