"""Forced alignment: times of the words and tokens of a given transcript in a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zipasr.audio.loading import Sound
from zipasr.audio.pauses import pauses_in
from zipasr.audio.silence_windows import Window
from zipasr.base.errors import DataError, UserError
from zipasr.recognition.acoustic_model import Acoustics
from zipasr.recognition.long_form import Cutting, WordTimes, piece_of, prepared
from zipasr.recognition.recogniser import Recogniser
from zipasr.recognition.timed_search import encoded_pieces
from zipasr.recognition.word_bounds import bounded
from zipasr.search.alignment import AlignedSpan, ctc_alignment, transducer_alignment
from zipasr.text.scripts import units_of
from zipasr.text.timed_words import Token, Word, aligned_words
from zipasr.text.tokenizer import Tokenizer


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
