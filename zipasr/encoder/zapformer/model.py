"""Stacks at several frame rates, each of which replaces its part of a wide stream at 50 Hz."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipasr.encoder.chunk_masks import NO_MASKS, Masks, chunk_mask, halved_lens
from zipasr.encoder.chunks import (
    WHOLE,
    Chunks,
    check_states,
    choose_chunks,
    only_chunks,
    states_of_stacks,
)
from zipasr.encoder.zapformer.config import OUTPUT_FACTOR, LayerConfig, ZapformerConfig
from zipasr.encoder.zapformer.layer import (
    NUM_STATES,
    LayerMemory,
    ZapformerLayer,
    from_memory,
    initial_states,
    to_memory,
)
from zipasr.encoder.zapformer.norm import RmsNorm
from zipasr.encoder.zapformer.penalties import OrthogonalLinear
from zipasr.encoder.zapformer.positions import PositionTable, recorded_table
from zipasr.nn.gradients import limit_param_value
from zipasr.nn.numerics import is_traced
from zipasr.nn.schedule import FloatLike, PenaltyScale

#: Updates after which the penalties have a quarter of their weight.
WARMUP_UPDATES = 2000.0


def stacked_frames(x: Tensor, factor: int) -> Tensor:
    """Put each ``factor`` neighbours of (T, N, C) side by side: (T / factor, N, factor C)."""
    if factor == 1:
        return x
    groups = x.reshape(-1, factor, x.size(1), x.size(2))
    return groups.transpose(1, 2).flatten(2)


def single_frames(x: Tensor, factor: int) -> Tensor:
    """Undo ``stacked_frames``."""
    if factor == 1:
        return x
    groups = x.view(x.size(0), x.size(1), factor, -1)
    return groups.transpose(1, 2).flatten(0, 1)


class ZapformerStack(nn.Module):
    """Layers of equal size between a nearly orthogonal projection and its transpose.

    The result of the layers and of their input, weighted, goes back into the subspace that the
    projection took it from; with the initial weight -1 of the input, it replaces what was there.
    Keys: ``residual_scales`` (layers + 1,), ``input_scale`` (1,), ``proj``, ``layers``.

    Args:
        config: sizes of each layer.
        num_layers: how many; all start with the same values, as in the published recipe.
        in_channels: C of the stream at the rate of the stack.
    """

    def __init__(self, config: LayerConfig, num_layers: int, in_channels: int) -> None:
        super().__init__()
        shares = [-1.0, *[1.0 / num_layers] * num_layers]
        self.residual_scales = nn.Parameter(torch.tensor(shares))
        self.input_scale = nn.Parameter(torch.ones(1))
        self.proj = OrthogonalLinear(in_channels, config.encoder_dim)
        layer = ZapformerLayer(config)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(num_layers))

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        masks: Masks = NO_MASKS,
        alpha: float = 0.0,
        memories: Sequence[LayerMemory] | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: (T', N, C).
            table: (T' - 1 + S, 128) of ``PositionTable``.
            masks: padding and chunks, at the frame rate of the stack.
            alpha: weight of the penalties, of all layers together.
            memories: of each layer, if ``x`` is one chunk of many.

        Returns:
            (T', N, C).
        """
        scale_in, first, *scales = self._limited_scales()
        projected = self.proj(x)
        hidden, total = scale_in * projected, first * projected
        for index, (layer, scale) in enumerate(zip(self.layers, scales, strict=True)):
            memory = memories[index] if memories else None
            hidden = layer(hidden, table, masks, alpha / len(self.layers), memory)
            total = torch.addcmul(total, hidden, scale)
        out: Tensor = x + self.proj(total, transpose=True)
        return out

    def _limited_scales(self) -> list[Tensor]:
        """Return the scales, kept in ranges in evaluation mode as well, as the recipe does."""
        scales = [self.input_scale, *self.residual_scales.unbind()]
        if not torch.is_grad_enabled():
            return scales
        count = len(self.layers)
        last = min(0.5, 1.0 / count), 1.0
        ranges = [(0.5, 2.0), (-1.0, -0.5), *[(0.0, 1.0)] * (count - 1), last]
        pairs = zip(scales, ranges, strict=True)
        return [limit_param_value(scale, low, high, 1.0) for scale, (low, high) in pairs]


