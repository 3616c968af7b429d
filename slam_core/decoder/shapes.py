"""The sizes that fix a decoder, and the shapes that models were published with."""

from __future__ import annotations

from dataclasses import dataclass

Setting = bool | int | float | str
Settings = tuple[tuple[str, Setting], ...]


@dataclass(frozen=True)
class Shape:
    """The sizes that fix a decoder.

    `settings` are entries of transformers' config that differ from the family's own, by key; the
    family says which there are.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    settings: Settings = ()

    def setting(self, key: str) -> Setting | None:
        return dict(self.settings).get(key)

    def size(self, key: str, default: int) -> int:
        """A setting that is a whole number."""
        value = self.setting(key)
        return value if type(value) is int else default

    @property
    def head_dim(self) -> int:
        return self.size("head_dim", self.width // self.heads)


LLAMA = {
    # Cuervo & Marxer 2024, Table 1; feed-forward widths from their released configs.
    "cuervo-20m": Shape(6, 512, 8, 8, 1536),
    "cuervo-85m": Shape(12, 768, 12, 12, 2048),
    "cuervo-155m": Shape(12, 1024, 16, 16, 2816),
    "cuervo-309m": Shape(24, 1024, 16, 16, 2816),
    "cuervo-823m": Shape(16, 2048, 32, 32, 5632),
    "smollm2-135m": Shape(30, 576, 9, 3, 1536),
    "smollm2-360m": Shape(32, 960, 15, 5, 2560),
    "smollm2-1.7b": Shape(24, 2048, 32, 32, 8192),
    # Liu et al. 2024, MobileLLM. The two smallest are SmolLM2's shapes.
    "mobilellm-125m": Shape(30, 576, 9, 3, 1536),
    "mobilellm-350m": Shape(32, 960, 15, 5, 2560),
    "mobilellm-600m": Shape(40, 1152, 18, 6, 3072),
    "mobilellm-1b": Shape(54, 1280, 20, 5, 3584),
    "mobilellm-1.5b": Shape(54, 1600, 25, 5, 4352),
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 8192),
    "llama-3.2-3b": Shape(28, 3072, 24, 8, 8192),
}

QWEN2 = {
    "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4864),
    "qwen2.5-1.5b": Shape(28, 1536, 12, 2, 8960),
    "qwen2.5-3b": Shape(36, 2048, 16, 2, 11008),
}

QWEN3 = {
    "qwen3-0.6b": Shape(28, 1024, 16, 8, 3072, (("head_dim", 128),)),
    "qwen3-1.7b": Shape(28, 2048, 16, 8, 6144),
    "qwen3-4b": Shape(36, 2560, 32, 8, 9728, (("head_dim", 128),)),
}

OPT = {
    "opt-125m": Shape(12, 768, 12, 12, 3072),
    # The one OPT with its norms behind the blocks, and embeddings narrower than these.
    "opt-350m": Shape(
        24, 1024, 16, 16, 4096, (("do_layer_norm_before", False), ("word_embed_proj_dim", 512))
    ),
    "opt-1.3b": Shape(24, 2048, 32, 32, 8192),
    "opt-2.7b": Shape(32, 2560, 32, 32, 10240),
}

GPT_NEOX = {
    "pythia-14m": Shape(6, 128, 4, 4, 512),
    "pythia-31m": Shape(6, 256, 8, 8, 1024),
    "pythia-70m": Shape(6, 512, 8, 8, 2048),
    "pythia-160m": Shape(12, 768, 12, 12, 3072),
    "pythia-410m": Shape(24, 1024, 16, 16, 4096),
    "pythia-1b": Shape(16, 2048, 8, 8, 8192),
    "pythia-1.4b": Shape(24, 2048, 16, 16, 8192),
    "pythia-2.8b": Shape(32, 2560, 32, 32, 10240),
}

GPT2 = {
    "gpt2": Shape(12, 768, 12, 12, 3072),
    "gpt2-medium": Shape(24, 1024, 16, 16, 4096),
    "gpt2-large": Shape(36, 1280, 20, 20, 5120),
    "gpt2-xl": Shape(48, 1600, 25, 25, 6400),
}
