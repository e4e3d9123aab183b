"""Recognition of recordings of any length: windows, words with times, joining of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zipasr.audio.loading import Samples, Sound
from zipasr.audio.silence_windows import Window, cut_into_windows
from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.features import WINDOW, fbank_extractor
from zipasr.encoder.protocol import Geometry
from zipasr.recognition.acoustic_model import Acoustics
from zipasr.recognition.padding import LOG_ZERO, padded_batch
from zipasr.recognition.recogniser import Recogniser
from zipasr.search.alignment import ctc_spans
from zipasr.search.protocol import Utterance
from zipasr.text.timed_words import TimedPiece, TimedWord, join_windows, words_of_pieces
from zipasr.text.tokenizer import Tokenizer

WordTimes = Literal["auto", "ctc", "transducer"]
Tell = Callable[[Window, str], None]


class Cutting(NamedTuple):
    """How recordings are cut: seconds, seconds, windows side by side."""

    window: float
    overlap: float
    batch_windows: int


def words_in(
    recogniser: Recogniser[Acoustics], sound: Sound, cutting: Cutting, times: WordTimes, tell: Tell
) -> list[TimedWord]:
    """Recognise a recording.

    Args:
        recogniser: with its search.
        sound: at 16 kHz.
        cutting: of long recordings.
        times: where words begin.
        tell: is called with each window and its text as soon as it is recognised.

    Returns:
        Words in order, with times in seconds from the beginning of the recording.
    """
    windows = cut_into_windows(sound.samples, SAMPLING_RATE, cutting.window, cutting.overlap)
    heard: list[list[TimedWord]] = []
    remaining = iter(windows)
    while group := list(islice(remaining, cutting.batch_windows)):
        for window, words in zip(group, _recognise(recogniser, sound, group, times), strict=True):
            tell(window, " ".join(word.text for word in words))
            heard.append(words)
    joined = heard[0]
    for (left, right), words in zip(pairwise(windows), heard[1:], strict=True):
        joined = join_windows(joined, words, 0.5 * (left.end + right.start))
    return within(joined, sound.seconds, recogniser.geometry)


def within(words: Sequence[TimedWord], seconds: float, geometry: Geometry) -> list[TimedWord]:
    """Let no word end after the sound: what is behind it helps to recognise the last one."""
    last = max(0.0, seconds - geometry.seconds_per_frame)
    return [TimedWord(w.text, min(w.start, last), min(w.end, seconds)) for w in words]


@torch.inference_mode()
def _recognise(
    recogniser: Recogniser[Acoustics], sound: Sound, windows: Sequence[Window], times: WordTimes
) -> Iterator[list[TimedWord]]:
    """Yield the words of each window."""
    frames, lens = encoded_windows(recogniser, sound, windows)
    utterances = recogniser.search(frames, lens)
    ctc = None if times == "transducer" else recogniser.ctc_log_probs
    log_probs = None if ctc is None else ctc(frames).cpu()
    for n, (window, utterance) in enumerate(zip(windows, utterances, strict=True)):
        spoken = None if log_probs is None else log_probs[n, : int(lens[n])]
        yield timed_words(
            recogniser.tokenizer, recogniser.geometry, utterance, spoken, window.start
        )


def encoded_windows(
    recogniser: Recogniser[Acoustics], sound: Sound, windows: Sequence[Window]
) -> tuple[Tensor, Tensor]:
    """Return the encoder frames (N, T', C) of windows of a recording, and their lengths (N,)."""
    parts = [_part(sound.samples, window) for window in windows]
    return recogniser.acoustics.encode(*_features(parts, recogniser.geometry))


def timed_words(
    tokenizer: Tokenizer,
    geometry: Geometry,
    utterance: Utterance,
    log_probs: Tensor | None = None,
    start: float = 0.0,
) -> list[TimedWord]:
    """Return the words of an utterance and when they were said.

    Args:
        tokenizer: of its tokens.
        geometry: of the encoder.
        utterance: what was recognised.
        log_probs: (T', V) of the CTC head, to align with; by default words begin when the search
            emitted them.
        start: second at which the utterance begins.
    """
    pieces, times = tokenizer.pieces(), _times(utterance, log_probs, geometry)
    timed = [
        TimedPiece(pieces[token], start + begin, start + end)
        for token, (begin, end) in zip(utterance.tokens, times, strict=True)
        if tokenizer.is_text(token)
    ]
    return words_of_pieces(timed)


def _times(
    utterance: Utterance, log_probs: Tensor | None, geometry: Geometry
) -> list[tuple[float, float]]:
    """Return when each token begins and ends, in seconds of the utterance."""
    seconds = geometry.seconds_per_frame
    spans = None if log_probs is None else ctc_spans(log_probs, utterance.tokens)
    if spans is None:
        return [(seconds * f, seconds * (f + 1)) for f in utterance.frames]
    return [(seconds * span.start, seconds * span.end) for span in spans]


def _part(samples: Samples, window: Window) -> Samples:
    start, end = round(window.start * SAMPLING_RATE), round(window.end * SAMPLING_RATE)
    return samples[start:end]


def _features(parts: Sequence[Samples], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return (N, T, mel bins) and the lengths; padding is silence."""
    extractor = fbank_extractor(geometry.mel_bins)
    # A window too short for a single frame is silence.
    long_enough = [
        torch.from_numpy(extractor.extract(part, SAMPLING_RATE))
        if len(part) >= WINDOW
        else torch.full((geometry.min_frames, geometry.mel_bins), LOG_ZERO)
        for part in parts
    ]
    return padded_batch(long_enough)
