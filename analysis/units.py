"""The unit a loss is shown in. Fits are in nats per unit; other units scale or shift them.

nats: nats per unit, of one tokeniser. bits: bits per second of audio, on which tokenisers compare.
unigram: nats per unit less the entropy of the units, what a model knows beyond their frequencies
(Tao et al. 2024, arXiv:2407.13623).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.laws import Law
from slam_core.errors import UsageError

if TYPE_CHECKING:
    from slam_core.ngrams import Baselines

UNITS = ("nats", "bits", "unigram")


@dataclass(frozen=True)
class Unit:
    """shown = scale * nats - shift. A law keeps its exponents: E, A and B scale, E shifts."""

    name: str
    title: str
    scale: float = 1.0
    shift: float = 0.0

    def of(self, nats: float) -> float:
        """A loss in this unit."""
        return self.scale * nats - self.shift

    def nats(self, shown: float) -> float:
        """The nats per unit of a loss in this unit."""
        return (shown + self.shift) / self.scale

    def law(self, law: Law) -> Law:
        """A law whose loss is in this unit."""
        return replace(law, E=self.of(law.E), A=self.scale * law.A, B=self.scale * law.B)


NATS = Unit("nats", "nats per unit")


def unit(
    name: str,
    corpus: str | None = None,
    revision: str | None = None,
    *,
    rate: float | None = None,
    unigram: float | None = None,
) -> Unit:
    """A unit by name, with what a corpus says of its unigram entropy unless that is given.

    `UsageError` where the one that is needed is neither given nor known, as where the corpus of
    that name is of another revision.
    """
    if name not in UNITS:
        raise UsageError(f"no unit of loss '{name}'; there are {', '.join(UNITS)}")
    if name == "nats":
        return NATS
    if name == "bits":
        if rate is None:
            what = f"how many units a second of audio has{_of(corpus, revision)}"
            raise _unknown("bits per second", what, "rate")
        scale = _above_0("rate", rate) / math.log(2)
        return Unit("bits", "bits per second of audio", scale)
    unigram = _unigram(corpus, revision) if unigram is None else _above_0("unigram", unigram)
    if unigram is None:
        what = f"the entropy of the units{_of(corpus, revision)}"
        raise _unknown("the unigram unit", what, "unigram")
    return Unit("unigram", "nats per unit beyond unigrams", 1.0, unigram)


def baselines_of(corpus: str | None, revision: str | None = None) -> Baselines | None:
    """The n-gram losses kept with a corpus; None if they are not at hand, or not of that
    revision."""
    from slam_core.ngrams import stored

    found = stored(corpus) if corpus else None
    return found if found and revision in (None, found.revision) else None


def _unigram(corpus: str | None, revision: str | None) -> float | None:
    found = baselines_of(corpus, revision)
    return found.unigram if found else None


def _of(corpus: str | None, revision: str | None) -> str:
    """Whose number is not known here, where there may be another corpus of that name."""
    return f", of {corpus} in revision {revision}, and none is known here" if revision else ""


def _above_0(option: str, given: float) -> float:
    if not 0 < given < math.inf:
        raise UsageError(f"--{option} is {given:g}; it has to be a finite number above 0")
    return given


def _unknown(unit: str, what: str, option: str) -> UsageError:
    return UsageError(f"{unit} needs {what}; say it with --{option}")
