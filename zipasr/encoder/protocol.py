"""What an encoder is to everybody else: its configuration, the module it builds, its chunks.

An encoder is added as a configuration class (``EncoderConfig``) that is registered in ``registry``.
Whatever depends on the kind of an encoder, of its heads, of its frames or of its files is asked of
the configuration. This module and the configurations import no torch, so that help texts and
checks of flags need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    runtime_checkable,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zipasr.encoder.inference import WeightShapes

#: One number of frames, or (N,) of them as a tensor.
Length = TypeVar("Length", "int", "Tensor")
Flags = Mapping[str, Any]

#: Seconds from one feature frame to the next, of every encoder.
SECONDS_PER_FEATURE_FRAME = 0.01


@dataclass(frozen=True, slots=True)
class Geometry:
    """Features that an encoder takes and frames that it gives; the defaults are the Zipformer's.

    Attributes:
        mel_bins: of a feature frame.
        subsampling: feature frames (10 ms) per encoder frame.
        min_frames: feature frames of the shortest utterance; it gives one encoder frame.
        look_ahead: feature frames that a chunk has beyond its step.
        right_context: of these, the frames that padded convolutions see beyond the last frame
            that they return; the others are lost in convolutions without padding.
        tail: feature frames of silence behind an utterance that a causal model needs to return
            its last token.
    """

    mel_bins: int = 80
    subsampling: int = 4
    min_frames: int = 9
    look_ahead: int = 13
    right_context: int = 6
    tail: int = 30

    @property
    def seconds_per_frame(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.subsampling * SECONDS_PER_FEATURE_FRAME

    def output_lens(self, num_frames: Length) -> Length:
        """Return the number of encoder frames for a number of feature frames.

        Args:
            num_frames: one length, or (N,) integers.

        Returns:
            T', the same kind as ``num_frames``: of the Zipformer, 36 for 150 and 23 for 97. Not
            positive below ``min_frames``.
        """
        return (num_frames - self.min_frames) // self.subsampling + 1

    def to_metadata(self) -> dict[str, str]:
        """Return what exported files say of it: what a reader would not assume; see below."""
        usual = Geometry.from_metadata({}, self.look_ahead)
        if self.tail == 0:  # files for whole utterances need none
            usual = replace(usual, tail=0)
        values = asdict(self)
        unlike = (name for name in values if values[name] != getattr(usual, name))
        return {f"geometry_{name}": str(values[name]) for name in unlike}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str], look_ahead: int | None = None) -> Geometry:
        """Return the geometry of an exported file.

        Args:
            metadata: of the file. Those of published models say nothing: their front ends lose
                as many frames as the Zipformer's.
            look_ahead: of a streaming file; ``None`` for others.
        """
        usual = Geometry()
        if look_ahead is not None:
            lost = usual.look_ahead - usual.right_context
            usual = replace(usual, look_ahead=look_ahead, right_context=look_ahead - lost)
        names = {name: f"geometry_{name}" for name in asdict(usual)}
        given = {n: int(metadata[key]) for n, key in names.items() if key in metadata}
        return replace(usual, **given)


@dataclass(frozen=True, slots=True)
class HeadStyle:
    """How the heads on top of an encoder are built; the defaults are those of the Zipformer.

    Attributes:
        decoder_balancers: whether balancers act on the prediction network in training.
        decoder_gain: factor of the token embeddings.
        decoder_init: standard deviation of the initial embeddings.
        joiner_gain: factor of the logits.
        simple_init: initial scale of the projections of the simple transducer loss.
        ctc_dropout: rate before the CTC projection; ``None``: there is no such module, and the
            projection is ``ctc_output.0``.
        ctc_init: initial scale of the CTC projection; ``None``: torch's own initialisation.
        bias_init: bound of the initial biases of scaled layers, as a share of their scale.
    """

    decoder_balancers: bool = True
    decoder_gain: float = 1.0
    decoder_init: float = 1.0
    joiner_gain: float = 1.0
    simple_init: float = 0.25
    ctc_dropout: float | None = 0.1
    ctc_init: float | None = None
    bias_init: float = 0.1

    @property
    def ctc_projection(self) -> str:
        """Name of the linear layer of the CTC head."""
        return "ctc_output.0" if self.ctc_dropout is None else "ctc_output.1"


@dataclass(frozen=True, slots=True)
class LossStyle:
    """Weights of the transducer losses at the first update; the defaults are the Zipformer's.

    Attributes:
        simple_start: of the simple loss; ``None``: that of the whole training.
        pruned_start: of the pruned loss, which rises to 1.
    """

    simple_start: float | None = 1.0
    pruned_start: float = 0.1


#: That of the Zipformer.
USUAL_LOSSES = LossStyle()


class ChunkSize(NamedTuple):
    """How feature frames are cut; neighbours overlap by what the encoder looks ahead.

    Attributes:
        frames: feature frames of a chunk.
        step: feature frames from the beginning of one chunk to that of the next.
        geometry: of the encoder.
    """

    frames: int
    step: int
    geometry: Geometry = Geometry()

    def num_chunks(self, num_frames: int) -> int:
        """Return the number of chunks of an utterance, the last one filled up."""
        frames = self.geometry.output_lens(num_frames)
        return -(-frames * self.geometry.subsampling // self.step)

    def valid(self, index: int, num_frames: int) -> int:
        """Return the length of a chunk of an utterance, so that chunks give what the whole gives.

        The frames that come out of all chunks are as many as ``Geometry.output_lens`` says.
        """
        left = num_frames + self.geometry.right_context - index * self.step
        return min(self.frames, max(0, left))

    def output_lens(self, lens: Tensor, num_frames: int) -> Tensor:
        """Return the number of valid encoder frames of chunks.

        Args:
            lens: (N,) from ``valid``.
            num_frames: T', encoder frames that a chunk gives.
        """
        found = self.geometry.output_lens(lens - self.geometry.right_context)
        return found.clamp(min=0, max=num_frames)


class ChunkEncoder(Protocol):
    """An encoder of a causal model that works chunk by chunk.

    The state of N streams is a list of tensors, in the order in which published exports have them.
    """

    def size(self) -> ChunkSize:
        """How speech must be cut.

        Raises:
            ValueError: the model cannot work on speech as it comes; says why.
        """

    def start(self, batch_size: int, device: torch.device | str) -> list[Tensor]:
        """State of streams before their first chunk.

        Raises:
            ValueError: as ``size``.
        """

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode the next chunk of each stream.

        Args:
            features: (N, ``frames``, mel bins).
            feature_lens: (N,) number of valid frames, see ``ChunkSize.valid``.
            state: before the chunk; left as it is.

        Returns:
            (N, T', C); (N,) valid lengths; the state after the chunk.
        """

    def batch_dims(self) -> Sequence[int]:
        """Of each tensor of a state: the dimension along which streams stand side by side."""


