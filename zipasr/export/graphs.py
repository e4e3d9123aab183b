"""The parts of a model that are recorded: plain tensors in, plain tensors out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch import full as full_of
from torch.nn import functional as F

from zipasr.base.masks import make_pad_mask
from zipasr.encoder.streaming import StreamingState, chunk_frames, encode_chunk
from zipasr.encoder.subsampling import Conv2dSubsampling
from zipasr.encoder.zipformer import Zipformer2
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel

#: Channels of the front end's state as sherpa-onnx makes it, whatever the model has.
CLIENT_CHANNELS = 128


class WholeEncoder(nn.Module):
    """Front end and encoder for whole utterances, and what the head makes of the frames.

    There is a mask whether or not there is padding, and nothing looks at values.

    Args:
        model: of an upgraded Zipformer.
        head: applied to (N, T', C); an ``nn.Identity`` gives the frames.
    """

    def __init__(self, model: AsrModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder_embed, self.encoder = _parts(model)
        self.head = head

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, T, 80) features with (N,) int64 lengths: (N, T', D) and lengths."""
        y, y_lens = self.encoder_embed(x, x_lens)
        mask = make_pad_mask(y_lens, y.size(1))
        frames, lens = self.encoder(y.transpose(0, 1), y_lens, mask)
        return self.head(frames.transpose(0, 1)), lens


class ChunkEncoder(nn.Module):
    """Front end and encoder for the next chunk of streams; arguments as for ``WholeEncoder``."""

    def __init__(self, model: AsrModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder_embed, self.encoder = _parts(model)
        self.head = head

    def forward(
        self, x: Tensor, x_lens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode (N, 2 c + 13, 80): (N, c / 2, D), lengths, and the flat list of states after."""
        state = StreamingState.from_list(states)
        frames, lens, after = encode_chunk(self.encoder_embed, self.encoder, x, x_lens, state)
        return self.head(frames), lens, after.to_list()


class FullChunkEncoder(nn.Module):
    """A ``ChunkEncoder`` whose chunks are always full, with the states as single arguments.

    They are those of ``client_states``.
    """

    def __init__(self, inner: ChunkEncoder) -> None:
        super().__init__()
        self.inner = inner
        self.num_frames = chunk_frames(inner.encoder.streaming_chunks().size)
        self.num_channels = inner.encoder_embed.convnext.depthwise_conv.out_channels

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Encode (N, 2 c + 13, 80): (N, c / 2, D), and each of the states after."""
        lens = full_of((x.size(0),), self.num_frames)
        *layers, embed, processed = states
        narrow = embed[:, : self.num_channels]
        frames, _, after = self.inner(x, lens, [*layers, narrow, processed])
        return (frames, *client_states(after))


def client_states(states: Sequence[Tensor]) -> list[Tensor]:
    """Fill the state of the front end up to the channels that sherpa-onnx gives it, with zeros.

    Args:
        states: flat list of a ``StreamingState``.
    """
    *layers, embed, processed = states
    missing = max(0, CLIENT_CHANNELS - embed.size(1))
    return [*layers, F.pad(embed, (0, 0, 0, 0, 0, missing)), processed]


class CtcHead(nn.Module):
    """Frames (N, T', C) to log-probabilities (N, T', V)."""

    def __init__(self, model: AsrModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        """Return the log-probabilities."""
        return self.model.ctc_log_probs(frames)


class Prediction(nn.Module):
    """The last tokens (N, context) to what the joiner adds, (N, J); id -1 stands for nothing."""

    def __init__(self, decoder: Decoder, joiner: Joiner) -> None:
        super().__init__()
        self.decoder, self.decoder_proj = decoder, joiner.decoder_proj

    def forward(self, y: Tensor) -> Tensor:
        """Return the projected prediction."""
        projected: Tensor = self.decoder_proj(self.decoder(y, need_pad=False).squeeze(1))
        return projected


class Joining(nn.Module):
    """Projected frames and predictions, both (N, J), to logits (N, V)."""

    def __init__(self, joiner: Joiner) -> None:
        super().__init__()
        self.joiner = joiner

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.joiner(encoder_out, decoder_out, project_input=False)
        return logits


def _parts(model: AsrModel) -> tuple[Conv2dSubsampling, Zipformer2]:
    embed, encoder = model.encoder_embed, model.encoder
    assert isinstance(embed, Conv2dSubsampling)
    assert isinstance(encoder, Zipformer2)
    return embed, encoder
