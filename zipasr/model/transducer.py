"""The acoustic model: features and tokens to the sums of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.input_checks import check_features, checked_lens
from zipasr.encoder.protocol import ChunkEncoder, Encoder, EncoderConfig, HeadStyle
from zipasr.losses import (
    get_rnnt_prune_ranges,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)
from zipasr.losses.ctc import consistency_loss
from zipasr.model.attention_decoder import AttentionDecoderModel
from zipasr.model.config import TransducerConfig
from zipasr.model.decoder import CachedDecoder, Decoder
from zipasr.model.inputs import (
    alignable_ctc_loss,
    check_second_view,
    check_tokens,
    padded_labels,
)
from zipasr.model.joiner import Joiner, PreparedJoiner
from zipasr.nn.autocast_weights import narrow_weights
from zipasr.nn.layers import scaled_linear
from zipasr.nn.numerics import at_least_float32, to_device

#: Scales, lattice and prune range of the published recipe.
USUAL_LOSSES = TransducerConfig()


class EncoderOutput(NamedTuple):
    """Encoder frames (N, T', C) and their valid lengths (N,)."""

    frames: Tensor
    lens: Tensor


class AsrLosses(NamedTuple):
    """Sums over the batch in nats, float32; ``None`` for a loss that was not asked for.

    An utterance that a lattice (``simple``, ``pruned``, ``ctc``) cannot align, for want of
    frames, counts as 0 there and has no gradient.
    """

    simple: Tensor | None = None
    pruned: Tensor | None = None
    ctc: Tensor | None = None
    attention_decoder: Tensor | None = None
    cr: Tensor | None = None


class TransducerHeads(NamedTuple):
    """Decoder, joiner and the projections of the simple loss."""

    decoder: Decoder
    joiner: Joiner
    simple_am_proj: nn.Linear
    simple_lm_proj: nn.Linear


class AsrModel(nn.Module):
    """Front end, encoder, and the heads that turn frames into tokens.

    Args:
        encoder: front end and encoder.
        config: of the encoder; says how heads on it are built.
        decoder: prediction network, or ``None`` for a model without transducer.
        joiner: given exactly when the decoder is.
        vocab_size: V.
        use_ctc: whether there is a CTC head.
        attention_decoder: ``None`` for a model without.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: EncoderConfig,
        decoder: Decoder | None,
        joiner: Joiner | None,
        vocab_size: int,
        use_ctc: bool = False,
        attention_decoder: AttentionDecoderModel | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.geometry = config.geometry
        self._style = config.heads
        # Its modules are registered under names of their own, which the keys of weights have.
        self.speech_encoder = encoder
        for name, module in encoder.parts.items():
            self.add_module(name, module)
        self.chunk_encoder: ChunkEncoder = encoder.chunks
        self.encoder_dim = config.output_dim
        self.own_heads = ""
        self.decoder = decoder
        self.joiner = joiner
        if decoder is not None:
            self.simple_am_proj, self.simple_lm_proj = self._simple_projections(decoder)
        self.ctc_output: nn.Sequential | None = None
        if use_ctc:
            self.ctc_output = _ctc_head(self.encoder_dim, vocab_size, self._style)
        self.attention_decoder = attention_decoder

    def add_own_heads(self, corpus: str, decoder: Decoder, joiner: Joiner) -> None:
        """Give the batches of one more corpus a transducer of their own, on the same encoder.

        The modules are called ``decoder_CORPUS`` and so on; they have a part in training only.

        Source: the public recipe pruned_transducer_stateless8, where the corpus is called giga.
        """
        self.own_heads = corpus
        am_proj, lm_proj = self._simple_projections(decoder)
        heads = TransducerHeads(decoder, joiner, am_proj, lm_proj)
        for name, module in heads._asdict().items():
            self.add_module(f"{name}_{corpus}", module)

    def _simple_projections(self, decoder: Decoder) -> tuple[nn.Linear, nn.Linear]:
        decoder_dim = decoder.embedding.embedding_dim
        style = self._style
        return (
            scaled_linear(
                self.encoder_dim,
                self.vocab_size,
                initial_scale=style.simple_init,
                bias_scale=style.bias_init,
            ),
            scaled_linear(
                decoder_dim,
                self.vocab_size,
                initial_scale=style.simple_init,
                bias_scale=style.bias_init,
            ),
        )

    def _heads(self, corpus: str) -> TransducerHeads | None:
        """Return the transducer of a corpus; ``None`` for a model without."""
        if self.decoder is None or self.joiner is None:
            return None
        if self.own_heads and corpus == self.own_heads:
            modules = (self.get_submodule(f"{name}_{corpus}") for name in TransducerHeads._fields)
            return TransducerHeads(*modules)  # type: ignore[arg-type]
        return TransducerHeads(self.decoder, self.joiner, self.simple_am_proj, self.simple_lm_proj)

    def encode(self, features: Tensor, feature_lens: Tensor) -> EncoderOutput:
        """Run the front end and the encoder.

        Args:
            features: (N, T, mel bins) log-mel energies.
            feature_lens: (N,) number of valid frames, at least ``geometry.min_frames``, at most T;
                best on the host, as they are read there.

        Returns:
            Frames (N, T', C) and their lengths, where ``feature_lens`` are; frames beyond a length
            hold no information.

        Raises:
            ValueError: there is no utterance, one is too short or longer than the batch, or the
                features have another number of mel bins.
        """
        lens = checked_lens(features, feature_lens, self.geometry)
        frames, num = self.speech_encoder(features, to_device(feature_lens, features.device), lens)
        if num.device != feature_lens.device:
            num = torch.tensor([self.geometry.output_lens(length) for length in lens])
        return EncoderOutput(frames, num)

    def init_state(self, batch_size: int = 1) -> list[Tensor]:
        """Return the state of streams of which nothing has been heard, where the model is.

        ``encoder.stream_states`` puts states together and takes streams out.

        Raises:
            ValueError: the model is not causal, or has several chunk sizes or left contexts.
        """
        return self.chunk_encoder.start(batch_size, next(self.parameters()).device)

    @torch.no_grad()
    def encode_chunk(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[EncoderOutput, list[Tensor]]:
        """Run the front end and the encoder on the next chunk of each stream.

        Args:
            features: (N, ``chunk_encoder.size().frames``, mel bins) log-mel energies; the next
                chunk begins ``step`` frames later.
            feature_lens: (N,) number of valid frames; fewer where a stream ends.
            state: of the N streams before the chunk; it is left as it was.

        Returns:
            Frames (N, T', C), with their lengths, and the state
            after the chunk.

        Raises:
            ValueError: the shape of the features does not fit, or the model is not causal.
        """
        check_features(features, self.geometry.mel_bins)
        frames, lens, after = self.chunk_encoder.advance(features, feature_lens, state)
        return EncoderOutput(frames, lens), after

    def forward(
        self,
        features: Tensor,
        feature_lens: Tensor,
        tokens: Sequence[Sequence[int]],
        config: TransducerConfig = USUAL_LOSSES,
        ctc_only: bool = False,
        second_view: Tensor | None = None,
        corpus: str = "",
    ) -> AsrLosses:
        """Compute the losses of a batch.

        Two views of a batch are the same utterances under different masks. All losses are then
        the mean of both views, and CTC learns to say the same about either.

        Args:
            features: (N, T, mel bins) log-mel energies.
            feature_lens: (N,) number of valid frames, at least ``geometry.min_frames``, at most T.
            tokens: the transcript of each utterance, ids without blanks; may be empty.
            config: how the transducer losses are computed.
            ctc_only: leave out the transducer and the attention decoder.
            second_view: (N, T, mel bins), or ``None`` for training without consistency.
            corpus: where the batch is from; see ``add_own_heads``.

        Returns:
            Sums over the N utterances; losses of heads that are off, or not asked for, are
            ``None``.

        Raises:
            ValueError: features, lengths or ``tokens`` are not as they must be, or there are two
                views but no CTC head.
        """
        check_tokens(tokens, features.size(0), self.vocab_size)
        consistency = second_view is not None
        if second_view is not None:
            check_second_view(features, second_view)
            features, tokens = torch.cat([features, second_view]), [*tokens, *tokens]
            feature_lens = feature_lens.repeat(2)
        losses = AsrLosses()
        with narrow_weights(self, features.device):
            encoded = self.encode(features, feature_lens)
            heads = None if ctc_only else self._heads(corpus)
            if heads is not None:
                simple, pruned = self._transducer_losses(encoded, tokens, config, heads)
                losses = losses._replace(simple=simple, pruned=pruned)
            if self.attention_decoder is not None and not ctc_only:
                decoder = self.attention_decoder
                attention = decoder.calc_att_loss(encoded.frames, encoded.lens, tokens)
                losses = losses._replace(attention_decoder=attention)
            if self.ctc_output is not None or consistency:
                log_probs = self.ctc_log_probs(encoded.frames)
                losses = losses._replace(ctc=alignable_ctc_loss(log_probs, encoded.lens, tokens))
                if consistency:
                    losses = losses._replace(cr=consistency_loss(log_probs, encoded.lens))
        if not consistency:
            return losses
        return AsrLosses(*(None if loss is None else 0.5 * loss for loss in losses))

    def tabled_decoder(self) -> CachedDecoder | None:
        """Return the decoder for a search, fast and with the weights of now; ``None`` without."""
        return None if self.decoder is None else CachedDecoder(self.decoder)

    def prepared_joiner(self) -> PreparedJoiner | None:
        """Return the joiner for a search, with the weights of now; ``None`` without."""
        return None if self.joiner is None else PreparedJoiner(self.joiner)

    def ctc_log_probs(self, frames: Tensor) -> Tensor:
        """Return log-probabilities of the CTC head, in float32 even under autocast.

        Args:
            frames: (N, T', C) from ``encode``.

        Returns:
            (N, T', V).

        Raises:
            ValueError: the model was built without a CTC head.
        """
        if self.ctc_output is None:
            raise ValueError("this model has no CTC head: build it with --use-ctc 1")
        *dropout, linear, log_softmax = self.ctc_output
        for module in dropout:
            frames = module(frames)
        log_probs: Tensor = log_softmax(at_least_float32(linear(frames)))
        return log_probs

    def _transducer_losses(
        self,
        encoded: EncoderOutput,
        tokens: Sequence[Sequence[int]],
        config: TransducerConfig,
        heads: TransducerHeads,
    ) -> tuple[Tensor, Tensor]:
        """Return the simple and the pruned loss, summed."""
        blank = heads.decoder.blank_id
        device = encoded.frames.device
        labels = padded_labels(tokens, encoded.lens, blank, config.rnnt_type, device)
        # The decoder starts from a blank and sees the labels before each position.
        decoded = heads.decoder(F.pad(labels.symbols, (1, 0), value=blank))
        lm = at_least_float32(heads.simple_lm_proj(decoded))
        am = at_least_float32(heads.simple_am_proj(encoded.frames))
        with torch.autocast(am.device.type, enabled=False):
            simple, (px_grad, py_grad) = rnnt_loss_smoothed(
                lm=lm,
                am=am,
                symbols=labels.symbols,
                termination_symbol=blank,
                lm_only_scale=config.lm_scale,
                am_only_scale=config.am_scale,
                boundary=labels.boundary,
                rnnt_type=config.rnnt_type,
                reduction="none",
                return_grad=True,
                backend=config.rnnt_backend,
            )
            ranges = get_rnnt_prune_ranges(px_grad, py_grad, labels.boundary, config.prune_range)
        logits = heads.joiner(encoded.frames, decoded, ranges=ranges, backend=config.rnnt_backend)
        with torch.autocast(logits.device.type, enabled=False):
            pruned = rnnt_loss_pruned(
                logits=logits,
                symbols=labels.symbols,
                ranges=ranges,
                termination_symbol=blank,
                boundary=labels.boundary,
                rnnt_type=config.rnnt_type,
                reduction="none",
                overwrite_logits=True,
                backend=config.rnnt_backend,
            )
        # A product and a sum, as autocast would compute a dot product in half precision.
        return (simple * labels.weights).sum(), (pruned * labels.weights).sum()


def _ctc_head(encoder_dim: int, vocab_size: int, style: HeadStyle) -> nn.Sequential:
    linear = (
        nn.Linear(encoder_dim, vocab_size)
        if style.ctc_init is None
        else scaled_linear(
            encoder_dim, vocab_size, initial_scale=style.ctc_init, bias_scale=style.bias_init
        )
    )
    dropout = [] if style.ctc_dropout is None else [nn.Dropout(style.ctc_dropout)]
    return nn.Sequential(*dropout, linear, nn.LogSoftmax(dim=-1))
