"""Settings of the toy encoder: a convolution and a recurrent network; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipasr.base.config import flag
from zipasr.encoder.protocol import Encoder, ExportLayout, Flags, Geometry, HeadStyle, LossStyle

if TYPE_CHECKING:
    from zipasr.encoder.inference import WeightShapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    """Shape of the toy encoder."""

    name: ClassVar[str] = "toy"
    schema: ClassVar[str] = "toy.1"
    former_schemas: ClassVar[tuple[str, ...]] = ()
    free_when_decoding: ClassVar[tuple[str, ...]] = ("toy_chunk",)
    free_on_resume: ClassVar[tuple[str, ...]] = ("toy_chunk", "toy_dropout")
    not_inferable: ClassVar[tuple[str, ...]] = free_on_resume
    schedule_clock: ClassVar[Literal["updates", "duration"]] = "updates"
    # As in the Zapformer.
    heads: ClassVar[HeadStyle] = HeadStyle(
        decoder_balancers=False,
        decoder_gain=20.0,
        decoder_init=0.1,
        joiner_gain=2.0,
        simple_init=0.1,
        ctc_dropout=None,
        ctc_init=0.1,
        bias_init=0.01,
    )
    losses: ClassVar[LossStyle] = LossStyle(simple_start=None, pruned_start=0.05)
    published_optimizer: ClassVar[str] = "scaled_adam"
    published_batches: ClassVar[Mapping[tuple[str, str], tuple[int, int]]] = {}
    adapted_layers: ClassVar[tuple[str, ...]] = ("joiner.*_proj",)

    toy_dim: int = flag(32, "channels")
    toy_layers: int = flag(1, "recurrent layers")
    toy_chunk: tuple[int, ...] = flag((8, 16), "causal models: encoder frames in a chunk")
    toy_dropout: float = flag(0.0, "dropout rate between recurrent layers")
    causal: bool = flag(False, "leave out the convolution that sees later frames")

    def __post_init__(self) -> None:
        if self.toy_dim < 1 or min(self.toy_chunk) < 1:
            raise ValueError("--toy-dim and --toy-chunk must be positive")

    @property
    def output_dim(self) -> int:
        return self.toy_dim

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            mel_bins=80,
            subsampling=2,
            min_frames=3,
            look_ahead=1,
            right_context=0,
            tail=6 if self.causal else 0,
        )

    def choices(self) -> Mapping[str, tuple[int, ...]]:
        return {"toy_chunk": self.toy_chunk} if self.causal else {}

    def describe(self) -> str:
        return f"toy with {self.toy_layers} layers of {self.toy_dim} channels"

    def result_tag(self) -> str:
        return f"toy-chunk-{self.toy_chunk[0]}"

    def export_layout(self) -> ExportLayout:
        from tests.encoder.toy.model import export_layout

        return export_layout(self)

    def build(self) -> Encoder:
        from tests.encoder.toy.model import build

        return build(self)

    @classmethod
    def presets(cls) -> Mapping[str, Mapping[str, Any]]:
        return {"tiny": {"toy_dim": 24, "toy_layers": 2}}

    @classmethod
    def matches(cls, shapes: WeightShapes) -> bool:
        return shapes.has("toy_front.")

    @classmethod
    def infer(cls, shapes: WeightShapes, hints: Flags) -> tuple[ToyConfig, list[str]]:
        recurrent = [name for name in shapes.shapes if name.startswith("encoder.gru.weight_hh_l")]
        found = ToyConfig(
            toy_dim=shapes.size("toy_front.weight", 0),
            toy_layers=len(recurrent),
            causal=not shapes.has("encoder.context."),
        )
        unseen = {name: hints[name] for name in cls.not_inferable if name in hints}
        return replace(found, **unseen), []

    @classmethod
    def settling_flags(cls, _typed: Flags) -> Sequence[str]:
        return cls.free_when_decoding

    @classmethod
    def with_implied(cls, flags: Flags) -> dict[str, Any]:
        return dict(flags)

    @classmethod
    def defaults_of_others(cls, _flags: Flags) -> Mapping[str, Any]:
        return {"use_ctc": True}
