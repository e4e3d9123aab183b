"""Recognition of windows of recordings: tokens and words with times and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipasr.audio.loading import Samples
from zipasr.audio.log_mel import log_mel
from zipasr.base.constants import WINDOW
from zipasr.encoder.protocol import Geometry
from zipasr.recognition.acoustic_model import LOG_ZERO, Acoustics, padded_batch
from zipasr.recognition.long_form import Piece, WordTimes
from zipasr.recognition.recogniser import Recogniser, naming_model
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.search.alignment import ctc_spans
from zipasr.search.protocol import Utterance
from zipasr.text.timed_words import Token
from zipasr.text.tokenizer import Tokenizer


@torch.inference_mode()
def recognise_pieces(
    recogniser: Recogniser[Acoustics], pieces: Sequence[Piece], times: WordTimes, nbest: int = 1
) -> list[list[TimedHypothesis]]:
    """Recognise windows as one batch.

    Args:
        recogniser: with its search.
        pieces: windows of one recording or several.
        times: where words begin.
        nbest: most hypotheses of each.
    """
    frames, lens = encoded_pieces(recogniser, pieces)
    search = recogniser.search
    with naming_model(recogniser.about):
        state = search.whole(frames, lens)
        found = [[one] for one in search.results(state)] if nbest == 1 else search.hypotheses(state)
    aligns = times == "ctc" or (times == "auto" and recogniser.method.head == "ctc")
    ctc = recogniser.ctc_log_probs if aligns else None
    log_probs = None if ctc is None else ctc(frames)
    results = []
    for row, (piece, hypotheses) in enumerate(zip(pieces, found, strict=True)):
        num = int(lens[row])
        own = frames[row, :num], None if log_probs is None else log_probs[row, :num]
        timed = [_timed(recogniser, one, piece.start, own) for one in hypotheses[:nbest]]
        results.append(timed)
    return results


def _timed(
    recogniser: Recogniser[Acoustics],
    utterance: Utterance,
    start: float,
    scores: tuple[Tensor, Tensor | None],
) -> TimedHypothesis:
    """Return the words of a hypothesis.

    Args:
        recogniser: whose hypothesis it is.
        utterance: the hypothesis.
        start: second at which its window begins.
        scores: of its window, encoder frames (T', C), and CTC log-probabilities (T', V) to align
            with, if words begin where that head says.
    """
    frames, log_probs = scores
    tokens = timed_tokens(
        recogniser.tokenizer,
        recogniser.geometry,
        utterance,
        None if log_probs is None else log_probs.cpu(),
        start,
        recogniser.token_log_probs(utterance, frames),
    )
    return TimedHypothesis(tuple(recogniser.words_of_tokens(tokens)), utterance.log_prob)


def encoded_pieces(
    recogniser: Recogniser[Acoustics], pieces: Sequence[Piece]
) -> tuple[Tensor, Tensor]:
    """Return the encoder frames (N, T', C) of windows, and their lengths (N,)."""
    samples = [piece.samples for piece in pieces]
    return recogniser.acoustics.encode(*_features(samples, recogniser.geometry))


def timed_tokens(
    tokenizer: Tokenizer,
    geometry: Geometry,
    utterance: Utterance,
    log_probs: Tensor | None = None,
    start: float = 0.0,
    token_log_probs: Sequence[float] | None = None,
) -> list[Token]:
    """Return the tokens of an utterance and when they were said.

    Args:
        tokenizer: of its tokens.
        geometry: of the encoder.
        utterance: what was recognised.
        log_probs: (T', V) of the CTC head, to align with; by default tokens begin when the search
            emitted them.
        start: second at which the utterance begins.
        token_log_probs: of its tokens, where they are known.
    """
    pieces, times = tokenizer.pieces(), _times(utterance, log_probs, geometry)
    known = token_log_probs or [0.0] * len(utterance.tokens)
    return [
        Token(pieces[token], start + begin, start + end, log_prob)
        for token, (begin, end), log_prob in zip(utterance.tokens, times, known, strict=True)
        if tokenizer.is_text(token)
    ]


def _times(
    utterance: Utterance, log_probs: Tensor | None, geometry: Geometry
) -> list[tuple[float, float]]:
    """Return when each token begins and ends, in seconds of the utterance."""
    seconds = geometry.seconds_per_frame
    spans = None if log_probs is None else ctc_spans(log_probs, utterance.tokens)
    if spans is None:
        return [(seconds * f, seconds * (f + 1)) for f in utterance.frames]
    return [(seconds * span.start, seconds * span.end) for span in spans]


def _features(parts: Sequence[Samples], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return (N, T, mel bins) and the lengths; padding is silence."""
    # A window too short for a single frame is silence.
    long_enough = [
        log_mel(part, geometry.mel_bins)
        if len(part) >= WINDOW
        else torch.full((geometry.min_frames, geometry.mel_bins), LOG_ZERO)
        for part in parts
    ]
    return padded_batch(long_enough)
