"""Recognition of windows with the times of words, and forced alignment of a transcript."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.audio.loading import Samples, Sound
from zipasr.audio.log_mel import log_mel, log_mel_batch
from zipasr.audio.segmentation import Window
from zipasr.audio.speech_activity import pauses_in
from zipasr.base.constants import WINDOW
from zipasr.base.errors import DataError, UserError
from zipasr.encoder.protocol import Geometry
from zipasr.recognition.acoustic_model import LOG_ZERO, AcousticModel, Acoustics, padded_batch
from zipasr.recognition.long_form import Cutting, Piece, WordTimes, piece_of, prepared
from zipasr.recognition.recogniser import Recogniser, naming_model
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.recognition.word_bounds import bounded, timed_tokens
from zipasr.search.forced_alignment import AlignedSpan, ctc_alignment, transducer_alignment
from zipasr.search.protocol import Utterance
from zipasr.text.scripts import units_of
from zipasr.text.timed_words import Token, Word, aligned_words
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
    samples, acoustics = [piece.samples for piece in pieces], recogniser.acoustics
    device = acoustics.device if isinstance(acoustics, AcousticModel) else torch.device("cpu")
    return acoustics.encode(*_features(samples, recogniser.geometry, device))


def _features(
    parts: Sequence[Samples], geometry: Geometry, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return (N, T, mel bins), computed on a device, and the lengths; padding is silence."""
    # A window too short for a single frame is silence.
    if device.type == "cuda":
        known = [part if len(part) >= WINDOW else part[:0] for part in parts]
        features, lens = log_mel_batch(known, geometry.mel_bins, device, LOG_ZERO)
        missing = max(0, geometry.min_frames - features.size(1))
        lens = lens.where(lens > 0, geometry.min_frames)
        return F.pad(features, (0, 0, 0, missing), value=LOG_ZERO), lens
    long_enough = [
        log_mel(part, geometry.mel_bins)
        if len(part) >= WINDOW
        else torch.full((geometry.min_frames, geometry.mel_bins), LOG_ZERO)
        for part in parts
    ]
    return padded_batch(long_enough)


def tokens_of(transcript: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a transcript.

    Raises:
        DataError: it has characters that the model does not know, or text cannot be cut at all.
    """
    words = units_of(transcript)
    for word, tokens in zip(words, tokenizer.encode(words), strict=True):
        if tokenizer.unknown_id in tokens:
            raise DataError(
                f"the model has no tokens for {word!r} of the transcript.",
                "write the words as the transcripts of its training are written, such as in "
                "capitals and without punctuation.",
            )
    (tokens,) = tokenizer.encode([transcript])
    return tokens


@torch.inference_mode()
def align(
    recogniser: Recogniser[Acoustics],
    sound: Sound,
    tokens: Sequence[int],
    cutting: Cutting,
    times: WordTimes,
) -> list[Word]:
    """Return the words of a transcript with their times in a recording.

    A long recording is encoded window by window, and aligned as a whole.

    Args:
        recogniser: whose CTC head, or else transducer, says what fits where.
        sound: at 16 kHz.
        tokens: of the transcript.
        cutting: of long recordings.
        times: which head is asked.

    Raises:
        DataError: the recording is too short for the transcript.
        UserError: the model has not the head that is asked for.
    """
    ctc, transducer = recogniser.ctc_log_probs, recogniser.transducer
    uses_ctc = times != "transducer" and ctc is not None
    if not uses_ctc and transducer is None:
        raise UserError("--word-times transducer: the model has no transducer.", "leave it out.")
    parts, starts = [], []
    for frames, seconds in _frames(recogniser, sound, cutting):
        parts.append(ctc(frames) if uses_ctc and ctc is not None else frames)
        starts += seconds
    whole = torch.cat(parts, dim=1)[0]
    if uses_ctc or transducer is None:
        spans = ctc_alignment(whole, tokens)
    else:
        spans = transducer_alignment(whole, tokens, transducer)
    if spans is None:
        raise DataError(
            f"{sound.seconds:.1f} s of sound are too short for the {len(tokens)} tokens of the "
            "transcript.",
            "give the transcript of this recording alone.",
        )
    timed = _tokens(recogniser, tokens, spans, starts, sound.seconds)
    words = aligned_words(timed, recogniser.tokenizer.written)
    frame = recogniser.geometry.seconds_per_frame
    return bounded(words, sound.seconds, frame, pauses_in(sound.samples))


def _tokens(
    recogniser: Recogniser[Acoustics],
    tokens: Sequence[int],
    spans: Sequence[AlignedSpan],
    starts: Sequence[float],
    seconds: float,
) -> list[Token]:
    """Return the tokens with seconds in place of frames; none is beyond the end of the sound."""
    tokenizer, frame = recogniser.tokenizer, recogniser.geometry.seconds_per_frame
    pieces = tokenizer.pieces()
    last = max(0.0, seconds - frame)
    return [
        Token(
            pieces[token],
            min(starts[span.start], last),
            min(starts[span.end - 1] + frame, max(seconds, frame)),
            span.log_prob,
        )
        for token, span in zip(tokens, spans, strict=True)
        if tokenizer.is_text(token)
    ]


def _frames(
    recogniser: Recogniser[Acoustics], sound: Sound, cutting: Cutting
) -> Iterator[tuple[Tensor, list[float]]]:
    """Yield the encoder frames (1, T', C) of each window, and the second at which each begins.

    Where windows overlap, each counts up to the middle.
    """
    sound, windows, _ = prepared(sound, cutting)
    windows = windows or [Window(0.0, sound.seconds)]
    borders = [0.5 * (left.end + right.start) for left, right in pairwise(windows)]
    limits = zip([-1.0, *borders], [*borders, float("inf")], strict=True)
    for window, (low, high) in zip(windows, limits, strict=True):
        frames, lens = encoded_pieces(recogniser, [piece_of(sound, window)])
        frame = recogniser.geometry.seconds_per_frame
        starts = [window.start + frame * t for t in range(int(lens[0]))]
        kept = [t for t, start in enumerate(starts) if low <= start < high]
        yield frames[:, kept], [starts[t] for t in kept]
