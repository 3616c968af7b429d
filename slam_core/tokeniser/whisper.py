"""The first blocks of OpenAI's Whisper encoder (Radford et al. 2022, arXiv:2212.04356).

Differences from the original: no padding to 30 s, pairs of frames averaged to 25 a second, only as
many blocks as asked. The position table is computed; the released one is the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE = 16_000  # samples a second
FRAME = 640  # samples a frame: 25 frames a second
LONGEST = 725  # frames in one call (29 s): the position table ends at 30 s
_MARGIN = 5  # frames of zeros on both sides, so that speech does not begin at the edge


class Encoder(nn.Module):
    """Log-mel spectrogram, two convolutions, `layers` transformer blocks."""

    filters: Tensor
    positions: Tensor

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(80, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, stride=2)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("positions", sinusoids(1500, width), persistent=False)

    @torch.inference_mode()
    def forward(self, wave: Tensor) -> Tensor:
        """(frames * 640,) samples at 16 kHz, at most 29 s -> (frames, width) features."""
        x = log_mel(F.pad(wave, (_MARGIN * FRAME, _MARGIN * FRAME)), self.filters)[None]
        x = F.gelu(self.conv2(F.gelu(self.conv1(x))))[0].T
        x = x + self.positions[: len(x)]
        for block in self.blocks:
            x = block(x)
        return x.view(-1, 2, x.shape[1]).mean(1)[_MARGIN:-_MARGIN]


class Block(nn.Module):
    """A pre-norm transformer block that sees both directions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(frames, width) -> (frames, width)."""
        frames, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(frames, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(1, 2, 0, 3)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(frames, width)
        x = x + self.out(mixed)
        y: Tensor = x + self.down(F.gelu(self.up(self.norm_mlp(x))))
        return y


def log_mel(wave: Tensor, filters: Tensor) -> Tensor:
    """(samples,) -> (80, samples / 160) log-mel spectrogram on Whisper's scale."""
    window = torch.hann_window(400)
    power = torch.stft(wave, 400, 160, window=window, return_complex=True)[:, :-1].abs() ** 2
    x = (filters @ power).clamp(min=1e-10).log10()
    scaled: Tensor = (torch.maximum(x, x.max() - 8) + 4) / 4
    return scaled


def mel_filters() -> Tensor:
    """(80, 201) triangles of equal area on Slaney's mel scale (linear to 1 kHz, then log)."""
    step = math.log(6.4) / 27
    mel = np.linspace(0, 15 + math.log(8) / step, 82)  # to 8 kHz
    hertz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))
    rise = (np.linspace(0, 8000, 201) - hertz[:, None]) / np.append(np.diff(hertz), 1)[:, None]
    triangles = np.maximum(0, np.minimum(rise[:-2], 1 - rise[1:-1]))
    area = (2 / (hertz[2:] - hertz[:-2]))[:, None]
    return torch.tensor(triangles * area, dtype=torch.float32)


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's position table, (length, width)."""
    octave = -math.log(10_000) / (width // 2 - 1)
    angle = torch.arange(length)[:, None] * torch.exp(octave * torch.arange(width // 2))
    return torch.cat([angle.sin(), angle.cos()], dim=1)
