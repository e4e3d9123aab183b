"""Chunks of time in a causal encoder: their size, the left context, and which sizes fit.

``ChunkedConfig`` and ``chunked_layout`` are what the settings and the exported files of encoders
with ``--chunk-size`` and ``--left-context-frames`` have in common.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zipasr.base.config import flag_name
from zipasr.base.errors import UserError, nearest
from zipasr.encoder.protocol import BuiltElsewhere, ExportLayout, Geometry, joined

if TYPE_CHECKING:
    from torch import Tensor


class Chunks(NamedTuple):
    """How one forward call cuts time.

    Attributes:
        size: frames of 20 ms in a chunk; -1 puts everything into one chunk.
        left: number of earlier chunks that a frame sees; -1 for all of them.
    """

    size: int
    left: int

    @property
    def left_frames(self) -> int:
        """Number of earlier frames of 20 ms that a chunk sees; -1 for all of them."""
        return -1 if self.left < 0 else self.left * self.size


#: No chunks: every frame sees every other one.
WHOLE = Chunks(-1, -1)


def chunks_of(size: int, left_context_frames: int) -> Chunks:
    """Round the left context down to whole chunks, of which there is at least one.

    Args:
        size: frames of 20 ms in a chunk, or -1.
        left_context_frames: frames of 20 ms before the chunk, or -1 for all.
    """
    if size < 0:
        return WHOLE
    return Chunks(size, -1 if left_context_frames < 0 else max(1, left_context_frames // size))


def choose_chunks(chunk_size: Sequence[int], left_context_frames: Sequence[int]) -> Chunks:
    """Draw the chunks of one forward call; lists of one element leave no choice.

    The coins are Python's ``random``, in evaluation mode as well.

    Args:
        chunk_size: what to choose from, in frames of 20 ms; -1 for everything.
        left_context_frames: likewise.
    """
    size = random.choice(chunk_size)
    return WHOLE if size < 0 else chunks_of(size, random.choice(left_context_frames))


def only_chunks(
    causal: bool, chunk_size: Sequence[int], left_context_frames: Sequence[int]
) -> Chunks:
    """Return the one size of chunks with which a model can work on speech as it comes.

    Args:
        causal: whether the model is.
        chunk_size: the choices of --chunk-size.
        left_context_frames: the choices of --left-context-frames.

    Raises:
        ValueError: the model is not causal, or has no single chunk size and left context.
    """
    if not causal:
        raise ValueError("the model is not causal: train one with --causal 1 to stream")
    sizes = (*chunk_size, *left_context_frames)
    if len(sizes) != 2 or min(sizes) < 0:
        raise ValueError(
            "streaming needs one positive --chunk-size and one --left-context-frames, got "
            f"{chunk_size} and {left_context_frames}"
        )
    return chunks_of(*sizes)


def check_chunks(
    chunk_size: Sequence[int],
    left_context_frames: Sequence[int],
    factors: Sequence[int],
    kernels: Sequence[int],
) -> None:
    """Refuse chunks that a causal model cannot work with.

    Args:
        chunk_size: the choices of --chunk-size.
        left_context_frames: the choices of --left-context-frames.
        factors: by how much each stack lowers the frame rate.
        kernels: frames that the convolutions of each stack see.

    Raises:
        ValueError: names the flag and what would fit.
    """
    for name, values in (
        ("--chunk-size", chunk_size),
        ("--left-context-frames", left_context_frames),
    ):
        if not values or any(value == 0 or value < -1 for value in values):
            raise ValueError(f"{name} must be positive, or -1 for everything, got {values}")
    for size in chunk_size:
        bad = [factor for factor in factors if size > 0 and size % factor]
        if bad:
            raise ValueError(
                f"--chunk-size {size} must be a multiple of every --downsampling-factor, "
                f"but {bad[0]} does not divide it"
            )
        if size > 0 and size % 2:
            raise ValueError(f"--chunk-size {size} must be even: pairs of frames are joined")
        for frames in left_context_frames:
            _check_left_context(chunks_of(size, frames), frames, factors, kernels)


def _check_left_context(
    chunks: Chunks, asked_for: int, factors: Sequence[int], kernels: Sequence[int]
) -> None:
    needed = max(kernel // 2 * factor for kernel, factor in zip(kernels, factors, strict=True))
    if 0 <= chunks.left_frames < needed:
        raise ValueError(
            f"--left-context-frames {asked_for} is too short for --chunk-size {chunks.size}: "
            f"{chunks.left_frames} frames are left in whole chunks, the convolutions see {needed}"
        )


def states_of_stacks(
    states: Sequence[Tensor], num_layers: Iterable[int], size: int
) -> list[list[Sequence[Tensor]]]:
    """Divide states, ``size`` for each layer, among stacks of ``num_layers`` layers."""
    of_layers = (states[i : i + size] for i in range(0, len(states), size))
    return [list(islice(of_layers, count)) for count in num_layers]


def check_states(
    x: Tensor, states: Sequence[Tensor], mask: Tensor | None, chunks: Chunks, num: int, factor: int
) -> None:
    """Refuse what does not fit a chunk ``x`` (T1, N, C): states, mask (N, left context + T1).

    Of ``num`` states the first has the left context first, at ``factor`` times less frames.

    Raises:
        ValueError: says what fits.
    """
    left = states[0].size(0) * factor if states else 0
    if len(states) != num or left != chunks.left_frames:
        raise ValueError(
            f"expected {num} states with a left context of {chunks.left_frames} frames, "
            f"got {len(states)} with {left}: begin with those of get_init_states"
        )
    seen = (x.size(1), left + x.size(0))
    if mask is not None and tuple(mask.shape) != seen:
        raise ValueError(f"the padding mask must be {seen}, got {tuple(mask.shape)}")


def as_choices(given: int | Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return one value or several as the choices of a setting; ``default`` where none is given."""
    if given is None:
        return default
    return (given,) if isinstance(given, int) else tuple(given)