class Encoder(Protocol):
    """Front end and encoder with their weights; a model registers the modules in ``parts``."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Modules by the name that the keys of their weights begin with, in the keys' order."""

    @property
    def chunks(self) -> ChunkEncoder:
        """The same modules, chunk by chunk."""

    def __call__(
        self, features: Tensor, feature_lens: Tensor, lens: Sequence[int] | None = None, /
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Args:
            features: (N, T, mel bins).
            feature_lens: (N,) number of valid frames.
            lens: the same as plain numbers, known to be right; ``None`` while the call is
                recorded for an export, when nothing may depend on values.

        Returns:
            (N, T', C) and the valid lengths (N,); frames beyond them hold no information.
        """

    def rank_state(self) -> dict[str, Any]:
        """What the modules hold beside weights, unlike in each process of a training."""

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``rank_state`` returned."""


class PreparedEncoder(Protocol):
    """An encoder on a CPU for recognition alone, with the weights of when it was made."""

    def encode(
        self, features: Tensor, feature_lens: Tensor, lens: Sequence[int], /
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances; see ``Encoder.__call__``."""

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor], /
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode the next chunk of each stream; see ``ChunkEncoder``."""


@runtime_checkable
class Preparable(Protocol):
    """An ``Encoder`` that can be prepared for recognition; others are used as they are."""

    def prepared(self, dtype: torch.dtype) -> PreparedEncoder:
        """Return its function with the weights of now, products of matrices in ``dtype``."""


def with_long_counts(states: Sequence[Tensor]) -> list[Tensor]:
    """Return states as clients give them: all counts have 64 bits."""
    return [state if state.is_floating_point() else state.long() for state in states]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLayout:
    """Names, metadata and states of exported files, as clients such as sherpa-onnx expect them.

    Attributes:
        model_type: what clients call the encoder.
        state_names: names of the states, in the order of ``ChunkEncoder``.
        streaming_metadata: what a client needs to make the states of streams and to cut speech.
        is_streaming: whether files work on speech as it comes.
        chunks_name: part of the names of streaming files that says how speech is cut.
        has_client: whether sherpa-onnx runs the files.
        streams_ctc: whether sherpa-onnx runs streaming files of the CTC head.
        limits: sentences for the user: what sherpa-onnx will not do with the files.
        ctc_limits: the same of files of a model with a CTC head.
        problem: sentence that says why no file exists for the settings; empty where one does.
        to_file: from the states of the model to those that clients give.
        from_file: back again.
    """

    model_type: str
    state_names: tuple[str, ...]
    streaming_metadata: Mapping[str, str]
    is_streaming: bool
    chunks_name: str
    has_client: bool
    streams_ctc: bool = False
    limits: tuple[str, ...] = ()
    ctc_limits: tuple[str, ...] = ()
    problem: str = ""
    to_file: Callable[[Sequence[Tensor]], list[Tensor]] = with_long_counts
    from_file: Callable[[Sequence[Tensor]], list[Tensor]] = list


def joined(lists: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return lists as the metadata of a file has them: numbers with commas between them."""
    return {name: ",".join(map(str, values)) for name, values in lists.items()}


class EncoderConfig(Protocol):
    """Settings of an encoder: a frozen dataclass whose fields are flags; imports no torch.

    Attributes:
        name: value of ``--encoder-type``.
        schema: name of these settings in checkpoints and exports; never changed.
        former_schemas: names that they had in files of earlier versions.
        not_inferable: fields that weights do not show.
        free_when_decoding: fields that may be typed for any use of a causal model.
        free_on_resume: fields that may change while the weights keep their meaning.
        schedule_clock: what schedules inside the encoder count: updates, or seconds of speech.
        heads: how the heads are built.
        losses: how the weights of the losses begin.
        published_optimizer: with which published checkpoints were trained.
        published_batches: (preset, "transducer", "attention" or "consistency") -> GPUs and
            ``--max-duration`` of the published training.
        adapted_layers: patterns of names of the linear layers that get adapters in fine-tuning,
            where none are named.
        causal: whether the model can work on speech as it comes.
    """

    name: ClassVar[str]
    schema: ClassVar[str]
    former_schemas: ClassVar[tuple[str, ...]]
    not_inferable: ClassVar[tuple[str, ...]]
    free_when_decoding: ClassVar[tuple[str, ...]]
    free_on_resume: ClassVar[tuple[str, ...]]
    schedule_clock: ClassVar[Literal["updates", "duration"]]
    heads: ClassVar[HeadStyle]
    losses: ClassVar[LossStyle]
    published_optimizer: ClassVar[str]
    published_batches: ClassVar[Mapping[tuple[str, str], tuple[int, int]]]
    adapted_layers: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def causal(self) -> bool:
        """See above."""

    @property
    def output_dim(self) -> int:
        """C of the encoder output."""

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out."""

    def choices(self) -> Mapping[str, tuple[int, ...]]:
        """Settings of which training draws one and decoding needs one; empty if there are none."""

    def describe(self) -> str:
        """Kind and size in a few words, such as ``Zipformer small``."""

    def result_tag(self) -> str:
        """Part of the names of result files that says how a causal model cuts speech."""

    def export_layout(self) -> ExportLayout:
        """Layout of exported files."""

    def build(self) -> Encoder:
        """Modules with fresh weights on the default device; imports torch."""

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Any]]:
        """Values of ``--preset``: fields that each of them sets."""

    @classmethod
    def matches(cls, shapes: WeightShapes) -> bool:
        """Whether weights are those of this encoder."""

    @classmethod
    def infer(cls, shapes: WeightShapes, hints: Flags) -> tuple[EncoderConfig, list[str]]:
        """Read sizes off weights that match.

        Args:
            shapes: of the weights.
            hints: field -> value, for what the weights do not tell.

        Returns:
            The settings, and a sentence for each guess.

        Raises:
            CheckpointError: a weight is missing.
            ValueError: the sizes are refused.
        """

    @classmethod
    def settling_flags(cls, typed: Flags, /) -> Sequence[str]:
        """Names of flags that settle what weights leave open, where they are typed."""

    @classmethod
    def with_implied(cls, flags: Flags) -> dict[str, Any]:
        """Flags of a published checkpoint with what they imply for these settings."""

    @classmethod
    def defaults_of_others(cls, flags: Flags) -> Mapping[str, Any]:
        """Flags of heads and training that have other defaults with this encoder.

        Args:
            flags: what is known of the flags of these settings: by default, preset or typed.
        """


class BuiltElsewhere:
    """Base of an ``EncoderConfig`` whose modules are built in a module of their own.

    Attributes:
        construction: the module, with the functions ``build``, ``infer`` and ``export_layout``; it
            imports torch.
    """

    __slots__ = ()

    construction: ClassVar[str]

    def build(self) -> Encoder:
        """See ``EncoderConfig``."""
        encoder: Encoder = import_module(self.construction).build(self)
        return encoder

    def export_layout(self) -> ExportLayout:
        """See ``EncoderConfig``."""
        layout: ExportLayout = import_module(self.construction).export_layout(self)
        return layout

    @classmethod
    def infer(cls, shapes: WeightShapes, hints: Flags) -> tuple[Any, list[str]]:
        """See ``EncoderConfig``."""
        found: tuple[Any, list[str]] = import_module(cls.construction).infer(shapes, hints)
        return found

    @classmethod
    def with_implied(cls, flags: Flags) -> dict[str, Any]:
        """See ``EncoderConfig``: published flags say all themselves."""
        return dict(flags)

    @classmethod
    def defaults_of_others(cls, _flags: Flags) -> Mapping[str, Any]:
        """See ``EncoderConfig``: none, the defaults of all flags are for this encoder."""
        return {}