class Zapformer(nn.Module):
    """The encoder behind the front end: 20 ms frames in, 40 ms frames out.

    Source: icefall's pull request 2082, "Zapformer", 2026.

    Args:
        config: shape.

    Attributes:
        penalty_scale: weight of all that acts on gradients alone.
    """

    def __init__(self, config: ZapformerConfig) -> None:
        super().__init__()
        self.factors = config.downsampling_factor
        self.causal = config.causal
        self.chunk_size = config.chunk_size
        self.left_context_frames = config.left_context_frames
        self.encoders = nn.ModuleList(_build_stack(config, i) for i in range(config.num_stacks))
        self.out_norm = RmsNorm()
        scale = config.aux_loss_scale
        self.penalty_scale: FloatLike = PenaltyScale(
            (WARMUP_UPDATES - 1, scale), (WARMUP_UPDATES, 0.25 * scale), default=0.25 * scale
        )
        self._positions = PositionTable()

    def forward(
        self, x: Tensor, x_lens: Tensor, src_key_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode; a causal model draws chunks for the call, also in evaluation mode.

        Frames that fill the last one of the slowest stack are repetitions of the last. They are
        masked only where there is a mask, so a mask without padding is not the same as none.

        Args:
            x: (T1, N, C between the stacks).
            x_lens: (N,) number of valid frames.
            src_key_padding_mask: (N, T1), True at padding; ``None`` when there is none.

        Returns:
            (T', N, 2 C) with T' = (T1 + 1) // 2; frames beyond the lengths hold no information.
            And (N,), the valid lengths.
        """
        chunks = choose_chunks(self.chunk_size, self.left_context_frames) if self.causal else WHOLE
        num_frames = x.size(0)
        x, padding = self._filled_up(x, src_key_padding_mask)
        chunk = chunk_mask(x.size(0), chunks, x.device)
        frames = self._run(x, Masks(padding, chunk, chunks.size))
        return frames[: (num_frames + 1) // 2], halved_lens(x_lens)

    def _filled_up(self, x: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Repeat the last frame until all stacks have whole frames."""
        factor = max(self.factors)
        num_frames = x.size(0)
        whole = (num_frames + factor - 1) // factor * factor
        if not is_traced() and num_frames == whole:
            return x, padding
        # How many are missing is not known when an exported model is made.
        x = torch.cat([x, x[-1:].expand(factor - 1, -1, -1)])[:whole]
        if padding is not None:
            hidden = torch.ones_like(padding[:, :1]).expand(-1, factor - 1)
            last = padding.size(1) + whole - num_frames
            padding = torch.cat([padding, hidden], dim=1)[:, :last]
        return x, padding

    def _run(
        self, x: Tensor, masks: Masks, memories: Sequence[Sequence[LayerMemory]] | None = None
    ) -> Tensor:
        alpha = float(self.penalty_scale) if self.training else 0.0
        recorded = recorded_table(x.size(0), x.device) if is_traced() and not memories else None
        for index, (stack, factor) in enumerate(zip(self.encoders, self.factors, strict=True)):
            slow = stacked_frames(x, factor)
            memory = memories[index] if memories else None
            if recorded is not None:
                middle, reach = x.size(0) - 1, slow.size(0) - 1
                table = recorded[middle - reach : middle + reach + 1]
            else:
                left = memory[0].attention.key.frames.size(0) if memory else 0
                table = self._positions.cut(slow.size(0), left, x.device)
            share = alpha * factor / (2 * len(self.encoders))
            slow = stack(slow, table, masks.every(factor), share, memory)
            x = single_frames(slow, factor)
        frames: Tensor = self.out_norm(stacked_frames(x, OUTPUT_FACTOR))
        return frames

    @property
    def num_layers(self) -> int:
        """Number of layers of all stacks."""
        return sum(len(_layers(stack)) for stack in self.encoders)

    def streaming_chunks(self) -> Chunks:
        """Return the one size of chunks with which the model can work on speech as it comes.

        Raises:
            ValueError: the model is not causal, or has no single chunk size and left context.
        """
        return only_chunks(self.causal, self.chunk_size, self.left_context_frames)

    def get_init_states(
        self, batch_size: int = 1, device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Return what every layer remembers before the first chunk; see ``layer``.

        Raises:
            ValueError: as for ``streaming_chunks``.
        """
        chunks = self.streaming_chunks()
        # So that the table is there, as a constant, when a chunk is recorded.
        self._positions.cut(chunks.size, chunks.left_frames, torch.device(device))
        states = []
        for stack, factor in zip(self.encoders, self.factors, strict=True):
            for layer in _layers(stack):
                left = chunks.left_frames // factor
                states += initial_states(layer, left, batch_size, device)
        return states

    def streaming_forward(
        self,
        x: Tensor,
        x_lens: Tensor,
        states: Sequence[Tensor],
        src_key_padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode one chunk of each stream.

        Args:
            x: (T1, N, C between the stacks), T1 at most the chunk size; only the last chunk of a
                stream may be shorter.
            x_lens: (N,) number of valid frames of the chunk.
            states: of all layers, nine tensors each; left as they are.
            src_key_padding_mask: (N, left context + T1), True where a frame of the left context
                lies before the beginning of its stream, and at padding.

        Returns:
            ((T1 + 1) // 2, N, 2 C); (N,) their valid lengths; the states after the chunk.

        Raises:
            ValueError: the encoder is in training mode, or chunk, states and mask do not fit.
        """
        self._check_chunk(x, states, src_key_padding_mask)
        counts = [len(_layers(stack)) for stack in self.encoders]
        of_stacks = states_of_stacks(states, counts, NUM_STATES)
        memories = [[to_memory(used) for used in layers] for layers in of_stacks]
        num_frames = x.size(0)
        if not is_traced():
            x, src_key_padding_mask = self._filled_up(x, src_key_padding_mask)
        frames = self._run(x, Masks(src_key_padding_mask), memories)
        after = [tensor for layers in memories for m in layers for tensor in from_memory(m)]
        return frames[: (num_frames + 1) // 2], halved_lens(x_lens), after

    def _check_chunk(self, x: Tensor, states: Sequence[Tensor], mask: Tensor | None) -> None:
        if self.training:
            raise ValueError("a model in training mode adds noise: call eval()")
        chunks = self.streaming_chunks()
        if x.size(0) > chunks.size:
            raise ValueError(f"a chunk has {chunks.size} frames of 20 ms, got {x.size(0)}")
        num_states = NUM_STATES * self.num_layers
        check_states(x, states, mask, chunks, num_states, self.factors[0])


def _build_stack(config: ZapformerConfig, index: int) -> ZapformerStack:
    return ZapformerStack(
        config.layer_config(index),
        config.per_stack("num_encoder_layers")[index],
        config.embed_dim * config.downsampling_factor[index],
    )


def _layers(stack: nn.Module) -> nn.ModuleList:
    assert isinstance(stack, ZapformerStack)
    return stack.layers