def in_full(value: Any, num_stacks: int) -> Any:
    """Return a list with one value for all stacks as one value for each; others as they are."""
    return value * num_stacks if isinstance(value, tuple) and len(value) == 1 else value


C = TypeVar("C", bound="ChunkedConfig")


def settings_of_preset(
    presets: Mapping[str, C],
    preset: str,
    chunk_size: int | Sequence[int] | None,
    left_context_frames: int | Sequence[int] | None,
    **fields: Any,
) -> C:
    """Return the settings of a published size, with chunks and other fields as given.

    Raises:
        UserError: there is no such size.
        ValueError: the chunks do not fit.
    """
    if preset not in presets:
        known = f"choose one of: {', '.join(presets)}."
        raise UserError(f"unknown preset {preset!r}.", nearest(preset, presets) or known)
    sizes = presets[preset]
    return replace(
        sizes,  # type: ignore[type-var]  # all classes of settings are dataclasses
        chunk_size=as_choices(chunk_size, sizes.chunk_size),
        left_context_frames=as_choices(left_context_frames, sizes.left_context_frames),
        **fields,
    )


class ChunkedConfig(BuiltElsewhere):
    """Base of the settings of encoders of stacks, which work on whole utterances or in chunks."""

    __slots__ = ()

    causal: bool
    chunk_size: tuple[int, ...]
    left_context_frames: tuple[int, ...]
    downsampling_factor: tuple[int, ...]

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out."""
        raise NotImplementedError

    @property
    def num_stacks(self) -> int:
        """Number of stacks."""
        return len(self.downsampling_factor)

    def per_stack(self, name: str) -> tuple[int, ...]:
        """Return the values of field ``name``, one for each stack."""
        values: tuple[int, ...] = in_full(getattr(self, name), self.num_stacks)
        return values

    def check_counts(self, names: Iterable[str]) -> None:
        """Refuse lists that have neither one value for each stack nor one for all.

        Raises:
            ValueError: names the flag.
        """
        for name in names:
            count = len(getattr(self, name))
            if count not in (1, self.num_stacks):
                raise ValueError(
                    f"{flag_name(name)} has {count} values, but --downsampling-factor has "
                    f"{self.num_stacks}: give one value for each stack, or one for all"
                )

    def choices(self) -> Mapping[str, tuple[int, ...]]:
        """Chunk sizes and left contexts of a causal model: training draws one of each."""
        if not self.causal:
            return {}
        return {"chunk_size": self.chunk_size, "left_context_frames": self.left_context_frames}

    def result_tag(self) -> str:
        """Chunk size and left context, as published results are named."""
        (chunk,), (left,) = self.chunk_size, self.left_context_frames
        return f"chunk-{chunk}_left-context-{left}"


def chunked_layout(
    config: ChunkedConfig,
    layer_states: Sequence[str],
    front_state: str,
    lists: Mapping[str, Sequence[int]],
    **fields: Any,
) -> ExportLayout:
    """Return the ``ExportLayout`` of an encoder with ``ChunkedConfig``.

    A causal model may also hear whole utterances.

    Args:
        config: settings of the encoder.
        layer_states: names of the states of a layer.
        front_state: name of that of the front end.
        lists: metadata of this encoder alone, with one value for each stack.
        fields: the other fields of the layout.
    """
    size, left = config.chunk_size[0], config.left_context_frames[0]
    is_streaming, num_layers = config.causal and size > 0, config.per_stack("num_encoder_layers")
    seen = chunks_of(size, left).left_frames
    every = {
        "num_encoder_layers": num_layers,
        **lists,
        "left_context_len": tuple(seen // factor for factor in config.downsampling_factor),
        "query_head_dims": config.per_stack("query_head_dim"),
        "value_head_dims": config.per_stack("value_head_dim"),
        "num_heads": config.per_stack("num_heads"),
    }
    step, frames = 2 * size, 2 * size + config.geometry.look_ahead
    layers = (f"{name}_{i}" for i in range(sum(num_layers)) for name in layer_states)
    return ExportLayout(
        state_names=(*layers, front_state, "processed_lens"),
        streaming_metadata={"decode_chunk_len": f"{step}", "T": f"{frames}"} | joined(every),
        is_streaming=is_streaming,
        chunks_name=f"-chunk-{size}-left-{left}" if is_streaming else "",
        problem=_UNEVEN if config.causal and (size > 0) != (left > 0) else "",
        **fields,
    )


_UNEVEN = (
    "--chunk-size and --left-context-frames must both be positive, or both -1 for an export that "
    "hears whole utterances."
)
