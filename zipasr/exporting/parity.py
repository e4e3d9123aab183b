"""Comparison of an exported model with the original: frames and tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.base.errors import NumericError
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME, ChunkSize, Geometry
from zipasr.recognition.acoustic_model import LOG_ZERO
from zipasr.recognition.exported_model import Encode
from zipasr.search.protocol import Utterance

#: Largest difference between the outputs of the encoders, in float32.
TOLERANCE = 1e-3

#: What the columns of ``table`` say.
LEGEND = """
MB: all files of the model. RTF: seconds of greedy search for a second of speech on this machine,
one utterance at a time, features not counted; ONNX files on one thread."""

#: Lengths of utterances beside the shortest, where there is no speech to take: odd and even.
LENGTHS = (64, 97, 150, 333)

Search: TypeAlias = Callable[[Tensor, Tensor], list[Utterance]]
Start: TypeAlias = Callable[[int], list[Tensor]]
Step: TypeAlias = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


class ParityMode(NamedTuple):
    """One way to run a model: features to frames, frames to tokens."""

    encode: Encode
    search: Search


class Check(NamedTuple):
    """How one exported model compares.

    Attributes:
        name: of the file.
        utterances: how many were tried, each alone and all side by side.
        lengths: their feature frames.
        difference: largest absolute difference of the encoder output.
        same_tokens: utterances for which greedy search found the same.
        must_agree: whether a difference is a fault.
        rtf: seconds for a second of speech, one utterance at a time; 0: not of speech.
        megabytes: of all files of the model.
    """

    name: str
    utterances: int
    lengths: tuple[int, ...]
    difference: float
    same_tokens: int
    must_agree: bool
    rtf: float = 0.0
    megabytes: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the files can be used."""
        if not self.must_agree:
            return self.difference < float("inf")
        return self.difference <= TOLERANCE and self.same_tokens == self.utterances

    def of_files(self, *paths: Path) -> Check:
        """Return the same with the size of the files."""
        return self._replace(megabytes=sum(path.stat().st_size for path in paths) / 1e6)


def made_up_utterances(geometry: Geometry) -> list[Tensor]:
    """Return noise of the loudness of speech, (T, mel bins) each, for want of speech."""
    generator = torch.Generator().manual_seed(0)
    lengths = (geometry.min_frames, *LENGTHS)
    return [torch.randn(n, geometry.mel_bins, generator=generator) * 3 - 9 for n in lengths]


@torch.no_grad()
def compare(
    name: str,
    way: ParityMode,
    reference: ParityMode,
    utterances: Sequence[Tensor],
    must_agree: bool,
) -> Check:
    """Run both ways on all utterances in one batch, and on each alone, which is timed."""
    difference, same, seconds = 0.0, [True] * len(utterances), 0.0
    alone = [([i], u.unsqueeze(0)) for i, u in enumerate(utterances)]
    batch = torch.nn.utils.rnn.pad_sequence(list(utterances), True, LOG_ZERO)
    for rows, features in [(list(range(len(utterances))), batch), *alone]:
        lens = torch.tensor([len(utterances[row]) for row in rows])
        begun = time.perf_counter()
        frames, num = way.encode(features, lens)
        found = way.search(frames, num.long())
        # The batch came first: nothing is loaded or allocated for the first time.
        seconds += time.perf_counter() - begun if len(rows) == 1 else 0.0
        expected, wanted = reference.encode(features, lens)
        if not torch.equal(num.long(), wanted.long()):
            difference = float("inf")
            continue
        for i, length in enumerate(wanted.tolist()):
            gap = (frames[i, :length] - expected[i, :length]).abs().nan_to_num(torch.inf).max()
            difference = max(difference, float(gap))
        right = reference.search(expected, wanted.long())
        for row, ours, theirs in zip(rows, found, right, strict=True):
            same[row] &= list(ours.tokens) == list(theirs.tokens)
    lengths = tuple(len(u) for u in utterances)
    rtf = seconds / (sum(lengths) * SECONDS_PER_FEATURE_FRAME)
    return Check(name, len(utterances), lengths, difference, sum(same), must_agree, rtf)


def chunkwise(start: Start, size: ChunkSize, step: Step) -> Encode:
    """Return the encoder that goes through utterances chunk by chunk, to the end of the longest.

    Args:
        start: makes the states of N streams before the first chunk.
        size: of the chunks.
        step: features of a chunk (N, T, 80) and states to frames and states.
    """
    length, shift = size.frames, size.step

    def encode(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        num = -(-features.size(1) // shift)
        padded = F.pad(
            features, (0, 0, 0, (num - 1) * shift + length - features.size(1)), value=LOG_ZERO
        )
        states, outputs = start(len(lens)), []
        for begin in range(0, num * shift, shift):
            frames, states = step(padded[:, begin : begin + length].contiguous(), states)
            outputs.append(frames)
        whole = torch.cat(outputs, dim=1)
        return whole, torch.full((len(lens),), whole.size(1))

    return encode


def one_by_one(encode: Encode) -> Encode:
    """Return an encoder of batches that gives each utterance alone to one that takes no batch."""

    def encode_each(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        each = [encode(features[i : i + 1], lens[i : i + 1]) for i in range(len(lens))]
        return torch.cat([frames for frames, _ in each]), torch.cat([nums for _, nums in each])

    return encode_each


def table(checks: Sequence[Check]) -> str:
    """Return the comparisons as lines of a table."""
    width = max([len("file"), *(len(c.name) for c in checks)])
    head = f"{'file':<{width}}  utterances  max difference  same tokens      MB      RTF"
    lines = [
        f"{c.name:<{width}}  {c.utterances:>10}  {c.difference:>14.2e}  {c.same_tokens:>11}"
        f"  {c.megabytes:>6.1f}  {f'{c.rtf:.4f}' if c.rtf else '':>7}".rstrip()
        for c in checks
    ]
    return "\n".join([head, *lines, LEGEND]) + "\n"


def refuse_differences(checks: Sequence[Check]) -> None:
    """Stop where an exported model is another one.

    Raises:
        NumericError: a check failed.
    """
    if bad := [check for check in checks if not check.ok]:
        raise NumericError(
            f"{bad[0].name} differs from the model: by {bad[0].difference:.2e} in the encoder "
            f"output (at most {TOLERANCE} is allowed), and {bad[0].same_tokens} of "
            f"{bad[0].utterances} utterances gave the same tokens. Nothing was written.",
            "this is a fault of the export, please report it with the table above.",
        )
