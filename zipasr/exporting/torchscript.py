"""TorchScript files as published recipes make them: one module, to be run from C++ or Python."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.protocol import ChunkSize
from zipasr.exporting.graphs import ChunkEncoder, WholeEncoder, example_batch
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel


class ScriptedDecoder(nn.Module):
    """``Decoder`` without what is for training alone; called in the same way."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.vocab_size: int = decoder.vocab_size
        self.context_size: int = decoder.context_size
        self.blank_id: int = decoder.blank_id
        self.gain: float = decoder.gain
        self.embedding = decoder.embedding
        self.conv: nn.Module = decoder.conv if decoder.context_size > 1 else nn.Identity()

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:
        """Embed histories (N, U): (N, U, C), or (N, 1, C) without padding."""
        x: Tensor = self.embedding(y.clamp(min=0)) * (y >= 0).unsqueeze(-1)
        if self.gain != 1.0:
            x = self.gain * x
        if self.context_size > 1:
            x = x.transpose(1, 2)
            if need_pad:
                x = F.pad(x, [self.context_size - 1, 0])
            x = torch.relu(self.conv(x)).transpose(1, 2)
        return x


class ScriptedJoiner(nn.Module):
    """``Joiner`` without pruning; called in the same way."""

    def __init__(self, joiner: Joiner) -> None:
        super().__init__()
        self.encoder_proj = joiner.encoder_proj
        self.decoder_proj = joiner.decoder_proj
        self.output_linear = joiner.output_linear
        self.gain: float = joiner.gain

    def forward(
        self, encoder_out: Tensor, decoder_out: Tensor, project_input: bool = True
    ) -> Tensor:
        """Score the next token: (..., V) logits."""
        if project_input:
            encoder_out = self.encoder_proj(encoder_out)
            decoder_out = self.decoder_proj(decoder_out)
        logits: Tensor = self.output_linear(torch.tanh(encoder_out + decoder_out))
        return logits if self.gain == 1.0 else self.gain * logits


class ScriptedChunkEncoder(nn.Module):
    """A recorded ``ChunkEncoder`` that knows the states before the first chunk.

    Args:
        recorded: the encoder.
        size: of its chunks.
        states: of one stream before the first chunk.
        batch_dims: of each state: the dimension of the streams.
    """

    def __init__(
        self, recorded: nn.Module, size: ChunkSize, states: list[Tensor], batch_dims: list[int]
    ) -> None:
        super().__init__()
        self.recorded = recorded
        self.chunk_size: int = size.step // 2
        self.pad_length: int = size.frames - size.step
        self.states: list[Tensor] = states
        self.batch_dims: list[int] = batch_dims

    def forward(
        self, features: Tensor, feature_lengths: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode the next chunk: (N, T', C), lengths, states."""
        result: tuple[Tensor, Tensor, list[Tensor]] = self.recorded(
            features, feature_lengths, states
        )
        return result

    @torch.jit.export
    def get_init_states(
        self,
        batch_size: int = 1,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - the scripted default
    ) -> list[Tensor]:
        """Return the states before the first chunk."""
        states: list[Tensor] = []
        for i, state in enumerate(self.states):
            row = torch.zeros([batch_size], dtype=torch.int64, device=device)
            states.append(state.to(device).index_select(self.batch_dims[i], row))
        return states


class ScriptedModel(nn.Module):
    """The parts under their usual names: ``encoder``, ``decoder``, ``joiner``, ``ctc_output``."""

    def __init__(self, encoder: nn.Module, model: AsrModel) -> None:
        super().__init__()
        self.encoder = encoder
        if model.decoder is not None and model.joiner is not None:
            self.decoder = ScriptedDecoder(model.decoder)
            self.joiner = ScriptedJoiner(model.joiner)
        if model.ctc_output is not None:
            self.ctc_output = model.ctc_output
        if geometry := model.geometry.to_metadata():
            self.geometry = geometry


@torch.no_grad()
def scripted(model: AsrModel, streaming: bool) -> torch.jit.ScriptModule:
    """Return the model as one TorchScript module.

    Args:
        model: in evaluation mode.
        streaming: whether the encoder works chunk by chunk.
    """
    with warnings.catch_warnings():
        # Sizes that are the same for every input are meant to become constants.
        warnings.simplefilter("ignore")
        encoder = _chunk_encoder(model) if streaming else _whole_encoder(model)
        whole = ScriptedModel(encoder, model).eval()
        return torch.jit.script(whole)


def _whole_encoder(model: AsrModel) -> nn.Module:
    return _recorded(WholeEncoder(model, nn.Identity()), example_batch(model))


def _chunk_encoder(model: AsrModel) -> nn.Module:
    encoder, chunks = ChunkEncoder(model, nn.Identity()), model.chunk_encoder
    size, states = chunks.size(), model.init_state(1)
    features = torch.zeros(1, size.frames, model.geometry.mel_bins)
    example = features, torch.tensor([size.frames]), states
    recorded = _recorded(encoder, example)
    return ScriptedChunkEncoder(recorded, size, states, list(chunks.batch_dims()))


def _recorded(module: nn.Module, example: tuple[object, ...]) -> nn.Module:
    recorded = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    assert isinstance(recorded, nn.Module)
    return recorded
