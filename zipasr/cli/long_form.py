"""From a recording of any length to words with times: windows, recognition, joining."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zipasr.audio.loading import Samples, Sound
from zipasr.audio.mono import SAMPLING_RATE
from zipasr.audio.windows import Window, cut_into_windows
from zipasr.cli.recogniser import (
    CAUSAL_TAIL,
    LOG_ZERO,
    SECONDS_PER_FRAME,
    Recogniser,
    with_silence,
)
from zipasr.data.fbank import fbank_extractor
from zipasr.encoder.lengths import MIN_FRAMES
from zipasr.search.alignment import ctc_spans
from zipasr.search.types import Utterance
from zipasr.text.words import TimedPiece, Word, join_windows, words_of

WordTimes = Literal["auto", "ctc", "transducer"]
Tell = Callable[[Window, str], None]


class Cutting(NamedTuple):
    """How recordings are cut: seconds, seconds, windows side by side."""

    window: float
    overlap: float
    batch_windows: int


def words_in(
    recogniser: Recogniser, sound: Sound, cutting: Cutting, times: WordTimes, tell: Tell
) -> list[Word]:
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
    heard: list[list[Word]] = []
    remaining = iter(windows)
    while group := list(islice(remaining, cutting.batch_windows)):
        for window, words in zip(group, _recognise(recogniser, sound, group, times), strict=True):
            tell(window, " ".join(word.text for word in words))
            heard.append(words)
    joined = heard[0]
    for (left, right), words in zip(pairwise(windows), heard[1:], strict=True):
        joined = join_windows(joined, words, 0.5 * (left.end + right.start))
    return joined


@torch.inference_mode()
def _recognise(
    recogniser: Recogniser, sound: Sound, windows: Sequence[Window], times: WordTimes
) -> Iterator[list[Word]]:
    """Yield the words of each window."""
    model = recogniser.model
    device = next(model.parameters()).device
    features, lens = _features([_part(sound.samples, window) for window in windows])
    tail = CAUSAL_TAIL if recogniser.zipformer.causal else 0
    features, lens = with_silence(features, lens, tail)
    with torch.autocast(device.type, torch.bfloat16, enabled=recogniser.use_bf16):
        encoded = model.encode(features.to(device), lens.to(device))
    frames = encoded.frames.float()
    utterances = recogniser.search(frames, encoded.lens)
    use_ctc = times != "transducer" and model.ctc_output is not None
    log_probs = model.ctc_log_probs(frames).cpu() if use_ctc else None
    pieces = recogniser.tokenizer.pieces()
    for n, (window, utterance) in enumerate(zip(windows, utterances, strict=True)):
        spoken = None if log_probs is None else log_probs[n, : int(encoded.lens[n])]
        timed = [
            TimedPiece(pieces[token], window.start + start, window.start + end)
            for token, (start, end) in zip(utterance.tokens, _times(utterance, spoken), strict=True)
            if recogniser.tokenizer.is_text(token)
        ]
        yield words_of(timed)


def _times(utterance: Utterance, log_probs: Tensor | None) -> list[tuple[float, float]]:
    """Return when each token begins and ends, in seconds of the window."""
    spans = None if log_probs is None else ctc_spans(log_probs, utterance.tokens)
    if spans is None:
        return [(SECONDS_PER_FRAME * f, SECONDS_PER_FRAME * (f + 1)) for f in utterance.frames]
    return [(SECONDS_PER_FRAME * span.start, SECONDS_PER_FRAME * span.end) for span in spans]


def _part(samples: Samples, window: Window) -> Samples:
    start, end = round(window.start * SAMPLING_RATE), round(window.end * SAMPLING_RATE)
    return samples[start:end]


def _features(parts: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Return (N, T, 80) and the lengths; padding is silence."""
    extractor = fbank_extractor()
    # A window too short for a single frame is silence.
    long_enough = [
        torch.from_numpy(extractor.extract(part, SAMPLING_RATE))
        if len(part) >= 400
        else torch.full((MIN_FRAMES, extractor.feature_dim(SAMPLING_RATE)), LOG_ZERO)
        for part in parts
    ]
    lens = torch.tensor([len(features) for features in long_enough])
    padded = torch.nn.utils.rnn.pad_sequence(long_enough, batch_first=True, padding_value=LOG_ZERO)
    return padded, lens
