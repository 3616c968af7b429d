"""Training FLOPs per unit under named conventions, from structural counts.

Results store the components (`Counts`); which total to call N and which FLOPs to call C is decided
when they are analysed, because the conventions differ by 16 to 61 % for the published speech models
(attention at context 2050) and tilt fitted exponents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from slam_core.decoder.families import attention_weights, family
from slam_core.decoder.shapes import Shape
from slam_core.errors import UsageError

Kind = Literal["FLOP", "parameter"]


class Counts(BaseModel):
    """What a model is made of. Parameters by component; attention in FLOPs per unit, forward only.

    `attention` is the two products QK' and AV over the full square: 4 layers width context (width
    of the heads together).
    `matmul` is the number of weights that a forward pass multiplies (body matrices plus the head,
    tied or not, without embedding look-ups, norms and biases); of what goes its own way
    (`decoder.measured`), multiplications for each unit. `idle` is what a unit leaves aside
    of the body: experts not chosen for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int
    positions: int
    body: int
    head: int
    matmul: int
    attention: int
    idle: int = 0

    @property
    def total(self) -> int:
        """All parameters, tied ones once (the N of Cuervo & Marxer and of Slam's Table 7)."""
        return self.embedding + self.positions + self.body + self.head

    @property
    def active(self) -> int:
        """Those that a unit passes by."""
        return self.total - self.idle

    def params(self, name: str = "total") -> int:
        """N under a convention of `PARAMS`."""
        return PARAMS[convention(name, "parameter")](self)

    def flops(self, name: str = "6nd") -> float:
        """Training FLOPs per unit under a convention of `FLOPS`."""
        return FLOPS[convention(name)](self)


PARAMS: dict[str, Callable[[Counts], int]] = {
    "total": lambda c: c.total,
    # One vocabulary matrix whatever the model does: an untied head is left out.
    "tied": lambda c: c.embedding + c.positions + c.body,
    # Kaplan et al. 2020: no embeddings, positions or head.
    "body": lambda c: c.body,
    # Of mixtures of experts, those that work for a unit; of all others the total.
    "active": lambda c: c.active,
}

FLOPS: dict[str, Callable[[Counts], float]] = {
    # Hoffmann et al. 2022 as quoted by Cuervo & Marxer and by Slam: C = 6 N D.
    "6nd": lambda c: 6.0 * c.active,
    "6nd_body": lambda c: 6.0 * (c.body - c.idle),
    # 6N + 12 L d T: the MFU formula of Cuervo & Marxer's released code; attention over the square.
    "attention": lambda c: 6.0 * c.active + 3.0 * c.attention,
    # The same with the causal half of the square: 6N + 6 L d T.
    "causal": lambda c: 6.0 * c.active + 1.5 * c.attention,
    # Weights that are multiplied, plus causal attention: no look-ups, norms or biases.
    "exact": lambda c: 6.0 * c.matmul + 1.5 * c.attention,
}


# What else people write: letters and digits only, in small letters.
_ALSO: dict[Kind, dict[str, str]] = {
    "parameter": {"nonembedding": "body"},
    "FLOP": {
        "nonembedding": "6nd_body",
        "6ndnonembedding": "6nd_body",
        "full": "attention",
        "fullattention": "attention",
        "causalattention": "causal",
    },
}


def convention(name: str, kind: Kind = "FLOP") -> str:
    """The key of `FLOPS`, or of `PARAMS`, that `name` means.

    Case and everything but letters and digits are ignored: `6ND` is `6nd`. Also understood:
    `non-embedding` (`6nd_body`, or `body` of parameters), `full` and `full attention`
    (`attention`), `causal attention` (`causal`). `UsageError` naming the conventions there are.
    """
    keys = list(FLOPS if kind == "FLOP" else PARAMS)
    known = {plain(key): key for key in keys} | _ALSO[kind]
    if plain(name) not in known:
        also = " (non-embedding)" if kind == "FLOP" else ""
        there = ", ".join(key + also * (key == "6nd_body") for key in keys)
        raise UsageError(f"no {kind} convention '{name}'; there are {there}")
    return known[plain(name)]


def plain(name: str) -> str:
    """A name without case and punctuation."""
    return "".join(filter(str.isalnum, name.lower()))


def count(family_name: str, shape: Shape, vocab: int, tied: bool, context: int) -> Counts:
    """Counts of a model; `context` in units."""
    fam = family(family_name)
    params = fam.params(shape, vocab, tied)
    ffn = (3 if fam.gated else 2) * shape.width * shape.ffn
    return Counts(
        embedding=params.embedding,
        positions=params.positions,
        body=params.body,
        head=params.head,
        matmul=shape.layers * (attention_weights(shape) + ffn)
        + fam.projections(shape)
        + vocab * fam.embedding_width(shape),
        attention=4 * shape.layers * shape.heads * shape.head_dim * context,
    )
