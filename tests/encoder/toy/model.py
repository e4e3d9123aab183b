"""Modules of the toy encoder, its chunks and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.encoder.toy.config import ToyConfig
from zipasr.encoder.protocol import ChunkSize, ExportLayout
from zipasr.nn.masks import make_pad_mask


class Frames(nn.Module):
    """Frames at half the rate (N, T', C) -> frames (N, T', C)."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        dim, layers = config.toy_dim, config.toy_layers
        dropout = config.toy_dropout if layers > 1 else 0.0
        self.context = None if config.causal else nn.Conv1d(dim, dim, kernel_size=3, padding=1)
        self.gru = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout)
        self.calls = 0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.context is not None:
            x = x + torch.relu(self.context(x.transpose(1, 2)).transpose(1, 2))
        frames, after = self.gru(x, state)
        return frames, after

    def zeros(self, num: int | Tensor, device: torch.device | str) -> Tensor:
        return torch.zeros(self.gru.num_layers, num, self.gru.hidden_size, device=device)


@dataclass(frozen=True, slots=True)
class ToyEncoder:
    """An ``Encoder``."""

    config: ToyConfig
    front: nn.Conv1d
    encoder: Frames

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        return {"toy_front": self.front, "encoder": self.encoder}

    @property
    def chunks(self) -> ToyChunks:
        return ToyChunks(self)

    def half(self, features: Tensor) -> Tensor:
        """Features (N, T, F) at half the rate, (N, (T - 1) // 2, C); their mean is about -9."""
        embedded: Tensor = self.front((features + 9.0).transpose(1, 2) / 4.0).transpose(1, 2)
        return torch.relu(embedded)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, _lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        x, lens = self.half(features), self.config.geometry.output_lens(feature_lens)
        x = x.masked_fill(make_pad_mask(lens, x.size(1)).unsqueeze(-1), 0.0)
        self.encoder.calls += self.encoder.training
        return self.encoder(x, self.encoder.zeros(x.size(0), x.device))[0], lens

    def rank_state(self) -> dict[str, Any]:
        return {"calls": self.encoder.calls}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        self.encoder.calls = state["calls"]


@dataclass(frozen=True, slots=True)
class ToyChunks:
    """A ``ChunkEncoder``: the state is that of the recurrent network, (layers, N, C)."""

    whole: ToyEncoder

    def size(self) -> ChunkSize:
        config = self.whole.config
        if not config.causal or len(config.toy_chunk) != 1:
            raise ValueError("streaming needs --causal 1 in training, and one --toy-chunk")
        geometry = config.geometry
        step = geometry.subsampling * config.toy_chunk[0]
        return ChunkSize(step + geometry.look_ahead, step, geometry)

    def start(self, batch_size: int, device: torch.device | str) -> list[Tensor]:
        self.size()
        return [self.whole.encoder.zeros(batch_size, device)]

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        frames, after = self.whole.encoder(self.whole.half(features), state[0])
        lens = self.whole.config.geometry.output_lens(feature_lens).clamp(min=0)
        return frames, lens, [after]

    def batch_dims(self) -> Sequence[int]:
        return [1]


def export_layout(config: ToyConfig) -> ExportLayout:
    step = config.geometry.subsampling * config.toy_chunk[0]
    frames = step + config.geometry.look_ahead
    return ExportLayout(
        model_type="toy",
        state_names=("toy_state",),
        streaming_metadata={"decode_chunk_len": str(step), "T": str(frames)},
        is_streaming=config.causal,
        chunks_name=f"-toy-{config.toy_chunk[0]}" if config.causal else "",
        has_client=False,
        limits=("no client knows the toy encoder.",),
    )


def build(config: ToyConfig) -> ToyEncoder:
    front = nn.Conv1d(config.geometry.mel_bins, config.toy_dim, kernel_size=3, stride=2)
    return ToyEncoder(config, front, Frames(config))
