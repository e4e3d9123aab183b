"""The whole model: from features and tokens to the sums of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.base.config import flag
from zipasr.base.masks import make_pad_mask
from zipasr.encoder.lengths import MIN_FRAMES, subsampled_lens
from zipasr.losses import (
    ctc_loss,
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    rnnt_loss_pruned,
    rnnt_loss_smoothed,
)
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.nn.linear import scaled_linear

RnntType = Literal["regular", "modified", "constrained"]


class EncoderOutput(NamedTuple):
    """What the encoder made of a batch: frames (N, T', C) and their valid lengths (N,)."""

    frames: Tensor
    lens: Tensor


class TransducerLosses(NamedTuple):
    """Sums over the batch in nats, float32; ``None`` for a loss that was not asked for.

    An utterance that its lattice cannot align, for want of frames, counts as 0 and has
    no gradient.
    """

    simple: Tensor | None
    pruned: Tensor | None
    ctc: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransducerConfig:
    """How the transducer loss is computed."""

    prune_range: int = flag(5, "symbol positions kept at each frame by the pruned loss")
    lm_scale: float = flag(0.25, "share of the decoder-only scores in the simple loss")
    am_scale: float = flag(0.0, "share of the encoder-only scores in the simple loss")
    rnnt_type: RnntType = flag(
        "regular", "lattice: regular, modified (one arc per frame) or constrained"
    )

    def __post_init__(self) -> None:
        if self.prune_range < 2:
            raise ValueError(f"--prune-range must be at least 2, got {self.prune_range}")
        if min(self.lm_scale, self.am_scale) < 0 or self.lm_scale + self.am_scale >= 1:
            raise ValueError(
                "--lm-scale and --am-scale must be at least 0 and add up to less than 1, "
                f"got {self.lm_scale} and {self.am_scale}"
            )
        if self.rnnt_type not in get_args(RnntType):
            raise ValueError(
                f"--rnnt-type must be one of {get_args(RnntType)}, got {self.rnnt_type}"
            )


class _Labels(NamedTuple):
    """Transcripts as the transducer losses want them.

    ``symbols`` (N, S) is padded with blanks, ``boundary`` (N, 4) holds the lattice of each
    utterance, ``weights`` (N,) is 0 for an utterance that cannot be aligned and 1 otherwise.
    """

    symbols: Tensor
    boundary: Tensor
    weights: Tensor


class AsrModel(nn.Module):
    """Front end, encoder, and the heads that turn frames into tokens.

    Args:
        encoder_embed: (N, T, F), (N,) -> (N, T1, C), (N,).
        encoder: (T1, N, C), (N,), (N, T1) mask -> (T', N, encoder_dim), (N,).
        decoder: prediction network, or ``None`` for a model without transducer.
        joiner: given exactly when the decoder is.
        encoder_dim: C of the encoder output.
        vocab_size: V.
        use_ctc: whether there is a CTC head.
    """

    def __init__(
        self,
        encoder_embed: nn.Module,
        encoder: nn.Module,
        decoder: Decoder | None,
        joiner: Joiner | None,
        encoder_dim: int,
        vocab_size: int,
        use_ctc: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.encoder_embed = encoder_embed
        self.encoder = encoder
        self.decoder = decoder
        self.joiner = joiner
        if decoder is not None:
            decoder_dim = decoder.embedding.embedding_dim
            self.simple_am_proj = scaled_linear(encoder_dim, vocab_size, initial_scale=0.25)
            self.simple_lm_proj = scaled_linear(decoder_dim, vocab_size, initial_scale=0.25)
        self.ctc_output: nn.Sequential | None = None
        if use_ctc:
            self.ctc_output = nn.Sequential(
                nn.Dropout(0.1), nn.Linear(encoder_dim, vocab_size), nn.LogSoftmax(dim=-1)
            )

    def encode(self, features: Tensor, feature_lens: Tensor) -> EncoderOutput:
        """Run the front end and the encoder.

        Args:
            features: (N, T, 80) log-mel energies.
            feature_lens: (N,) number of valid frames, at least 9 and at most T.

        Returns:
            Frames (N, T', C) and their lengths; frames beyond a length hold no information.

        Raises:
            ValueError: an utterance is too short, or longer than the batch.
        """
        lens: list[int] = feature_lens.tolist()
        _check_feature_lens(lens, features.size(1))
        x, x_lens = self.encoder_embed(features, feature_lens)
        is_padded = min(subsampled_lens(num_frames) for num_frames in lens) < x.size(1)
        mask = make_pad_mask(x_lens, x.size(1)) if is_padded else None
        x, x_lens = self.encoder(x.transpose(0, 1).contiguous(), x_lens, mask)
        return EncoderOutput(x.transpose(0, 1).contiguous(), x_lens)

    def forward(
        self,
        features: Tensor,
        feature_lens: Tensor,
        tokens: Sequence[Sequence[int]],
        config: TransducerConfig,
        with_transducer: bool = True,
    ) -> TransducerLosses:
        """Compute the losses of a batch.

        Args:
            features: (N, T, 80) log-mel energies.
            feature_lens: (N,) number of valid frames, at least 9 and at most T.
            tokens: the transcript of each utterance, ids without blanks; may be empty.
            config: how the transducer losses are computed.
            with_transducer: False computes the CTC loss only.

        Returns:
            Sums over the batch; losses of heads that are off, or not asked for, are ``None``.

        Raises:
            ValueError: lengths are out of range, or ``tokens`` does not fit the batch or the
                vocabulary.
        """
        _check_tokens(tokens, features.size(0), self.vocab_size)
        encoded = self.encode(features, feature_lens)
        losses = TransducerLosses(simple=None, pruned=None, ctc=None)
        if self.decoder is not None and self.joiner is not None and with_transducer:
            losses = self._transducer_losses(encoded, tokens, config, self.decoder, self.joiner)
        if self.ctc_output is not None:
            losses = losses._replace(ctc=self._ctc_loss(encoded, tokens))
        return losses

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
        dropout, linear, log_softmax = self.ctc_output
        log_probs: Tensor = log_softmax(_full_precision(linear(dropout(frames))))
        return log_probs

    def _transducer_losses(
        self,
        encoded: EncoderOutput,
        tokens: Sequence[Sequence[int]],
        config: TransducerConfig,
        decoder: Decoder,
        joiner: Joiner,
    ) -> TransducerLosses:
        blank = decoder.blank_id
        labels = _labels(tokens, encoded, blank, config.rnnt_type)
        # The decoder starts from a blank and sees the labels before each position.
        decoded = decoder(F.pad(labels.symbols, (1, 0), value=blank))
        lm = _full_precision(self.simple_lm_proj(decoded))
        am = _full_precision(self.simple_am_proj(encoded.frames))
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
            )
            ranges = get_rnnt_prune_ranges(px_grad, py_grad, labels.boundary, config.prune_range)
        # Projecting before the positions are multiplied saves most of the work.
        am_kept, lm_kept = do_rnnt_pruning(
            am=joiner.encoder_proj(encoded.frames), lm=joiner.decoder_proj(decoded), ranges=ranges
        )
        logits = _full_precision(joiner(am_kept, lm_kept, project_input=False))
        with torch.autocast(logits.device.type, enabled=False):
            pruned = rnnt_loss_pruned(
                logits=logits,
                symbols=labels.symbols,
                ranges=ranges,
                termination_symbol=blank,
                boundary=labels.boundary,
                rnnt_type=config.rnnt_type,
                reduction="none",
            )
        # A product and a sum, as autocast would compute a dot product in half precision.
        return TransducerLosses(
            simple=(simple * labels.weights).sum(), pruned=(pruned * labels.weights).sum(), ctc=None
        )

    def _ctc_loss(self, encoded: EncoderOutput, tokens: Sequence[Sequence[int]]) -> Tensor:
        log_probs = self.ctc_log_probs(encoded.frames)
        lens: list[int] = encoded.lens.tolist()
        fits = [
            _ctc_frames(targets) <= num_frames
            for targets, num_frames in zip(tokens, lens, strict=True)
        ]
        kept = [list(targets) for targets, fit in zip(tokens, fits, strict=True) if fit]
        with torch.autocast(log_probs.device.type, enabled=False):
            if len(kept) == len(fits):
                return ctc_loss(log_probs, encoded.lens, kept)
            if not kept:
                return log_probs[:, :0].sum()
            rows = torch.tensor(fits, device=log_probs.device)
            return ctc_loss(log_probs[rows], encoded.lens[rows], kept)


def _check_feature_lens(lens: Sequence[int], num_frames: int) -> None:
    if min(lens) < MIN_FRAMES:
        raise ValueError(
            f"an utterance has {min(lens)} feature frames, but the encoder needs at least "
            f"{MIN_FRAMES}: drop shorter ones"
        )
    if max(lens) > num_frames:
        raise ValueError(f"a length of {max(lens)} was given for features with {num_frames} frames")


def _check_tokens(tokens: Sequence[Sequence[int]], num_utterances: int, vocab_size: int) -> None:
    if len(tokens) != num_utterances:
        raise ValueError(f"{len(tokens)} transcripts were given for {num_utterances} utterances")
    largest = max((max(ids, default=0) for ids in tokens), default=0)
    if largest >= vocab_size:
        raise ValueError(
            f"token {largest} does not fit a vocabulary of {vocab_size}: "
            "use the tokenizer that the model was built for"
        )


def _ctc_frames(targets: Sequence[int]) -> int:
    """Return how many frames CTC needs: one for each token, and a blank between equal ones."""
    repeats = sum(left == right for left, right in pairwise(targets))
    return len(targets) + repeats


def _labels(
    tokens: Sequence[Sequence[int]], encoded: EncoderOutput, blank: int, rnnt_type: RnntType
) -> _Labels:
    """Pad transcripts and say which of them can be aligned.

    A lattice with one arc per frame has no path for more tokens than frames. Such an
    utterance gets weight 0, and a shorter transcript in the boundary so that the losses stay
    finite: infinity times 0 would spoil the sum.
    """
    lens: list[int] = encoded.lens.tolist()
    counts = [len(ids) for ids in tokens]
    # At least one column: pruning needs two positions to choose from.
    width = max(1, *counts)
    rows = [[*ids, *[blank] * (width - len(ids))] for ids in tokens]
    fits = [rnnt_type == "regular" or s <= t for s, t in zip(counts, lens, strict=True)]
    ends = [[0, 0, s if ok else t, t] for s, t, ok in zip(counts, lens, fits, strict=True)]
    device = encoded.frames.device
    weights_dtype = _full_precision(encoded.frames[:0]).dtype
    return _Labels(
        symbols=torch.tensor(rows, dtype=torch.int64, device=device),
        boundary=torch.tensor(ends, dtype=torch.int64, device=device),
        weights=torch.tensor(fits, dtype=weights_dtype, device=device),
    )


def _full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
